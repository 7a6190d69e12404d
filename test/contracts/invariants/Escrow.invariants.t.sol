// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {EscrowHandler} from "./EscrowHandler.sol";
import {EscrowRules} from "./EscrowRules.sol";

/**
 * Every rule of {EscrowRules} after every step of every run, and at the end of a run everyone leaves. One campaign for all
 * rules: the runner would make a campaign of its own for each `invariant_` function, and look at one rule in each.
 */
contract EscrowInvariants is EscrowRules {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    function setUp() public {
        watch(new EscrowHandler());
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(handler), handler.actions());
    }

    function invariant_EveryRuleHoldsAfterEveryStep() external view {
        // A call that was refused has changed nothing: the machine sees to that, and there is nothing new to look at.
        if (handler.somethingHappened()) check();
    }

    /// @dev I11 on chain: whatever happened, every payer can leave without anybody's help, and is paid in full.
    function afterInvariant() external {
        handler.everyoneLeaves();
        View[] memory channels = check();
        for (uint256 i = 0; i < channels.length; i++) {
            vm.assertTrue(channels[i].current.finalized, "I11: every payer gets out");
        }
        for (uint256 i = 0; i < tokens.length; i++) {
            uint256 left = IERC20(tokens[i]).balanceOf(address(escrow));
            vm.assertEq(left, handler.donated(tokens[i]), "I12: when all have left, only gifts are left");
        }
    }

    // ---------------------------------------------------------------- is anything tested?

    /// @dev Counts, over a few thousand steps that are the same each time, what was taken and what was refused.
    function test_TheHandlerReachesEveryPath() external {
        vm.pauseGasMetering();
        bytes4[] memory selectors = handler.actions();
        for (uint256 i = 0; i < 4000; i++) {
            uint256 seed = uint256(keccak256(abi.encode(i)));
            if (i % 100 == 0) watch(new EscrowHandler());
            (bool ok, bytes memory why) = address(handler).call(
                abi.encodeWithSelector(selectors[seed % selectors.length], seed)
            );
            vm.assertTrue(ok, string(why));
            if (i % 100 == 99) countUp();
        }
        string[16] memory kinds = whats();
        for (uint256 i = 0; i < kinds.length; i++) {
            vm.assertTrue(_taken[kinds[i]] > 0, string.concat("never taken: ", kinds[i]));
            vm.assertTrue(_refused[kinds[i]] > 0, string.concat("never refused: ", kinds[i]));
        }
    }

    mapping(string what => uint256) private _taken;
    mapping(string what => uint256) private _refused;

    function countUp() private {
        string[16] memory kinds = whats();
        for (uint256 i = 0; i < kinds.length; i++) {
            _taken[kinds[i]] += handler.taken(kinds[i]);
            _refused[kinds[i]] += handler.refused(kinds[i]);
        }
    }

    function whats() private pure returns (string[16] memory) {
        return
            [
                "open",
                "openWithAuthorization",
                "openWithPermit2",
                "topUp",
                "topUpWithAuthorization",
                "topUpWithAuthorization, by a third party",
                "topUpWithPermit2",
                "topUpWithPermit2, by a third party",
                "settle",
                "close",
                "settleWithAuthorization",
                "closeWithAuthorization",
                "requestClose",
                "withdraw",
                "settleMany",
                "closeMany"
            ];
    }
}
