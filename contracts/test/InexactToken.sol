// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {TestUSDC} from "./TestUSDC.sol";

/// @notice A token whose transfers deliver something else than what was asked: less (a fee) or more (a bonus).
contract InexactToken is TestUSDC {
    /// @dev What the receiver gets on top of each transfer, in base units; negative for a fee.
    int256 private immutable SKEW;

    constructor(int256 skew) {
        SKEW = skew;
    }

    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (from == address(0) || to == address(0)) return;
        if (SKEW < 0) _burn(to, uint256(-SKEW));
        else _mint(to, uint256(SKEW));
    }
}
