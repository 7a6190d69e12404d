// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @notice A token that, like WETH, lets any call it does not know succeed, and so seems to know EIP-3009.
contract FallbackToken is ERC20("Wrapped Ether", "WETH") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    // solhint-disable-next-line no-empty-blocks
    fallback() external {}
}
