// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/**
 * @title Escrow for unidirectional payment channels
 * @notice A payer deposits an ERC-20 token for one payee and then signs vouchers off chain, each for the total owed so
 * far. The payee redeems the newest voucher whenever it pays to, and closes the channel with the last one; the rest
 * goes back to the payer. A payer whose payee has gone silent gets the rest back alone, after a grace period.
 *
 * Implements draft-evm-session-00, section "Channel Escrow Contract".
 *
 * Units: every amount is in the token's base units. Every time is in Unix seconds.
 *
 * Tokens: only those that move exactly the amount asked for. A deposit of which more or less arrives is refused, so a
 * token that takes a fee on transfers cannot be used. A token that changes balances on its own (rebasing) passes that
 * check and must not be used: its channels share one balance, and the last to leave would find it short.
 *
 * Channels: a record is never deleted and a finalized channel stays finalized, so a `channelId`, and with it every old
 * voucher, can never come to life again. A new channel between the same two parties takes a new `salt`.
 */
interface IPaymentChannelEscrow {
    /**
     * @notice What the escrow knows of a channel (draft section "Channel State").
     * @param payer Who deposited, and gets the rest back.
     * @param payee Who may redeem vouchers and close.
     * @param token The ERC-20 token deposited.
     * @param authorizedSigner Who signs vouchers; zero means the payer does.
     * @param deposit Everything ever deposited, in base units. Not reduced by settling.
     * @param settled Everything ever paid to the payee, in base units; never above `deposit`, never decreasing.
     * @param closeRequestedAt When the payer asked to close, in Unix seconds; zero if it did not.
     * @param finalized Whether the channel is closed, which is for ever.
     */
    struct Channel {
        address payer;
        address payee;
        address token;
        address authorizedSigner;
        uint128 deposit;
        uint128 settled;
        uint64 closeRequestedAt;
        bool finalized;
    }

    // Every event has the same three indexed fields in the same places, so that one filter follows a channel, a payer
    // or a payee through all of them.

    /**
     * @notice A channel was opened and its deposit has arrived.
     * @param salt The value that makes this channel different from others between the same parties.
     * @param deposit The first deposit, in base units.
     */
    event ChannelOpened(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        address token,
        address authorizedSigner,
        bytes32 salt,
        uint128 deposit
    );

    /**
     * @notice Funds were added to a channel.
     * @param funder Whose tokens they were; not necessarily the payer's.
     * @param amount What was added, in base units.
     * @param deposit The channel's deposit afterwards, in base units.
     */
    event ToppedUp(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        address funder,
        uint128 amount,
        uint128 deposit
    );

    /**
     * @notice The payee redeemed a voucher; the channel stays open.
     * @param settled Everything paid to the payee so far, in base units: the voucher's cumulative amount.
     * @param delta What this settlement paid, in base units.
     */
    event Settled(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        uint128 settled,
        uint128 delta
    );

    /**
     * @notice The payer asked to close. The payee should redeem its newest voucher before `withdrawableAt`.
     * @param closeRequestedAt When the grace period began, in Unix seconds.
     * @param withdrawableAt The first second in which the payer may withdraw.
     */
    event CloseRequested(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        uint64 closeRequestedAt,
        uint256 withdrawableAt
    );

    /// @notice The payer's own top-up cancelled its pending close request.
    event CloseRequestCancelled(bytes32 indexed channelId, address indexed payer, address indexed payee);

    /**
     * @notice The payee closed the channel; it is finalized.
     * @param settled Everything ever paid to the payee, in base units.
     * @param delta What this close paid to the payee, in base units; may be zero.
     * @param refund What this close paid back to the payer, in base units; may be zero.
     */
    event ChannelClosed(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        uint128 settled,
        uint128 delta,
        uint128 refund
    );

    /**
     * @notice The payer took the rest back after the grace period; the channel is finalized.
     * @param settled Everything ever paid to the payee, in base units.
     * @param refund What was paid back to the payer, in base units; may be zero.
     */
    event Withdrawn(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        uint128 settled,
        uint128 refund
    );

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

    /// @notice The voucher is for more than the channel holds.
    error AmountExceedsDeposit(bytes32 channelId, uint128 cumulativeAmount, uint128 deposit);

    /// @notice The voucher was not signed by `signer`, was signed for other values, or its signature is malleable (high s).
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

    /// @notice The constructor was given a grace period below the draft's minimum; both in seconds.
    error GracePeriodTooShort(uint64 closeGracePeriod, uint64 minimum);

    /**
     * @notice Opens a channel with the caller as its payer. Needs an allowance of `deposit` for this contract.
     * Draft section "open".
     * @param payee Who will be paid.
     * @param token The ERC-20 token to pay with.
     * @param deposit What to deposit, in base units; not zero.
     * @param salt Any value this payer has not yet used with these parties; random ones cannot be guessed.
     * @param authorizedSigner Who will sign the vouchers; zero means the payer does. It is hashed into the id as given,
     * so naming the payer itself makes another channel than naming nobody.
     * @return channelId The channel's id, see {computeChannelId}.
     *
     * Reverts with {InvalidPayee}, {InvalidToken}, {ZeroDeposit}, {ChannelAlreadyExists}, {DepositNotExact}, or the
     * token's own error.
     */
    function open(
        address payee,
        address token,
        uint128 deposit,
        bytes32 salt,
        address authorizedSigner
    ) external returns (bytes32 channelId);

    /**
     * @notice Opens a channel with `from` as its payer, on the strength of its EIP-3009 authorization. Anyone may
     * submit it. Draft sections "openWithAuthorization" and "Front-Running Protection".
     *
     * The authorization itself says nothing of the channel, so its nonce does: it must be
     * `keccak256(abi.encode(from, payee, token, salt, authorizedSigner))`.
     * @param payee Who will be paid.
     * @param token An ERC-20 token with `receiveWithAuthorization(..., bytes signature)`, as USDC 2.2 has it.
     * @param deposit What to deposit, in base units; not zero. The authorization's `value`.
     * @param salt As in {open}.
     * @param authorizedSigner As in {open}.
     * @param from Who pays and signed the authorization.
     * @param validAfter The authorization is good after this Unix second.
     * @param validBefore The authorization is good before this Unix second.
     * @param nonce The derived nonce the payer signed.
     * @param signature The payer's signature of the token's `ReceiveWithAuthorization`, with this contract as `to`.
     * @return channelId The channel's id, see {computeChannelId}.
     *
     * Reverts with {NonceMismatch}, {InvalidPayer}, the errors of {open}, or the token's own error.
     */
    function openWithAuthorization(
        address payee,
        address token,
        uint128 deposit,
        bytes32 salt,
        address authorizedSigner,
        address from,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external returns (bytes32 channelId);

    /**
     * @notice Adds the payer's funds to its channel and cancels its pending close request, if there is one. Needs an
     * allowance of `additionalDeposit` for this contract. Draft section "topUp".
     * @param channelId The channel.
     * @param additionalDeposit What to add, in base units; not zero.
     *
     * Reverts with {ChannelNotFound}, {ChannelFinalized}, {NotPayer}, {ZeroDeposit}, {DepositOverflow},
     * {DepositNotExact}, or the token's own error.
     */
    function topUp(bytes32 channelId, uint128 additionalDeposit) external;

    /**
     * @notice Pays the payee what a voucher grants beyond what was settled before. Only the payee may call. Allowed
     * until the channel is finalized, so also while a close is pending. Draft section "settle".
     * @param channelId The channel.
     * @param cumulativeAmount The voucher's amount: the total since the channel was opened, in base units.
     * @param signature The voucher's signature, see {DOMAIN_SEPARATOR}.
     *
     * Reverts with {ChannelNotFound}, {ChannelFinalized}, {NotPayee}, {AmountNotIncreasing}, {AmountExceedsDeposit},
     * {InvalidSignature}, or the token's own error.
     */
    function settle(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external;

    /**
     * @notice Closes a channel: pays the payee what its last voucher grants and the rest to the payer, in one
     * transaction. Only the payee may call. Draft section "close".
     *
     * With an amount not above what was settled before, the payee waives whatever else it may hold: no signature is
     * looked at, nothing is paid to the payee, and everything that is left goes to the payer.
     * @param channelId The channel.
     * @param cumulativeAmount The last voucher's amount, in base units.
     * @param signature The voucher's signature; may be empty if the amount is not above what was settled.
     *
     * Reverts with {ChannelNotFound}, {ChannelFinalized}, {NotPayee}, {AmountExceedsDeposit}, {InvalidSignature}, or
     * the token's own error. If the token refuses to pay the payer, {settle} still works.
     */
    function close(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external;

    /**
     * @notice Starts the grace period after which the payer may {withdraw}. Only the payer may call. Calling again does
     * nothing: the clock is not restarted. Draft section "requestClose".
     * @param channelId The channel.
     *
     * Reverts with {ChannelNotFound}, {ChannelFinalized} or {NotPayer}.
     */
    function requestClose(bytes32 channelId) external;

    /**
     * @notice Pays everything that was not settled back to the payer and finalizes the channel. Only the payer may
     * call, from the second in which the grace period has passed in full. Draft section "withdraw".
     * @param channelId The channel.
     *
     * Reverts with {ChannelNotFound}, {ChannelFinalized}, {NotPayer}, {CloseNotReady}, or the token's own error.
     */
    function withdraw(bytes32 channelId) external;

    /**
     * @notice Everything known of a channel.
     * @param channelId The channel.
     * @return channel The channel. All zero if there is none: test `payer`, which is never zero in a real one.
     */
    function getChannel(bytes32 channelId) external view returns (Channel memory channel);

    /**
     * @notice The id of the channel with these parameters, in this escrow and on this chain, whether it exists or not:
     * `keccak256(abi.encode(payer, payee, token, salt, authorizedSigner, address(this), block.chainid))`.
     * Draft section "Channel State".
     */
    function computeChannelId(
        address payer,
        address payee,
        address token,
        bytes32 salt,
        address authorizedSigner
    ) external view returns (bytes32 channelId);

    /// @notice How long a payee has to react to {CloseRequested}, in seconds. Fixed, and never below ten minutes.
    // solhint-disable-next-line func-name-mixedcase
    function CLOSE_GRACE_PERIOD() external view returns (uint64);

    /// @notice The Permit2 contract this escrow takes deposits through. Fixed.
    // solhint-disable-next-line func-name-mixedcase
    function PERMIT2() external view returns (address);

    /**
     * @notice The EIP-712 domain separator under which vouchers are signed: name "EVM Payment Channel", version "1",
     * this chain, this contract. Draft section "Voucher Signing Format".
     *
     * A voucher is `Voucher(bytes32 channelId,uint128 cumulativeAmount)`. Its signature is 65 bytes, `r || s || v`,
     * with a low s and v 27 or 28. Where the signer has code, what is not its own ECDSA signature is put to its
     * ERC-1271 `isValidSignature`; 65 bytes with a high s are refused even then.
     */
    // solhint-disable-next-line func-name-mixedcase
    function DOMAIN_SEPARATOR() external view returns (bytes32);
}
