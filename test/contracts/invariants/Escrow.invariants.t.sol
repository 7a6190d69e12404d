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
}
