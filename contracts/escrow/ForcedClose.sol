// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {Channels} from "./Channels.sol";
import {Funds, Terms} from "./ChannelWords.sol";
import {Tokens} from "./Tokens.sol";
import {IPaymentChannelEscrow} from "../IPaymentChannelEscrow.sol";

/// @title The payer's way out, which needs nobody's help
abstract contract ForcedClose is Channels, Tokens, ReentrancyGuardTransient {
    /// @dev The draft's lower bound, section "Forced Close".
    uint64 private constant MIN_CLOSE_GRACE_PERIOD = 10 minutes;

    /// @inheritdoc IPaymentChannelEscrow
    uint64 public immutable CLOSE_GRACE_PERIOD;

    constructor(uint64 closeGracePeriodSeconds) {
        require(
            closeGracePeriodSeconds >= MIN_CLOSE_GRACE_PERIOD,
            GracePeriodTooShort(closeGracePeriodSeconds, MIN_CLOSE_GRACE_PERIOD)
        );
        CLOSE_GRACE_PERIOD = closeGracePeriodSeconds;
    }

    /// @inheritdoc IPaymentChannelEscrow
    function requestClose(bytes32 channelId) external nonReentrant {
        // Checks
        (ChannelRecord storage channel, Terms terms) = _requireOpen(channelId);
        require(msg.sender == terms.payer(), NotPayer(channelId, msg.sender));
        if (terms.closeRequestedAt() != 0) return; // the clock is running, and is not restarted

        // Effects
        channel.terms = terms.withCloseRequestedAt(uint40(block.timestamp));
        emit CloseRequested(channelId, msg.sender, uint64(block.timestamp), block.timestamp + CLOSE_GRACE_PERIOD);
    }

    /// @inheritdoc IPaymentChannelEscrow
    function withdraw(bytes32 channelId) external nonReentrant {
        // Checks
        (ChannelRecord storage channel, Terms terms) = _requireOpen(channelId);
        require(msg.sender == terms.payer(), NotPayer(channelId, msg.sender));
        // Without a request the grace period would seem to have passed since 1970.
        uint256 requestedAt = terms.closeRequestedAt();
        require(requestedAt != 0, CloseNotReady(channelId, 0));
        uint256 readyAt = requestedAt + CLOSE_GRACE_PERIOD;
        require(block.timestamp >= readyAt, CloseNotReady(channelId, readyAt));

        // Effects
        channel.terms = terms.finalized();
        Funds funds = channel.funds;
        emit Withdrawn(channelId, msg.sender, funds.settled(), funds.rest());

        // Interactions
        _pay(_routes[terms.routeId()].token, msg.sender, funds.rest());
    }
}
