// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/**
 * @title What the escrow tells those who watch it
 * @notice The first indexed field is always the channel, so that one filter follows a channel through its life. Where
 * the payee acts or is paid, payer and payee are indexed too; what the payer does alone names the payer. A payee learns
 * its channels from {ChannelOpened}, and finds them among all {CloseRequested} and {ToppedUp}: to name it there too would
 * cost the payer about 2,500 gas.
 */
interface IEscrowEvents {
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
    event ToppedUp(bytes32 indexed channelId, address funder, uint128 amount, uint128 deposit);

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
        uint64 closeRequestedAt,
        uint256 withdrawableAt
    );

    /// @notice The payer's own top-up cancelled its pending close request.
    event CloseRequestCancelled(bytes32 indexed channelId, address indexed payer);

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
    event Withdrawn(bytes32 indexed channelId, address indexed payer, uint128 settled, uint128 refund);

    /**
     * @notice A row of a batch was left out, or redeemed and not closed; the rows around it were not touched by that.
     * @param payer The channel's payer; zero if there is no such channel.
     * @param payee Who sent the batch; not the channel's payee where that is what is wrong.
     * @param reason An error of {IEscrowErrors}, its selector and values: the one that {IPaymentChannelEscrow-settle} or
     * {IPaymentChannelEscrow-close} would have reverted with for this row alone, or {IEscrowErrors-RefundRefused}. A
     * signer with code is not asked in a batch, so {IEscrowErrors-InvalidSignature} does not mean that it would refuse.
     */
    event SettlementSkipped(bytes32 indexed channelId, address indexed payer, address indexed payee, bytes reason);
}
