// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Settlement} from "./Settlement.sol";
import {IBatchSettlement} from "../IBatchSettlement.sol";

/**
 * @title Many channels in one transaction
 * @dev State is read when a row's turn comes, so a channel may have several rows. What is owed to the payee is summed up
 * by token over all rows and paid at the end. The whole call is guarded, and each row's effects come before its
 * interaction.
 */
abstract contract BatchSettlement is Settlement {
    /// @dev What the batch owes the payee: `amounts[k]` on the route `routeIds[k]`, for every k below `count`.
    struct Payouts {
        uint256 count;
        uint256[] routeIds;
        uint256[] amounts;
    }

    /// @inheritdoc IBatchSettlement
    function settleMany(SignedVoucher[] calldata vouchers) external nonReentrant returns (uint256 redeemed) {
        Payouts memory payouts = _newPayouts(vouchers.length);
        for (uint256 i = 0; i < vouchers.length; ++i) {
            SignedVoucher calldata voucher = vouchers[i];
            ChannelRecord storage channel = _channels[voucher.channelId];

            // Checks
            bytes memory refusal = _refusalUnlessRedeemable(voucher, channel);
            if (refusal.length != 0) {
                _skip(voucher.channelId, channel, refusal);
                continue;
            }

            // Effects
            uint128 delta = _redeem(voucher.channelId, channel, msg.sender, voucher.cumulativeAmount);
            _owe(payouts, channel.routeId, delta);
            ++redeemed;
        }

        // Interactions
        _payOut(payouts);
    }

    /// @inheritdoc IBatchSettlement
    function closeMany(SignedVoucher[] calldata vouchers) external nonReentrant returns (uint256 closed) {
        Payouts memory payouts = _newPayouts(vouchers.length);
        for (uint256 i = 0; i < vouchers.length; ++i) {
            SignedVoucher calldata voucher = vouchers[i];
            ChannelRecord storage channel = _channels[voucher.channelId];

            // Checks
            bytes memory refusal = _refusalUnlessClosable(voucher, channel);
            if (refusal.length != 0) {
                _skip(voucher.channelId, channel, refusal);
                continue;
            }

            // Effects, interactions
            if (_closeRow(voucher, channel, payouts)) ++closed;
        }

        // Interactions
        _payOut(payouts);
    }

    /// @dev Closes a channel if its payer can be refunded, and else only redeems the voucher.
    function _closeRow(
        SignedVoucher calldata voucher,
        ChannelRecord storage channel,
        Payouts memory payouts
    ) private returns (bool closed) {
        // Effects
        bytes32 channelId = voucher.channelId;
        address payer = channel.payer;
        uint48 routeId = channel.routeId;
        (uint128 settled, uint128 delta, uint128 refund) = _finalize(channel, voucher.cumulativeAmount);
        _owe(payouts, routeId, delta);

        // Interactions
        closed = _tryPay(_routes[routeId].token, payer, refund);
        if (closed) {
            emit ChannelClosed(channelId, payer, msg.sender, settled, delta, refund);
        } else {
            // Nothing was refunded, so nothing is final. The guard is up: nobody could act on it in between.
            channel.flags &= ~FLAG_FINALIZED;
            if (delta != 0) emit Settled(channelId, payer, msg.sender, settled, delta);
            _skip(channelId, channel, abi.encodeWithSelector(RefundRefused.selector, channelId, payer));
        }
    }

    // ---------------------------------------------------------------- checks

    function _refusalUnlessRedeemable(
        SignedVoucher calldata voucher,
        ChannelRecord storage channel
    ) private view returns (bytes memory refusal) {
        refusal = _refusalUnlessOurs(voucher.channelId, channel);
        if (refusal.length != 0) return refusal;
        refusal = _refusalUnlessIncreasing(voucher.channelId, channel, voucher.cumulativeAmount);
        if (refusal.length != 0) return refusal;
        return _refusalUnlessGranted(voucher, channel);
    }

    function _refusalUnlessClosable(
        SignedVoucher calldata voucher,
        ChannelRecord storage channel
    ) private view returns (bytes memory refusal) {
        refusal = _refusalUnlessOurs(voucher.channelId, channel);
        if (refusal.length != 0 || _isForfeit(channel, voucher.cumulativeAmount)) return refusal;
        return _refusalUnlessGranted(voucher, channel);
    }

    /// @dev Existence first: a channel that does not exist has no route, and no payee to compare with.
    function _refusalUnlessOurs(
        bytes32 channelId,
        ChannelRecord storage channel
    ) private view returns (bytes memory refusal) {
        refusal = _refusalUnlessOpen(channelId, channel);
        if (refusal.length == 0) refusal = _refusalUnlessPayee(channelId, _routes[channel.routeId].payee);
    }

    function _refusalUnlessGranted(
        SignedVoucher calldata voucher,
        ChannelRecord storage channel
    ) private view returns (bytes memory refusal) {
        refusal = _refusalUnlessCovered(voucher.channelId, channel, voucher.cumulativeAmount);
        if (refusal.length == 0) refusal = _refusalUnlessVoucher(channel, voucher);
    }

    function _skip(bytes32 channelId, ChannelRecord storage channel, bytes memory refusal) private {
        emit SettlementSkipped(channelId, channel.payer, msg.sender, refusal);
    }

    // ---------------------------------------------------------------- what is owed

    /// @dev Room for as many tokens as there are rows.
    function _newPayouts(uint256 rows) private pure returns (Payouts memory) {
        return Payouts({count: 0, routeIds: new uint256[](rows), amounts: new uint256[](rows)});
    }

    /// @dev The latest route is looked at first: rows of one token mostly stand together.
    function _owe(Payouts memory payouts, uint256 routeId, uint256 amount) private pure {
        for (uint256 k = payouts.count; k > 0; --k) {
            if (payouts.routeIds[k - 1] == routeId) {
                payouts.amounts[k - 1] += amount;
                return;
            }
        }
        payouts.routeIds[payouts.count] = routeId;
        payouts.amounts[payouts.count] = amount;
        ++payouts.count;
    }

    function _payOut(Payouts memory payouts) private {
        for (uint256 k = 0; k < payouts.count; ++k) {
            _pay(_routes[uint48(payouts.routeIds[k])].token, msg.sender, payouts.amounts[k]);
        }
    }
}
