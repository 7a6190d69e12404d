// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/**
 * @title What the escrow asks of a token to take a deposit by signature
 * @notice EIP-3009's `receiveWithAuthorization` with the signature in one piece, as USDC 2.2 and later have it. Tokens
 * that only take `(v, r, s)` are not supported (draft-evm-session-00, section "openWithAuthorization").
 */
interface IERC3009Token {
    /**
     * @notice Moves `value` base units from `from` to the caller, which must be `to`.
     * @param validAfter The authorization is good after this Unix second.
     * @param validBefore The authorization is good before this Unix second.
     * @param nonce Any value `from` has not yet used.
     * @param signature `from`'s EIP-712 signature of `ReceiveWithAuthorization` in the token's domain.
     */
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;
}
