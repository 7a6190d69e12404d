// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Funds, Terms} from "./ChannelWords.sol";
import {Settlement} from "./Settlement.sol";
import {IBatchSettlement} from "../IBatchSettlement.sol";

/**
 * @title Many channels in one transaction
 * @dev State is read when a row's turn comes, so a channel may have several rows. What is owed to the payee is summed up
 * by token over all rows and paid at the end. The whole call is guarded, and each row's effects come before its
 * interaction, but for the finalizing that a refused refund takes back.
 */
abstract contract BatchSettlement is Settlement {
    /**
     * @dev What a batch owes the payee: `amounts[k]` on route `routeIds[k]`, for every k below `count`. The route of the
     * latest row is kept at hand, and its sum is put back when another comes.
     */
    struct Payouts {
        uint256 count;
        uint256[] routeIds;
        uint256[] amounts;
        uint256 current; // the k of the latest row
        uint256 routeId; // its route; zero, which is no route, before the first row
        uint256 amount; // its sum
        address token; // its token
    }

    /// @inheritdoc IBatchSettlement
    function settleMany(SignedVoucher[] calldata vouchers) external nonReentrant {
        Payouts memory payouts = _newPayouts(vouchers.length);
        for (uint256 i = 0; i < vouchers.length; ++i) {
            SignedVoucher calldata voucher = vouchers[i];
            bytes32 channelId = voucher.channelId;
            uint128 amount = voucher.cumulativeAmount;
            ChannelRecord storage channel = _channels[channelId];
            Terms terms = channel.terms;
            Funds funds = channel.funds;

            // Checks
            if (
                !_isOurs(terms, payouts) ||
                !_isIncreasing(funds, amount) ||
                !_isGranted(voucher, channelId, amount, terms, funds)
            ) {
                _skip(channelId, terms, _refusal(channelId, terms, funds, amount));
                continue;
            }

            // Effects
            _owe(payouts, _redeem(channelId, channel, terms, funds, msg.sender, amount));
        }

        // Interactions
        _payOut(payouts);
    }

    /// @inheritdoc IBatchSettlement
    function closeMany(SignedVoucher[] calldata vouchers) external nonReentrant {
        Payouts memory payouts = _newPayouts(vouchers.length);
        for (uint256 i = 0; i < vouchers.length; ++i) {
            SignedVoucher calldata voucher = vouchers[i];
            bytes32 channelId = voucher.channelId;
            uint128 amount = voucher.cumulativeAmount;
            ChannelRecord storage channel = _channels[channelId];
            Terms terms = channel.terms;
            Funds funds = channel.funds;

            // Checks
            if (
                !_isOurs(terms, payouts) ||
                (_isIncreasing(funds, amount) && !_isGranted(voucher, channelId, amount, terms, funds))
            ) {
                _skip(channelId, terms, _refusal(channelId, terms, funds, amount));
                continue;
            }

            // Effects, interactions
            _closeRow(channelId, channel, terms, funds, amount, payouts);
        }

        // Interactions
        _payOut(payouts);
    }

    /// @dev Closes a channel if its payer can be refunded, and else only redeems the voucher.
    function _closeRow(
        bytes32 channelId,
        ChannelRecord storage channel,
        Terms terms,
        Funds funds,
        uint128 cumulativeAmount,
        Payouts memory payouts
    ) private {
        // Effects
        address payer = terms.payer();
        (uint128 settled, uint128 delta, uint128 refund) = _finalize(channel, terms, funds, cumulativeAmount);
        _owe(payouts, delta);

        // Interactions
        if (_tryPay(payouts.token, payer, refund)) {
            emit ChannelClosed(channelId, payer, msg.sender, settled, delta, refund);
        } else {
            // The token says that nothing was refunded, so nothing is final. (One that lies about it harms channels in
            // itself, as it could anyway.) The guard is up: nobody could act on the channel in between.
            channel.terms = terms;
            if (delta != 0) emit Settled(channelId, payer, msg.sender, settled, delta);
            _skip(channelId, terms, abi.encodeWithSelector(RefundRefused.selector, channelId, payer));
        }
    }

    // ---------------------------------------------------------------- checks

    /// @dev Whether a channel is open and pays the caller. Makes its route the current one.
    function _isOurs(Terms terms, Payouts memory payouts) private view returns (bool) {
        return terms.exists() && !terms.isFinalized() && _select(payouts, terms.routeId());
    }

    function _isGranted(
        SignedVoucher calldata voucher,
        bytes32 channelId,
        uint128 amount,
        Terms terms,
        Funds funds
    ) private view returns (bool) {
        return _isCovered(funds, amount) && _isVoucher(channelId, terms, amount, voucher.r, voucher.vs);
    }

    /// @dev Why a row was refused: what the single function would have reverted with.
    function _refusal(bytes32 channelId, Terms terms, Funds funds, uint128 amount) private view returns (bytes memory) {
        if (!terms.exists()) return abi.encodeWithSelector(ChannelNotFound.selector, channelId);
        if (terms.isFinalized()) return abi.encodeWithSelector(ChannelFinalized.selector, channelId);
        if (_routes[terms.routeId()].payee != msg.sender) {
            return abi.encodeWithSelector(NotPayee.selector, channelId, msg.sender);
        }
        if (!_isIncreasing(funds, amount)) {
            return abi.encodeWithSelector(AmountNotIncreasing.selector, channelId, amount, funds.settled());
        }
        if (!_isCovered(funds, amount)) {
            return abi.encodeWithSelector(AmountExceedsDeposit.selector, channelId, amount, funds.deposit());
        }
        return abi.encodeWithSelector(InvalidSignature.selector, channelId, _signerOf(channelId, terms));
    }

    function _skip(bytes32 channelId, Terms terms, bytes memory refusal) private {
        emit SettlementSkipped(channelId, terms.payer(), msg.sender, refusal);
    }

    // ---------------------------------------------------------------- what is owed

    /// @dev Room for as many routes as there are rows.
    function _newPayouts(uint256 rows) private pure returns (Payouts memory payouts) {
        payouts.routeIds = new uint256[](rows);
        payouts.amounts = new uint256[](rows);
    }

    /// @dev Makes a route the current one if it pays the caller. Rows of one token mostly stand together.
    function _select(Payouts memory payouts, uint48 routeId) private view returns (bool) {
        if (routeId == payouts.routeId) return true;
        Route memory route = _routes[routeId];
        if (route.payee != msg.sender) return false;

        payouts.amounts[payouts.current] = payouts.amount;
        uint256 k = 0;
        while (k < payouts.count && payouts.routeIds[k] != routeId) ++k;
        if (k == payouts.count) {
            payouts.routeIds[k] = routeId;
            ++payouts.count;
        }
        payouts.current = k;
        payouts.routeId = routeId;
        payouts.amount = payouts.amounts[k];
        payouts.token = route.token;
        return true;
    }

    /// @dev Adds to the current route's sum. It would take 2^128 rows to overflow.
    function _owe(Payouts memory payouts, uint128 amount) private pure {
        unchecked {
            payouts.amount += amount;
        }
    }

    function _payOut(Payouts memory payouts) private {
        if (payouts.count != 0) payouts.amounts[payouts.current] = payouts.amount;
        for (uint256 k = 0; k < payouts.count; ++k) {
            _pay(_routes[uint48(payouts.routeIds[k])].token, msg.sender, payouts.amounts[k]);
        }
    }
}
