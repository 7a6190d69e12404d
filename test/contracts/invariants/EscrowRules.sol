// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IPaymentChannelEscrow} from "../../../contracts/IPaymentChannelEscrow.sol";
import {Vm} from "../support/Vm.sol";
import {EscrowHandler} from "./EscrowHandler.sol";
import {EscrowModel} from "./EscrowModel.sol";
import {Stage} from "./Stage.sol";

/**
 * @dev What must always be true, one rule in each function. A rule is told of every channel as it was before the latest
 * attempt, as it is now, what its events add up to, and what the model makes of it.
 */
abstract contract EscrowRules {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    struct View {
        bytes32 id;
        IPaymentChannelEscrow.Channel before;
        IPaymentChannelEscrow.Channel current;
        Stage.Tally tally;
        EscrowModel.Channel model;
    }

    EscrowHandler internal handler;
    IPaymentChannelEscrow internal escrow;
    EscrowModel internal model;
    address[] internal tokens;
    address[] internal accounts;
    uint256 internal bystanders;
    uint256 internal startMoney;

    function watch(EscrowHandler handler_) internal {
        handler = handler_;
        (escrow, model, tokens, accounts, bystanders, startMoney) = handler.cast();
    }

    function check() internal view returns (View[] memory channels) {
        channels = _channels();
        theEscrowHoldsWhatOpenChannelsAreOwed(channels);
        nothingIsLeftOver(channels);
        for (uint256 i = 0; i < tokens.length; i++) {
            uint256[] memory balances = _balances(tokens[i]);
            balancesAreWhatTheRulesMakeOfThem(tokens[i], balances);
            bystandersGainNothing(balances);
        }
        aNonceIsUsedOnce();
        for (uint256 i = 0; i < channels.length; i++) {
            View memory channel = channels[i];
            payoutsMakeUpTheDeposit(channel);
            finalizedIsForEver(channel);
            aFinalizedChannelIsFrozen(channel);
            aChannelIsPaidOutOnce(channel);
            noMoreIsSettledThanDeposited(channel);
            settledNeverDecreases(channel);
            depositsNeverShrink(channel);
            thePartiesNeverChange(channel);
            vouchersPayOnceAndNeverMoreThanSigned(channel);
            thirdPartiesDoNotCancelACloseRequest(channel);
            theClockIsNotRestarted(channel);
            theStateIsWhatTheRulesMakeOfIt(channel);
        }
    }

    // ---------------------------------------------------------------- I12: the escrow's balance

    function theEscrowHoldsWhatOpenChannelsAreOwed(View[] memory channels) internal view {
        for (uint256 i = 0; i < tokens.length; i++) {
            _true(_held(tokens[i]) >= _owed(tokens[i], channels), "I12: the escrow holds what is owed");
        }
    }

    function nothingIsLeftOver(View[] memory channels) internal view {
        for (uint256 i = 0; i < tokens.length; i++) {
            uint256 expected = _owed(tokens[i], channels) + handler.donated(tokens[i]);
            _same(_held(tokens[i]), expected, "I12: beyond what is owed there are only gifts");
        }
    }

    // ---------------------------------------------------------------- I12: payouts, and the end of a channel

    function payoutsMakeUpTheDeposit(View memory channel) internal pure {
        uint256 paidIn = channel.tally.paidIn;
        _same(paidIn, channel.current.deposit, "I12: the deposit is what was paid in");
        _same(channel.tally.toPayee, channel.current.settled, "I12: settled is what the payee was paid");
        uint256 toPayer = channel.current.finalized ? paidIn - channel.tally.toPayee : 0;
        _same(channel.tally.toPayer, toPayer, "I12: payer and payee get the deposit, and only at the end");
    }

    function finalizedIsForEver(View memory channel) internal pure {
        _true(channel.current.finalized || !channel.before.finalized, "I12: finalized is for ever");
    }

    function aFinalizedChannelIsFrozen(View memory channel) internal pure {
        if (!channel.before.finalized) return;
        bytes32 now_ = keccak256(abi.encode(channel.current));
        _same(now_, keccak256(abi.encode(channel.before)), "I12: nothing happens to a finalized channel");
    }

    function aChannelIsPaidOutOnce(View memory channel) internal pure {
        _same(channel.tally.finals, channel.current.finalized ? 1 : 0, "I12: one final payout for each channel");
    }

    // ---------------------------------------------------------------- I1, I2

    function noMoreIsSettledThanDeposited(View memory channel) internal pure {
        _true(channel.current.settled <= channel.current.deposit, "I1: settled <= deposit");
    }

    function settledNeverDecreases(View memory channel) internal pure {
        _true(channel.current.settled >= channel.before.settled, "I2: settled never decreases");
    }

    function depositsNeverShrink(View memory channel) internal pure {
        _true(channel.current.deposit >= channel.before.deposit, "I2: deposits never shrink");
    }

    // ---------------------------------------------------------------- who is who

    function thePartiesNeverChange(View memory channel) internal pure {
        EscrowModel.Terms memory terms = channel.model.terms;
        _same(channel.current.payer, terms.payer, "parties: the payer never changes");
        _same(channel.current.payee, terms.payee, "parties: the payee never changes");
        _same(channel.current.token, terms.token, "parties: the token never changes");
        _same(channel.current.authorizedSigner, terms.authorizedSigner, "parties: the signer never changes");
    }

    /// @dev The last accounts are the bystanders.
    function bystandersGainNothing(uint256[] memory balances) internal view {
        for (uint256 i = accounts.length - bystanders; i < accounts.length; i++) {
            _true(balances[i] <= startMoney, "nobody else gains");
        }
    }

    // ---------------------------------------------------------------- I4: signatures

    function aNonceIsUsedOnce() internal view {
        _true(handler.mostUsesOfANonce() <= 1, "I4: a signed nonce, and so a signature, is used once");
    }

    function vouchersPayOnceAndNeverMoreThanSigned(View memory channel) internal pure {
        _true(
            channel.tally.toPayee <= channel.tally.highestVoucher,
            "I4: vouchers together pay what the highest one says"
        );
    }

    // ---------------------------------------------------------------- forced close

    function thirdPartiesDoNotCancelACloseRequest(View memory channel) internal pure {
        if (!channel.tally.toppedUpByAThirdParty) return;
        uint256 requestedAt = channel.before.closeRequestedAt;
        _same(channel.current.closeRequestedAt, requestedAt, "D15: a third party's top-up cancels nothing");
    }

    function theClockIsNotRestarted(View memory channel) internal pure {
        uint256 requestedAt = channel.before.closeRequestedAt;
        if (requestedAt == 0 || channel.current.closeRequestedAt == 0) return;
        _same(channel.current.closeRequestedAt, requestedAt, "close: the clock is not restarted");
    }

    // ---------------------------------------------------------------- the model

    function balancesAreWhatTheRulesMakeOfThem(address token, uint256[] memory balances) internal view {
        uint256[] memory modelled = model.balancesOf(token, accounts);
        for (uint256 i = 0; i < accounts.length; i++) {
            _same(balances[i], modelled[i], "model: the balance of an account");
        }
    }

    function theStateIsWhatTheRulesMakeOfIt(View memory channel) internal pure {
        _same(channel.current.deposit, channel.model.deposit, "model: deposit");
        _same(channel.current.settled, channel.model.settled, "model: settled");
        _same(channel.current.closeRequestedAt, channel.model.requestedAt, "model: closeRequestedAt");
        _true(channel.current.finalized == channel.model.closed, "model: finalized");
    }

    // ---------------------------------------------------------------- looking

    /// @dev One question to each, and not one for each channel: calls are what a check costs.
    function _channels() private view returns (View[] memory channels) {
        (bytes32[] memory ids, IPaymentChannelEscrow.Channel[] memory before, Stage.Tally[] memory tallies) = handler
            .records();
        EscrowModel.Channel[] memory modelled = model.channelsOf(ids);
        channels = new View[](ids.length);
        for (uint256 i = 0; i < ids.length; i++) {
            channels[i] = View(ids[i], before[i], escrow.getChannel(ids[i]), tallies[i], modelled[i]);
        }
    }

    function _balances(address token) private view returns (uint256[] memory balances) {
        balances = new uint256[](accounts.length);
        for (uint256 i = 0; i < accounts.length; i++) balances[i] = IERC20(token).balanceOf(accounts[i]);
    }

    function _held(address token) private view returns (uint256) {
        return IERC20(token).balanceOf(address(escrow));
    }

    function _owed(address token, View[] memory channels) private pure returns (uint256 owed) {
        for (uint256 i = 0; i < channels.length; i++) {
            IPaymentChannelEscrow.Channel memory channel = channels[i].current;
            if (channel.token == token && !channel.finalized) owed += channel.deposit - channel.settled;
        }
    }

    // Plain Solidity while all is well: a cheat code for each of the thousands of comparisons would take minutes.

    function _true(bool holds, string memory rule) private pure {
        if (!holds) vm.assertTrue(holds, rule);
    }

    function _same(uint256 left, uint256 right, string memory rule) private pure {
        if (left != right) vm.assertEq(left, right, rule);
    }

    function _same(address left, address right, string memory rule) private pure {
        if (left != right) vm.assertEq(left, right, rule);
    }

    function _same(bytes32 left, bytes32 right, string memory rule) private pure {
        if (left != right) vm.assertEq(left, right, rule);
    }
}
