// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/*
 * The two storage slots of a channel, as values. A slot is looked at and changed on the stack and written as a whole; the
 * compiler's own packing reads and writes it anew for every field. That is safe as long as nobody else changes the slot
 * between the reading and the writing, which the reentrancy guard sees to.
 */

/**
 * @dev Slot 0, who and where it stands: payer (160 bits, lowest) | closeRequestedAt (40) | routeId (48) | flags (8).
 * Zero for a channel that was never opened.
 */
type Terms is uint256;

/// @dev Slot 1, the money in base units: deposit (128 bits, lowest) | settled (128).
type Funds is uint256;

using {
    payer,
    closeRequestedAt,
    routeId,
    exists,
    isFinalized,
    isDelegated,
    withCloseRequestedAt,
    finalized
} for Terms global;

using {deposit, settled, rest, room, plusDeposit, beyondSettled, withSettled} for Funds global;

uint256 constant CLOSE_REQUESTED_AT_SHIFT = 160;
uint256 constant ROUTE_ID_SHIFT = 200;
uint256 constant CLOSE_REQUESTED_AT_MASK = uint256(type(uint40).max) << CLOSE_REQUESTED_AT_SHIFT;
/// @dev The channel is closed.
uint256 constant FINALIZED = 1 << 248;
/// @dev A signer other than the payer was named; saves looking for one in the many channels without.
uint256 constant DELEGATED = 2 << 248;

/// @dev The terms of a new channel.
function newTerms(address payer_, uint48 routeId_, bool delegated) pure returns (Terms) {
    return Terms.wrap(uint160(payer_) | (uint256(routeId_) << ROUTE_ID_SHIFT) | (delegated ? DELEGATED : 0));
}

function payer(Terms self) pure returns (address) {
    return address(uint160(Terms.unwrap(self)));
}

/// @dev In Unix seconds; zero if no close is pending. Forty bits last until the year 36812.
function closeRequestedAt(Terms self) pure returns (uint40) {
    return uint40(Terms.unwrap(self) >> CLOSE_REQUESTED_AT_SHIFT);
}

/// @dev Zero for a channel that was never opened, and for no other.
function routeId(Terms self) pure returns (uint48) {
    return uint48(Terms.unwrap(self) >> ROUTE_ID_SHIFT);
}

/// @dev Told by the payer, who is never the zero address.
function exists(Terms self) pure returns (bool) {
    return payer(self) != address(0);
}

function isFinalized(Terms self) pure returns (bool) {
    return Terms.unwrap(self) & FINALIZED != 0;
}

function isDelegated(Terms self) pure returns (bool) {
    return Terms.unwrap(self) & DELEGATED != 0;
}

function withCloseRequestedAt(Terms self, uint40 time) pure returns (Terms) {
    return Terms.wrap((Terms.unwrap(self) & ~CLOSE_REQUESTED_AT_MASK) | (uint256(time) << CLOSE_REQUESTED_AT_SHIFT));
}

function finalized(Terms self) pure returns (Terms) {
    return Terms.wrap(Terms.unwrap(self) | FINALIZED);
}

/// @dev The funds of a new channel.
function newFunds(uint128 deposit_) pure returns (Funds) {
    return Funds.wrap(deposit_);
}

/// @dev Everything ever deposited.
function deposit(Funds self) pure returns (uint128) {
    return uint128(Funds.unwrap(self));
}

/// @dev Everything ever paid to the payee; never above the deposit.
function settled(Funds self) pure returns (uint128) {
    return uint128(Funds.unwrap(self) >> 128);
}

/// @dev What is in escrow for the channel. Never negative: nothing above the deposit is ever settled.
function rest(Funds self) pure returns (uint128) {
    unchecked {
        return deposit(self) - settled(self);
    }
}

/// @dev By how much the deposit may still grow.
function room(Funds self) pure returns (uint128) {
    return ~deposit(self);
}

/// @dev A larger deposit. The caller has made sure that there is room for it.
function plusDeposit(Funds self, uint128 amount) pure returns (Funds) {
    unchecked {
        return Funds.wrap(Funds.unwrap(self) + amount);
    }
}

/// @dev What a voucher grants beyond what was paid. The caller has made sure that it grants more.
function beyondSettled(Funds self, uint128 cumulativeAmount) pure returns (uint128) {
    unchecked {
        return cumulativeAmount - settled(self);
    }
}

function withSettled(Funds self, uint128 settled_) pure returns (Funds) {
    return Funds.wrap((uint256(settled_) << 128) | deposit(self));
}
