// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {LowLevelCall} from "@openzeppelin/contracts/utils/LowLevelCall.sol";

import {IPaymentChannelEscrow} from "../IPaymentChannelEscrow.sol";

/**
 * @title The channels at rest
 * @dev Owns the storage of channels and routes, their ids, and the question whether a channel is open.
 *
 * Cheap by layout. A payee that sells to thousands has thousands of channels in one token, so the pair is stored once
 * and a channel carries its 48-bit number; that leaves a channel two slots, or three with a delegated signer. It is safe
 * because a route is written once, under a number never used before, and nothing ever changes it: a channel that names a
 * route names its payee and token for ever. 2^48 routes are more than could be paid for.
 */
abstract contract Channels is IPaymentChannelEscrow {
    /// @dev Who is paid, in what.
    struct Route {
        address payee;
        address token;
    }

    /// @dev A channel. Records are never deleted.
    struct ChannelRecord {
        // Slot 0: who, and where it stands.
        address payer; // never zero in a record that exists
        uint40 closeRequestedAt; // Unix seconds, enough until the year 36812
        uint48 routeId; // never zero in a record that exists
        uint8 flags; // see below
        // Slot 1: the money, in base units.
        uint128 deposit;
        uint128 settled;
    }

    /// @dev Set when the channel is closed, and for ever once the transaction that set it is over.
    uint8 internal constant FLAG_FINALIZED = 1;
    /// @dev Set when `_delegates` names the signer; saves looking there for the many channels without one.
    uint8 internal constant FLAG_DELEGATED = 2;

    mapping(bytes32 channelId => ChannelRecord) internal _channels;

    mapping(uint48 routeId => Route) internal _routes;

    /// @dev Signers other than "the payer", as given when the channel was opened.
    mapping(bytes32 channelId => address) private _delegates;

    mapping(address payee => mapping(address token => uint48 routeId)) private _routeIds;

    /// @dev Routes are numbered from 1; 0 is no route.
    uint48 private _lastRouteId;

    /// @inheritdoc IPaymentChannelEscrow
    function getChannel(bytes32 channelId) external view returns (Channel memory channel) {
        ChannelRecord memory record = _channels[channelId];
        Route memory route = _routes[record.routeId];
        channel = Channel({
            payer: record.payer,
            payee: route.payee,
            token: route.token,
            authorizedSigner: _delegates[channelId],
            deposit: record.deposit,
            settled: record.settled,
            closeRequestedAt: record.closeRequestedAt,
            finalized: record.flags & FLAG_FINALIZED != 0
        });
    }

    /// @inheritdoc IPaymentChannelEscrow
    function computeChannelId(
        address payer,
        address payee,
        address token,
        bytes32 salt,
        address authorizedSigner
    ) public view returns (bytes32 channelId) {
        return keccak256(abi.encode(payer, payee, token, salt, authorizedSigner, address(this), block.chainid));
    }

    /// @dev Checks and effects of opening. The deposit is recorded as if it had arrived: pull it next.
    function _create(
        address payer,
        address payee,
        address token,
        uint128 deposit,
        bytes32 salt,
        address authorizedSigner
    ) internal returns (bytes32 channelId) {
        // Checks
        require(payer != address(0), InvalidPayer(payer)); // a stored payer is what makes a channel exist
        require(payee != address(0), InvalidPayee(payee));
        require(token.code.length != 0, InvalidToken(token));
        require(deposit != 0, ZeroDeposit());
        channelId = computeChannelId(payer, payee, token, salt, authorizedSigner);
        ChannelRecord storage channel = _channels[channelId];
        require(channel.payer == address(0), ChannelAlreadyExists(channelId));

        // Effects
        uint8 flags = 0;
        if (authorizedSigner != address(0)) {
            flags = FLAG_DELEGATED;
            _delegates[channelId] = authorizedSigner;
        }
        _channels[channelId] = ChannelRecord({
            payer: payer,
            closeRequestedAt: 0,
            routeId: _internRoute(payee, token),
            flags: flags,
            deposit: deposit,
            settled: 0
        });
        emit ChannelOpened(channelId, payer, payee, token, authorizedSigner, salt, deposit);
    }

    /// @dev The number of a route, given to it the first time it is seen.
    function _internRoute(address payee, address token) private returns (uint48 routeId) {
        routeId = _routeIds[payee][token];
        if (routeId == 0) {
            routeId = ++_lastRouteId;
            _routeIds[payee][token] = routeId;
            _routes[routeId] = Route({payee: payee, token: token});
        }
    }

    /// @dev Who signs this channel's vouchers.
    function _signerOf(bytes32 channelId, ChannelRecord storage channel) internal view returns (address) {
        return channel.flags & FLAG_DELEGATED == 0 ? channel.payer : _delegates[channelId];
    }

    /// @dev The channel, which exists and is not finalized.
    function _requireOpen(bytes32 channelId) internal view returns (ChannelRecord storage channel) {
        channel = _channels[channelId];
        _require(_refusalUnlessOpen(channelId, channel));
    }

    // Refusals. Every rule stands once and answers with the error it is broken with, encoded, or with nothing. A single
    // call reverts with it; a batch leaves the row out and puts it in an event.

    /// @dev Existence is told by the payer: the rest of a record may be zero, and the route of an unknown channel is 0.
    function _refusalUnlessOpen(bytes32 channelId, ChannelRecord storage channel) internal view returns (bytes memory) {
        if (channel.payer == address(0)) return abi.encodeWithSelector(ChannelNotFound.selector, channelId);
        if (channel.flags & FLAG_FINALIZED != 0) return abi.encodeWithSelector(ChannelFinalized.selector, channelId);
        return "";
    }

    function _require(bytes memory refusal) internal pure {
        if (refusal.length != 0) LowLevelCall.bubbleRevert(refusal);
    }
}
