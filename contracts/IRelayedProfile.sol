// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/**
 * @title What anyone may submit, because those whose money moves have signed for it
 * @notice Draft section "Relayed / Gasless Operations Profile". The payer's funds move under its EIP-3009 or Permit2
 * signature, the payee's settlements under its EIP-712 signature. Whoever submits pays the gas and gains nothing.
 */
interface IRelayedProfile {
    /**
     * @notice Opens a channel with `from` as its payer, on the strength of its EIP-3009 authorization. Anyone may
     * submit it. Draft sections "openWithAuthorization" and "Front-Running Protection".
     *
     * The authorization itself says nothing of the channel, so its nonce does: it must be
     * `keccak256(abi.encode(from, payee, token, salt, authorizedSigner))`.
     * @param payee Who will be paid.
     * @param token An ERC-20 token with `receiveWithAuthorization(..., bytes signature)`, as USDC 2.2 has it.
     * @param deposit What to deposit, in base units; not zero. The authorization's `value`.
     * @param salt As in {IPaymentChannelEscrow-open}.
     * @param authorizedSigner As in {IPaymentChannelEscrow-open}.
     * @param from Who pays and signed the authorization.
     * @param validAfter The authorization is good after this Unix second.
     * @param validBefore The authorization is good before this Unix second.
     * @param nonce The derived nonce the payer signed.
     * @param signature The payer's signature of the token's `ReceiveWithAuthorization`, with this contract as `to`.
     * @return channelId The channel's id, see {IPaymentChannelEscrow-computeChannelId}.
     *
     * Reverts with {NonceMismatch}, {InvalidPayer}, the errors of {IPaymentChannelEscrow-open}, or the token's own error.
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
     * @notice Opens a channel with `from` as its payer, on the strength of its Permit2 signature. Anyone may submit it.
     * Draft section "openWithPermit2".
     *
     * What is signed is Permit2's `PermitWitnessTransferFrom`, with this contract as the spender and with the witness
     * `ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)`. `from` must have approved {PERMIT2}
     * for the token.
     * @param payee Who will be paid.
     * @param token The ERC-20 token to pay with; the permit's `permitted.token`.
     * @param deposit What to deposit, in base units; not zero. The permit's `permitted.amount`.
     * @param salt As in {IPaymentChannelEscrow-open}.
     * @param authorizedSigner As in {IPaymentChannelEscrow-open}.
     * @param from Who pays and signed the permit.
     * @param nonce Any Permit2 nonce that `from` has not used.
     * @param deadline The permit is good up to and including this Unix second.
     * @param signature The payer's signature.
     * @return channelId The channel's id, see {IPaymentChannelEscrow-computeChannelId}.
     *
     * A `from` with code, also EIP-7702 code, is asked by Permit2 through that code.
     *
     * Reverts with {InvalidPayer}, the errors of {IPaymentChannelEscrow-open}, Permit2's own (`InvalidSigner`,
     * `InvalidContractSignature`, `InvalidNonce`, `SignatureExpired`, ...), or the token's own.
     */
    function openWithPermit2(
        address payee,
        address token,
        uint128 deposit,
        bytes32 salt,
        address authorizedSigner,
        address from,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external returns (bytes32 channelId);

    /**
     * @notice Adds `from`'s funds to a channel, on the strength of its EIP-3009 authorization. Anyone may submit it, and
     * `from` need not be the payer; what is left when the channel closes goes to the payer. A pending close request is
     * cancelled only if `from` is the payer. Draft section "topUpWithAuthorization".
     *
     * The authorization's nonce must be `keccak256(abi.encode(channelId, additionalDeposit, from, topUpSalt))`.
     * @param channelId The channel.
     * @param additionalDeposit What to add, in base units; not zero. The authorization's `value`.
     * @param from Who pays and signed the authorization.
     * @param topUpSalt Any value; it makes this top-up different from an equal one.
     * @param validAfter The authorization is good after this Unix second.
     * @param validBefore The authorization is good before this Unix second.
     * @param nonce The derived nonce `from` signed.
     * @param signature `from`'s signature of the token's `ReceiveWithAuthorization`, with this contract as `to`.
     *
     * Reverts with {NonceMismatch}, the errors of {IPaymentChannelEscrow-topUp} but {NotPayer}, or the token's own.
     */
    function topUpWithAuthorization(
        bytes32 channelId,
        uint128 additionalDeposit,
        address from,
        bytes32 topUpSalt,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;

    /**
     * @notice Adds `from`'s funds to a channel, on the strength of its Permit2 signature. Who may submit it, who may
     * fund it and what it cancels are as in {topUpWithAuthorization}. Draft section "topUpWithPermit2".
     *
     * What is signed is Permit2's `PermitWitnessTransferFrom`, with this contract as the spender, the channel's token
     * and the witness `ChannelTopUpWitness(bytes32 channelId)`.
     * @param channelId The channel.
     * @param additionalDeposit What to add, in base units; not zero. The permit's `permitted.amount`.
     * @param from Who pays and signed the permit.
     * @param nonce Any Permit2 nonce that `from` has not used.
     * @param deadline The permit is good up to and including this Unix second.
     * @param signature `from`'s signature.
     *
     * Reverts with the errors of {IPaymentChannelEscrow-topUp} but {NotPayer}, Permit2's own, or the token's own.
     */
    function topUpWithPermit2(
        bytes32 channelId,
        uint128 additionalDeposit,
        address from,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external;

    /**
     * @notice {IPaymentChannelEscrow-settle}, sent by anyone to whom the payee has given a signature for it. Draft
     * section "Payee-initiated functions".
     *
     * What the payee signs is `SettleAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256
     * deadline)` in the vouchers' domain.
     * @param channelId The channel.
     * @param cumulativeAmount The voucher's amount, in base units.
     * @param nonce Any number this payee has not used for this channel. Counting from zero is cheapest: 256 of them in a
     * row share one storage slot.
     * @param deadline The authorization is good up to and including this Unix second.
     * @param payeeSignature The payee's signature.
     * @param voucherSignature The voucher's signature.
     *
     * Reverts with {AuthorizationExpired}, {NonceAlreadyUsed}, {InvalidSignature} naming the payee or the voucher's
     * signer, or the errors of {IPaymentChannelEscrow-settle} but {NotPayee}.
     */
    function settleWithAuthorization(
        bytes32 channelId,
        uint128 cumulativeAmount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata payeeSignature,
        bytes calldata voucherSignature
    ) external;

    /**
     * @notice {IPaymentChannelEscrow-close}, sent by anyone to whom the payee has given a signature for it. Draft
     * section "Payee-initiated functions".
     *
     * What the payee signs is `CloseAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256
     * deadline)` in the vouchers' domain. Its nonces are those of {settleWithAuthorization}.
     * @param channelId The channel.
     * @param cumulativeAmount The last voucher's amount, in base units.
     * @param nonce Any number this payee has not used for this channel.
     * @param deadline The authorization is good up to and including this Unix second.
     * @param payeeSignature The payee's signature.
     * @param voucherSignature The voucher's signature; may be empty if the amount is not above what was settled.
     *
     * Reverts with {AuthorizationExpired}, {NonceAlreadyUsed}, {InvalidSignature} naming the payee or the voucher's
     * signer, or the errors of {IPaymentChannelEscrow-close} but {NotPayee}.
     */
    function closeWithAuthorization(
        bytes32 channelId,
        uint128 cumulativeAmount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata payeeSignature,
        bytes calldata voucherSignature
    ) external;

    /**
     * @notice Whether a payee's nonce is used up for a channel: by {settleWithAuthorization}, or, like every other
     * nonce, by the end of the channel.
     */
    function isNonceUsed(bytes32 channelId, uint256 nonce) external view returns (bool);
}
