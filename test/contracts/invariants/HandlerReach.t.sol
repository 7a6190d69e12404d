// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {EscrowHandler} from "./EscrowHandler.sol";
import {EscrowRules} from "./EscrowRules.sol";

/// Whether the campaign tests anything: invariants hold easily where nothing happens.
contract HandlerReachTest is EscrowRules {
    uint256 private constant RUNS = 40;
    uint256 private constant DEPTH = 100;

    mapping(string what => uint256) private _taken;
    mapping(string what => uint256) private _refused;

    /// @dev Counts, over steps that are the same each time, what was taken and what was refused.
    function test_TheHandlerReachesEveryPath() external {
        vm.pauseGasMetering();
        string[] memory all = vm.split(string.concat(BOTH_WAYS, "|", TAKEN, "|", REFUSED), "|");
        for (uint256 i = 0; i < RUNS; i++) {
            run(i);
            for (uint256 k = 0; k < all.length; k++) {
                _taken[all[k]] += handler.taken(all[k]);
                _refused[all[k]] += handler.refused(all[k]);
            }
        }
        requireTaken(BOTH_WAYS);
        requireRefused(BOTH_WAYS);
        requireTaken(TAKEN);
        requireRefused(REFUSED);
    }

    string private constant BOTH_WAYS =
        "open|openWithAuthorization|openWithPermit2|topUp|topUpWithAuthorization|topUpWithPermit2"
        "|topUpWithAuthorization, by a third party|topUpWithPermit2, by a third party|settle|close|settleMany|closeMany"
        "|settleWithAuthorization|closeWithAuthorization|requestClose|withdraw";
    string private constant TAKEN = "a refund refused within a batch";
    string private constant REFUSED =
        "a row of a batch|replayed open|replayed openWithAuthorization|replayed openWithPermit2|replayed settle"
        "|replayed topUpWithAuthorization|replayed topUpWithPermit2|replayed settleWithAuthorization"
        "|replayed closeWithAuthorization|replayed withdraw";

    function run(uint256 number) private {
        watch(new EscrowHandler());
        bytes4[] memory selectors = handler.actions();
        for (uint256 i = 0; i < DEPTH; i++) {
            uint256 seed = uint256(keccak256(abi.encode(number, i)));
            bytes memory action = abi.encodeWithSelector(selectors[seed % selectors.length], seed);
            (bool ok, bytes memory why) = address(handler).call(action);
            vm.assertTrue(ok, string(why));
        }
    }

    function requireTaken(string memory names) private view {
        string[] memory list = vm.split(names, "|");
        for (uint256 i = 0; i < list.length; i++) {
            vm.assertTrue(_taken[list[i]] != 0, string.concat("never taken: ", list[i]));
        }
    }

    function requireRefused(string memory names) private view {
        string[] memory list = vm.split(names, "|");
        for (uint256 i = 0; i < list.length; i++) {
            vm.assertTrue(_refused[list[i]] != 0, string.concat("never refused: ", list[i]));
        }
    }
}
