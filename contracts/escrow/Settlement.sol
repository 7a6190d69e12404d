// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {Signatures} from "./Signatures.sol";
import {Tokens} from "./Tokens.sol";
import {IPaymentChannelEscrow} from "../IPaymentChannelEscrow.sol";
import {IRelayedProfile} from "../IRelayedProfile.sol";

/**
 * @title The payee's side: redeeming vouchers and closing
 * @dev The rules of what a voucher is worth stand here, once for single calls and for batches.
 */
abstract contract Settlement is Signatures, Tokens, ReentrancyGuardTransient {
    /// @inheritdoc IPaymentChannelEscrow
    function settle(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external nonReentrant {
        // Checks
        ChannelRecord storage channel = _requireOpen(channelId);
        Route memory route = _routes[channel.routeId];
        _require(_refusalUnlessPayee(channelId, route.payee));
        _requireRedeemable(channelId, channel, cumulativeAmount, signature);

        // Effects
        uint128 delta = _redeem(channelId, channel, route.payee, cumulativeAmount);

        // Interactions
        _pay(route.token, route.payee, delta);
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
        ChannelRecord storage channel = _requireOpen(channelId);
        Route memory route = _routes[channel.routeId];
        _requirePayeeAuthorization(
            SETTLE_AUTHORIZATION_TYPEHASH,
            route.payee,
            channelId,
            cumulativeAmount,
            nonce,
            deadline,
            payeeSignature
        );
        _requireRedeemable(channelId, channel, cumulativeAmount, voucherSignature);

        // Effects
        _useNonce(channelId, nonce);
        uint128 delta = _redeem(channelId, channel, route.payee, cumulativeAmount);

        // Interactions
        _pay(route.token, route.payee, delta);
    }

    /// @inheritdoc IPaymentChannelEscrow
    function close(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external nonReentrant {
        // Checks
        ChannelRecord storage channel = _requireOpen(channelId);
        Route memory route = _routes[channel.routeId];
        _require(_refusalUnlessPayee(channelId, route.payee));
        _requireClosable(channelId, channel, cumulativeAmount, signature);

        // Effects, interactions
        _close(channelId, channel, route, cumulativeAmount);
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
        ChannelRecord storage channel = _requireOpen(channelId);
        Route memory route = _routes[channel.routeId];
        _requirePayeeAuthorization(
            CLOSE_AUTHORIZATION_TYPEHASH,
            route.payee,
            channelId,
            cumulativeAmount,
            nonce,
            deadline,
            payeeSignature
        );
        _requireClosable(channelId, channel, cumulativeAmount, voucherSignature);

        // Effects, interactions; finalizing uses up the nonce, see {isNonceUsed}
        _close(channelId, channel, route, cumulativeAmount);
    }

    // ---------------------------------------------------------------- checks

    function _requireRedeemable(
        bytes32 channelId,
        ChannelRecord storage channel,
        uint128 cumulativeAmount,
        bytes calldata signature
    ) private view {
        _require(_refusalUnlessIncreasing(channelId, channel, cumulativeAmount));
        _require(_refusalUnlessCovered(channelId, channel, cumulativeAmount));
        _requireVoucher(channelId, channel, cumulativeAmount, signature);
    }

    function _requireClosable(
        bytes32 channelId,
        ChannelRecord storage channel,
        uint128 cumulativeAmount,
        bytes calldata signature
    ) private view {
        if (_isForfeit(channel, cumulativeAmount)) return;
        _require(_refusalUnlessCovered(channelId, channel, cumulativeAmount));
        _requireVoucher(channelId, channel, cumulativeAmount, signature);
    }

    /// @dev Up to what was settled the payee only waives, and needs nobody's signature for that.
    function _isForfeit(ChannelRecord storage channel, uint128 cumulativeAmount) internal view returns (bool) {
        return cumulativeAmount <= channel.settled;
    }

    function _refusalUnlessPayee(bytes32 channelId, address payee) internal view returns (bytes memory) {
        if (msg.sender == payee) return "";
        return abi.encodeWithSelector(NotPayee.selector, channelId, msg.sender);
    }

    function _refusalUnlessIncreasing(
        bytes32 channelId,
        ChannelRecord storage channel,
        uint128 cumulativeAmount
    ) internal view returns (bytes memory) {
        uint128 settled = channel.settled;
        if (cumulativeAmount > settled) return "";
        return abi.encodeWithSelector(AmountNotIncreasing.selector, channelId, cumulativeAmount, settled);
    }

    function _refusalUnlessCovered(
        bytes32 channelId,
        ChannelRecord storage channel,
        uint128 cumulativeAmount
    ) internal view returns (bytes memory) {
        uint128 deposit = channel.deposit;
        if (cumulativeAmount <= deposit) return "";
        return abi.encodeWithSelector(AmountExceedsDeposit.selector, channelId, cumulativeAmount, deposit);
    }

    // ---------------------------------------------------------------- effects

    /// @dev Records that a voucher which was checked is redeemed. Pay out `delta` next.
    function _redeem(
        bytes32 channelId,
        ChannelRecord storage channel,
        address payee,
        uint128 cumulativeAmount
    ) internal returns (uint128 delta) {
        delta = cumulativeAmount - channel.settled;
        channel.settled = cumulativeAmount;
        emit Settled(channelId, channel.payer, payee, cumulativeAmount, delta);
    }

    /// @dev Records that a channel is closed with a voucher which was checked. Pay out `delta` and `refund` next.
    function _finalize(
        ChannelRecord storage channel,
        uint128 cumulativeAmount
    ) internal returns (uint128 settled, uint128 delta, uint128 refund) {
        settled = channel.settled;
        if (!_isForfeit(channel, cumulativeAmount)) {
            delta = cumulativeAmount - settled;
            settled = cumulativeAmount;
            channel.settled = settled;
        }
        refund = channel.deposit - settled;
        channel.flags |= FLAG_FINALIZED;
    }

    function _close(
        bytes32 channelId,
        ChannelRecord storage channel,
        Route memory route,
        uint128 cumulativeAmount
    ) private {
        // Effects
        address payer = channel.payer;
        (uint128 settled, uint128 delta, uint128 refund) = _finalize(channel, cumulativeAmount);
        emit ChannelClosed(channelId, payer, route.payee, settled, delta, refund);

        // Interactions
        _pay(route.token, route.payee, delta);
        _pay(route.token, payer, refund);
    }
}
