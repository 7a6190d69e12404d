// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {TestUSDC} from "./TestUSDC.sol";

/// @notice A token that neither takes from nor gives to the accounts on its list, as USDC does.
contract BlocklistToken is TestUSDC {
    error Blocked(address account);

    mapping(address account => bool) private _blocked;

    function setBlocked(address account, bool blocked) external {
        _blocked[account] = blocked;
    }

    function _update(address from, address to, uint256 value) internal override {
        require(!_blocked[from], Blocked(from));
        require(!_blocked[to], Blocked(to));
        super._update(from, to, value);
    }
}
