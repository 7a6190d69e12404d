// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";

import {TestUSDC} from "./TestUSDC.sol";

/// @notice A token that, in the middle of a transfer, makes a call it was armed with.
contract ReentrantToken is TestUSDC {
    address private _target;
    bytes private _call;

    function arm(address target, bytes calldata call) external {
        _target = target;
        _call = call;
    }

    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (_target != address(0)) Address.functionCall(_target, _call);
    }
}
