// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/**
 * @title Settling and closing many channels in one transaction
 * @notice For payees with many small channels. Each token is paid out once, in one sum, whatever the number of channels.
 * Not part of the draft.
 *
 * A row that is well formed but cannot be redeemed is skipped with {IEscrowEvents-SettlementSkipped} and does not disturb the others. A row
 * is worked on when its turn comes, so a channel may have several. Only ECDSA signatures are taken: a signer with code
 * of its own could spend the gas of everyone behind it.
 *
 * What does fail the whole batch is a token that refuses to pay the payee: leave that token's channels out.
 */
interface IBatchSettlement {
    /**
     * @notice A voucher as it is packed in a batch, in 128 bytes. This packing of a signature exists in this calldata
     * only: nowhere else is it made or taken.
     * @param cumulativeAmount The voucher's amount, in base units.
     * @param r The signature's r.
     * @param vs The signature's s, with v - 27 in its highest bit (ERC-2098).
     */
    struct SignedVoucher {
        bytes32 channelId;
        uint128 cumulativeAmount;
        bytes32 r;
        bytes32 vs;
    }

    /**
     * @notice Redeems vouchers as {IPaymentChannelEscrow-settle} does, and pays the caller, who must be the payee, once
     * for each token.
     * @param vouchers The vouchers. Rows of one token next to each other are a little cheaper.
     */
    function settleMany(SignedVoucher[] calldata vouchers) external;

    /**
     * @notice Closes channels as {IPaymentChannelEscrow-close} does: pays the caller, who must be the payee, once for
     * each token, and refunds each payer.
     *
     * A refund may take up to 300,000 gas, and a token that calls its receivers lets each payer decide how much, also
     * after the batch was estimated: send that much more for each row in such a token. A channel whose token refuses the
     * refund, or takes more gas for it, stays open; its voucher is redeemed all the same, and {IEscrowEvents-SettlementSkipped} carries
     * {IEscrowErrors-RefundRefused}.
     * @param vouchers The last vouchers; where the amount is not above what was settled, r and vs are not looked at.
     */
    function closeMany(SignedVoucher[] calldata vouchers) external;
}
