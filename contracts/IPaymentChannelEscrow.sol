// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchSettlement} from "./IBatchSettlement.sol";
import {IEscrowErrors} from "./IEscrowErrors.sol";
import {IEscrowEvents} from "./IEscrowEvents.sol";
import {IRelayedProfile} from "./IRelayedProfile.sol";

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
 * Errors: "the token's own error" is what it reverted with, or OpenZeppelin's `SafeERC20FailedOperation` if it did not
 * say yes. Every function that changes state reverts with `ReentrancyGuardReentrantCall` when called from within another.
 *
 * Views asked from within a token's transfer may show what the rest of the transaction takes back. Contracts should not
 * rely on them there.
 *
 * Channels: a record is never deleted and a finalized channel stays finalized, so a `channelId`, and with it every old
 * voucher, can never come to life again. A new channel between the same two parties takes a new `salt`.
 */
interface IPaymentChannelEscrow is IEscrowEvents, IEscrowErrors, IRelayedProfile, IBatchSettlement {
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
     * ERC-1271 `isValidSignature`; 65 bytes with a high s are refused even then,
     * so a contract whose signatures are not ECDSA should not use 65 bytes.
     */
    // solhint-disable-next-line func-name-mixedcase
    function DOMAIN_SEPARATOR() external view returns (bytes32);

    /**
     * @notice Which functions of the draft's optional profile exist and work here, by selector: all of
     * {IRelayedProfile}, less those that need Permit2 where there is no contract at {PERMIT2}.
     */
    function profileFunctions() external view returns (bytes4[] memory selectors);
}
