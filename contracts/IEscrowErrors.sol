// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/**
 * @title Why the escrow refuses
 * @notice Amounts are in the token's base units, times in Unix seconds.
 */
interface IEscrowErrors {
    // Errors of the draft, section "Contract Errors".

    /// @notice There is, or once was, a channel with these parameters. Choose another salt.
    error ChannelAlreadyExists(bytes32 channelId);

    /// @notice No channel was ever opened under this id.
    error ChannelNotFound(bytes32 channelId);

    /// @notice The channel is closed, for ever.
    error ChannelFinalized(bytes32 channelId);

    /// @notice Only the channel's payee may do this.
    error NotPayee(bytes32 channelId, address caller);

    /// @notice Only the channel's payer may do this.
    error NotPayer(bytes32 channelId, address caller);

    /// @notice The voucher is for no more than what was already settled.
    error AmountNotIncreasing(bytes32 channelId, uint128 cumulativeAmount, uint128 settled);

    /// @notice The voucher is for more than was ever deposited in the channel.
    error AmountExceedsDeposit(bytes32 channelId, uint128 cumulativeAmount, uint128 deposit);

    /**
     * @notice The voucher, or the payee's authorization, was not signed by `signer`, or was signed for other values or
     * with a high s. In a batch also: `signer` did not sign with a key.
     */
    error InvalidSignature(bytes32 channelId, address signer);

    /// @notice The EIP-3009 nonce is not the one derived from the channel's parameters.
    error NonceMismatch(bytes32 expected, bytes32 supplied);

    /// @notice The payee's authorization was already used.
    error NonceAlreadyUsed(bytes32 channelId, uint256 nonce);

    /// @notice The payee's authorization was valid until `deadline`, in Unix seconds.
    error AuthorizationExpired(uint256 deadline);

    /// @notice The payer may not withdraw before `readyAt`, in Unix seconds; zero means no close was requested.
    error CloseNotReady(bytes32 channelId, uint256 readyAt);

    /// @notice A deposit must not be zero.
    error ZeroDeposit();

    /// @notice The channel's deposit would not fit in 128 bits.
    error DepositOverflow(uint128 deposit, uint128 additionalDeposit);

    // Errors the draft has no name for.

    /// @notice The zero address cannot pay.
    error InvalidPayer(address payer);

    /// @notice The zero address cannot be paid.
    error InvalidPayee(address payee);

    /// @notice There is no contract at the token's address.
    error InvalidToken(address token);

    /// @notice The token moved another amount than the one asked for; balances are the escrow's, in base units.
    error DepositNotExact(address token, uint256 expectedBalance, uint256 actualBalance);

    /// @notice The token refused the refund, or took too much gas for it; the channel stays open. Only within a batch.
    error RefundRefused(bytes32 channelId, address payer);

    /// @notice The constructor was given a grace period below the draft's minimum; both in seconds.
    error GracePeriodTooShort(uint64 closeGracePeriod, uint64 minimum);
}
