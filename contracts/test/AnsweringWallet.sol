// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice A contract account that answers whatever it is asked with the bytes it was made with.
contract AnsweringWallet {
    bytes private _answer;
    bool private immutable FAILS;

    /// @param fails Whether it reverts with the answer rather than return it.
    constructor(bytes memory answer, bool fails) {
        _answer = answer;
        FAILS = fails;
    }

    // solhint-disable-next-line no-complex-fallback
    fallback() external {
        bytes memory answer = _answer;
        bool fails = FAILS;
        assembly ("memory-safe") {
            if fails {
                revert(add(answer, 0x20), mload(answer))
            }
            return(add(answer, 0x20), mload(answer))
        }
    }
}
