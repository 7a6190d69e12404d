// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IPaymentChannelEscrow} from "../IPaymentChannelEscrow.sol";
import {Funds, newFunds, newTerms, Terms} from "./ChannelWords.sol";

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
        Terms terms;
        Funds funds;
    }

    mapping(bytes32 channelId => ChannelRecord) internal _channels;

    mapping(uint48 routeId => Route) internal _routes;

    /// @dev Signers other than "the payer", as given when the channel was opened.
    mapping(bytes32 channelId => address) private _delegates;

    mapping(address payee => mapping(address token => uint48 routeId)) private _routeIds;

    /// @dev Routes are numbered from 1; 0 is no route.
    uint48 private _lastRouteId;

    /// @inheritdoc IPaymentChannelEscrow
    function getChannel(bytes32 channelId) external view returns (Channel memory channel) {
        Terms terms = _channels[channelId].terms;
        Funds funds = _channels[channelId].funds;
        Route memory route = _routes[terms.routeId()];
        channel = Channel({
            payer: terms.payer(),
            payee: route.payee,
            token: route.token,
            authorizedSigner: _delegates[channelId],
            deposit: funds.deposit(),
            settled: funds.settled(),
            closeRequestedAt: terms.closeRequestedAt(),
            finalized: terms.isFinalized()
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
        require(!channel.terms.exists(), ChannelAlreadyExists(channelId));

        // Effects
        bool delegated = authorizedSigner != address(0);
        if (delegated) _delegates[channelId] = authorizedSigner;
        channel.terms = newTerms(payer, _internRoute(payee, token), delegated);
        channel.funds = newFunds(deposit);
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
    function _signerOf(bytes32 channelId, Terms terms) internal view returns (address) {
        return terms.isDelegated() ? _delegates[channelId] : terms.payer();
    }

    /// @dev A channel that exists and is not finalized: where it is stored, and its terms.
    function _requireOpen(bytes32 channelId) internal view returns (ChannelRecord storage channel, Terms terms) {
        channel = _channels[channelId];
        terms = channel.terms;
        require(terms.exists(), ChannelNotFound(channelId));
        require(!terms.isFinalized(), ChannelFinalized(channelId));
    }
}
