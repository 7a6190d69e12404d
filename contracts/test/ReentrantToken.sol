// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";

import {TestUSDC} from "./TestUSDC.sol";

/// @notice A token that, in the middle of a transfer, makes a call it was armed with.
contract ReentrantToken is TestUSDC {
    address private _target;
    bytes private _call;
    bool private _quiet;

    error GotThrough();

    /// @notice Why the last call that was made quietly failed.
    bytes public answer;

    /// @notice If the call fails, the transfer does.
    function arm(address target, bytes calldata call) external {
        _target = target;
        _call = call;
        _quiet = false;
    }

    /// @notice If the call fails, {answer} says why and the transfer goes on; if it does not, the transfer fails.
    function armQuietly(address target, bytes calldata call) external {
        _target = target;
        _call = call;
        _quiet = true;
        delete answer;
    }

    function disarm() external {
        _target = address(0);
    }

    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (_target == address(0)) return;
        if (!_quiet) {
            Address.functionCall(_target, _call);
            return;
        }
        (bool success, bytes memory returned) = _target.call(_call);
        require(!success, GotThrough());
        answer = returned;
    }
}
