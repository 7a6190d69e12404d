// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {TestUSDC} from "./TestUSDC.sol";

/// @notice A token that changes balances on its own.
contract RebasingToken is TestUSDC {
    /// @notice Multiplies what `account` has by `numerator / denominator`.
    function rebase(address account, uint256 numerator, uint256 denominator) external {
        uint256 before = balanceOf(account);
        uint256 rebased = (before * numerator) / denominator;
        if (rebased > before) _mint(account, rebased - before);
        else _burn(account, before - rebased);
    }
}
