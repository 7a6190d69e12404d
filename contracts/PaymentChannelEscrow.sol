// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {BatchSettlement} from "./escrow/BatchSettlement.sol";
import {ForcedClose} from "./escrow/ForcedClose.sol";
import {Funding} from "./escrow/Funding.sol";
import {Tokens} from "./escrow/Tokens.sol";
import {IPaymentChannelEscrow} from "./IPaymentChannelEscrow.sol";

/**
 * @title Escrow for unidirectional payment channels
 * @dev See {IPaymentChannelEscrow} for what it does. No owner, no proxy, no pause, no upgrade.
 *
 * Its parts, each in a file of its own: {Channels} keeps the records, {Funding} opens and tops up, {Settlement} and
 * {BatchSettlement} redeem and close for the payee, {ForcedClose} is the payer's way out, {Signatures} checks who signed,
 * and {Tokens} alone talks to tokens. Every function that changes state is guarded against reentrancy, and each goes
 * through checks, effects and interactions in that order; {closeMany} row by row, and it takes the finalizing of a channel
 * back where the token refused the refund. That a deposit has arrived can only be checked after it was pulled.
 */
contract PaymentChannelEscrow is Funding, BatchSettlement, ForcedClose {
    /**
     * @param closeGracePeriodSeconds Time between {requestClose} and {withdraw}: at least 600, 900 for reference.
     * @param permit2 The chain's Permit2 contract.
     */
    constructor(uint64 closeGracePeriodSeconds, address permit2) Tokens(permit2) ForcedClose(closeGracePeriodSeconds) {}

    /// @inheritdoc IPaymentChannelEscrow
    function profileFunctions() external view returns (bytes4[] memory selectors) {
        bool hasPermit2 = PERMIT2.code.length != 0;
        selectors = new bytes4[](hasPermit2 ? 6 : 4);
        selectors[0] = this.openWithAuthorization.selector;
        selectors[1] = this.topUpWithAuthorization.selector;
        selectors[2] = this.settleWithAuthorization.selector;
        selectors[3] = this.closeWithAuthorization.selector;
        if (hasPermit2) {
            selectors[4] = this.openWithPermit2.selector;
            selectors[5] = this.topUpWithPermit2.selector;
        }
    }
}
