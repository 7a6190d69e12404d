// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {Funds, Terms} from "./ChannelWords.sol";
import {Signatures} from "./Signatures.sol";
import {Tokens} from "./Tokens.sol";
import {IPaymentChannelEscrow} from "../IPaymentChannelEscrow.sol";
import {IRelayedProfile} from "../IRelayedProfile.sol";

/**
 * @title The payee's side: redeeming vouchers and closing
 * @dev What a voucher is worth is told here by two questions, whether it is increasing and whether it is covered. Batches
 * ask the same two, in the same order.
 */
abstract contract Settlement is Signatures, Tokens, ReentrancyGuardTransient {
    /// @inheritdoc IPaymentChannelEscrow
    function settle(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external nonReentrant {
        // Checks
        (ChannelRecord storage channel, Terms terms) = _requireOpen(channelId);
        Funds funds = channel.funds;
        Route memory route = _routes[terms.routeId()];
        require(msg.sender == route.payee, NotPayee(channelId, msg.sender));
        _requireRedeemable(channelId, terms, funds, cumulativeAmount, signature);

        // Effects, interactions
        _settle(channelId, cumulativeAmount, channel, terms, funds, route);
    }

    /// @inheritdoc IRelayedProfile
    function settleWithAuthorization(
        bytes32 channelId,
        uint128 cumulativeAmount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata payeeSignature,
        bytes calldata voucherSignature
    ) external nonReentrant {
        // Checks
        (ChannelRecord storage channel, Terms terms) = _requireOpen(channelId);
        Funds funds = channel.funds;
        Route memory route = _routes[terms.routeId()];
        _requirePayeeAuthorization(
            SETTLE_AUTHORIZATION_TYPEHASH,
            route.payee,
            channelId,
            cumulativeAmount,
            nonce,
            deadline,
            payeeSignature
        );
        _requireRedeemable(channelId, terms, funds, cumulativeAmount, voucherSignature);

        // Effects
        _useNonce(channelId, nonce);

        // Effects, interactions
        _settle(channelId, cumulativeAmount, channel, terms, funds, route);
    }

    /// @inheritdoc IPaymentChannelEscrow
    function close(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external nonReentrant {
        // Checks
        (ChannelRecord storage channel, Terms terms) = _requireOpen(channelId);
        Funds funds = channel.funds;
        Route memory route = _routes[terms.routeId()];
        require(msg.sender == route.payee, NotPayee(channelId, msg.sender));
        _requireClosable(channelId, terms, funds, cumulativeAmount, signature);

        // Effects, interactions
        _close(channelId, cumulativeAmount, channel, terms, funds, route);
    }

    /// @inheritdoc IRelayedProfile
    function closeWithAuthorization(
        bytes32 channelId,
        uint128 cumulativeAmount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata payeeSignature,
        bytes calldata voucherSignature
    ) external nonReentrant {
        // Checks
        (ChannelRecord storage channel, Terms terms) = _requireOpen(channelId);
        Funds funds = channel.funds;
        Route memory route = _routes[terms.routeId()];
        _requirePayeeAuthorization(
            CLOSE_AUTHORIZATION_TYPEHASH,
            route.payee,
            channelId,
            cumulativeAmount,
            nonce,
            deadline,
            payeeSignature
        );
        _requireClosable(channelId, terms, funds, cumulativeAmount, voucherSignature);

        // Effects, interactions; finalizing uses up the nonce, see {isNonceUsed}
        _close(channelId, cumulativeAmount, channel, terms, funds, route);
    }

    // ---------------------------------------------------------------- checks

    function _requireRedeemable(
        bytes32 channelId,
        Terms terms,
        Funds funds,
        uint128 cumulativeAmount,
        bytes calldata signature
    ) private view {
        require(
            _isIncreasing(funds, cumulativeAmount),
            AmountNotIncreasing(channelId, cumulativeAmount, funds.settled())
        );
        _requireGranted(channelId, terms, funds, cumulativeAmount, signature);
    }

    function _requireClosable(
        bytes32 channelId,
        Terms terms,
        Funds funds,
        uint128 cumulativeAmount,
        bytes calldata signature
    ) private view {
        // Up to what was settled the payee only waives, and needs nobody's signature for that.
        if (_isIncreasing(funds, cumulativeAmount)) {
            _requireGranted(channelId, terms, funds, cumulativeAmount, signature);
        }
    }

    function _requireGranted(
        bytes32 channelId,
        Terms terms,
        Funds funds,
        uint128 cumulativeAmount,
        bytes calldata signature
    ) private view {
        require(
            _isCovered(funds, cumulativeAmount),
            AmountExceedsDeposit(channelId, cumulativeAmount, funds.deposit())
        );
        _requireVoucher(channelId, terms, cumulativeAmount, signature);
    }

    /// @dev Whether a voucher grants more than was paid already. One that does not can only be forfeited.
    function _isIncreasing(Funds funds, uint128 cumulativeAmount) internal pure returns (bool) {
        return cumulativeAmount > funds.settled();
    }

    function _isCovered(Funds funds, uint128 cumulativeAmount) internal pure returns (bool) {
        return cumulativeAmount <= funds.deposit();
    }

    // ---------------------------------------------------------------- effects

    /// @dev Records that a voucher which was checked is redeemed. Pay out `delta` next.
    function _redeem(
        bytes32 channelId,
        ChannelRecord storage channel,
        Terms terms,
        Funds funds,
        address payee,
        uint128 cumulativeAmount
    ) internal returns (uint128 delta) {
        delta = funds.beyondSettled(cumulativeAmount);
        channel.funds = funds.withSettled(cumulativeAmount);
        emit Settled(channelId, terms.payer(), payee, cumulativeAmount, delta);
    }

    /// @dev Records that a channel is closed with a voucher which was checked. Pay out `delta` and `refund` next.
    function _finalize(
        ChannelRecord storage channel,
        Terms terms,
        Funds funds,
        uint128 cumulativeAmount
    ) internal returns (uint128 settled, uint128 delta, uint128 refund) {
        settled = funds.settled();
        if (_isIncreasing(funds, cumulativeAmount)) {
            delta = funds.beyondSettled(cumulativeAmount);
            settled = cumulativeAmount;
            funds = funds.withSettled(settled);
            channel.funds = funds;
        }
        refund = funds.rest();
        channel.terms = terms.finalized();
    }

    function _settle(
        bytes32 channelId,
        uint128 cumulativeAmount,
        ChannelRecord storage channel,
        Terms terms,
        Funds funds,
        Route memory route
    ) private {
        // Effects
        uint128 delta = _redeem(channelId, channel, terms, funds, route.payee, cumulativeAmount);

        // Interactions
        _pay(route.token, route.payee, delta);
    }

    function _close(
        bytes32 channelId,
        uint128 cumulativeAmount,
        ChannelRecord storage channel,
        Terms terms,
        Funds funds,
        Route memory route
    ) private {
        // Effects
        (uint128 settled, uint128 delta, uint128 refund) = _finalize(channel, terms, funds, cumulativeAmount);
        emit ChannelClosed(channelId, terms.payer(), route.payee, settled, delta, refund);

        // Interactions
        _pay(route.token, route.payee, delta);
        _pay(route.token, terms.payer(), refund);
    }
}
