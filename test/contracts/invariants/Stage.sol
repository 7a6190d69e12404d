// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrowErrors} from "../../../contracts/IEscrowErrors.sol";
import {IEscrowEvents} from "../../../contracts/IEscrowEvents.sol";
import {IPaymentChannelEscrow} from "../../../contracts/IPaymentChannelEscrow.sol";
import {Vm} from "../support/Vm.sol";
import {Cast} from "./Cast.sol";
import {EscrowModel} from "./EscrowModel.sol";

/**
 * @dev Where every attempt is made: at the escrow and at the model, by the same sender. Both must take it or both must
 * refuse it. What a call did is then taken down from the escrow's events and the tokens' balances, not from its storage,
 * for the invariants to compare with.
 */
abstract contract Stage is Cast {
    /// @dev A call that somebody makes; kept so that Mallory can make it again.
    struct Attempt {
        string what;
        address sender;
        bytes toEscrow;
        bytes toModel;
        /// @dev The nonce that somebody signed for this, with whose it is and where; zero if there is none.
        bytes32 once;
    }

    /// @dev What the events of a channel add up to.
    struct Tally {
        address token;
        uint256 paidIn;
        uint256 toPayee;
        uint256 toPayer;
        /// @dev How often it was finalized.
        uint256 finals;
        /// @dev The largest genuine voucher that was ever signed for it.
        uint256 highestVoucher;
        /// @dev Whether the latest attempt brought it somebody else's money.
        bool toppedUpByAThirdParty;
    }

    bytes32[] internal ids;
    mapping(bytes32 id => Tally) internal tallies_;
    /// @dev What a channel was opened with.
    mapping(bytes32 id => EscrowModel.Terms) internal termsOf_;
    /// @dev Every channel as it was before the latest attempt.
    mapping(bytes32 id => IPaymentChannelEscrow.Channel) private _before;
    mapping(bytes32 id => bytes32) private _beforeHash;
    mapping(bytes32 nonce => uint256) private _uses;
    uint256 public mostUsesOfANonce;
    /// @dev Whether the latest action changed anything at all.
    bool public somethingHappened;
    bytes32 private _toppedUp;

    mapping(address token => uint256) public donated;
    mapping(string what => uint256) public taken;
    mapping(string what => uint256) public refused;

    Attempt[] internal attempts;

    function records()
        external
        view
        returns (bytes32[] memory, IPaymentChannelEscrow.Channel[] memory before, Tally[] memory tallies)
    {
        before = new IPaymentChannelEscrow.Channel[](ids.length);
        tallies = new Tally[](ids.length);
        for (uint256 i = 0; i < ids.length; i++) (before[i], tallies[i]) = (_before[ids[i]], tallies_[ids[i]]);
        return (ids, before, tallies);
    }

    // ---------------------------------------------------------------- attempts

    function _attempt(string memory what, address sender, bytes memory toEscrow, bytes memory toModel) internal {
        _attempt(what, sender, toEscrow, toModel, 0);
    }

    function _attempt(
        string memory what,
        address sender,
        bytes memory toEscrow,
        bytes memory toModel,
        bytes32 once
    ) internal {
        Attempt memory attempt = Attempt(what, sender, toEscrow, toModel, once);
        attempts.push(attempt);
        _make(attempt);
    }

    function _make(Attempt memory attempt) internal {
        _passTime(clock);
        if (somethingHappened) _look();
        somethingHappened = false;
        uint256[] memory held = _held();

        vm.prank(attempt.sender);
        (bool allowed, bytes memory expected) = address(model).call(attempt.toModel);

        vm.recordLogs();
        vm.prank(attempt.sender);
        (bool ok, bytes memory returned) = address(escrow).call(attempt.toEscrow);
        Vm.Log[] memory logs = vm.getRecordedLogs();

        if (ok != allowed) {
            vm.assertFalse(ok, string.concat("taken against the rules: ", attempt.what));
            vm.assertTrue(ok, string.concat("refused against the rules: ", attempt.what));
        }
        if (!ok) {
            refused[attempt.what]++;
            return;
        }
        vm.assertEq(keccak256(returned), keccak256(expected), string.concat("what is returned: ", attempt.what));
        somethingHappened = true;
        taken[attempt.what]++;
        if (attempt.once != 0 && ++_uses[attempt.once] > mostUsesOfANonce) {
            mostUsesOfANonce = _uses[attempt.once];
        }
        _read(logs, held);
    }

    /// @dev Remembers every channel as it stands. Written only where something changed, which is cheap.
    function _look() private {
        delete tallies_[_toppedUp].toppedUpByAThirdParty;
        for (uint256 i = 0; i < ids.length; i++) {
            IPaymentChannelEscrow.Channel memory channel = escrow.getChannel(ids[i]);
            bytes32 hash = keccak256(abi.encode(channel));
            if (_beforeHash[ids[i]] == hash) continue;
            (_beforeHash[ids[i]], _before[ids[i]]) = (hash, channel);
        }
    }

    function _held() private view returns (uint256[] memory held) {
        held = new uint256[](tokens.length);
        for (uint256 i = 0; i < tokens.length; i++) held[i] = tokens[i].balanceOf(address(escrow));
    }

    // ---------------------------------------------------------------- what the events say

    /// @dev Adds up the escrow's events; together they must say what the escrow's balances say.
    function _read(Vm.Log[] memory logs, uint256[] memory held) private {
        for (uint256 i = 0; i < logs.length; i++) {
            if (logs[i].emitter != address(escrow)) continue;
            (bytes32 id, uint256 paidIn, uint256 paidOut) = _readOne(logs[i]);
            for (uint256 k = 0; k < tokens.length; k++) {
                if (address(tokens[k]) == tallies_[id].token) held[k] = held[k] + paidIn - paidOut;
            }
        }
        for (uint256 k = 0; k < tokens.length; k++) {
            vm.assertEq(tokens[k].balanceOf(address(escrow)), held[k], "events: they say what the balances say");
        }
    }

    function _readOne(Vm.Log memory log) private returns (bytes32 id, uint256 paidIn, uint256 paidOut) {
        id = log.topics[1];
        Tally storage tally = tallies_[id];
        bytes32 kind = log.topics[0];
        uint256 refund = 0;
        if (kind == IEscrowEvents.ChannelOpened.selector) {
            (tally.token, , , paidIn) = abi.decode(log.data, (address, address, bytes32, uint256));
            termsOf_[id] = model.channelOf(id).terms;
            ids.push(id);
        } else if (kind == IEscrowEvents.ToppedUp.selector) {
            address funder;
            (funder, paidIn, ) = abi.decode(log.data, (address, uint256, uint256));
            tally.toppedUpByAThirdParty = funder != termsOf_[id].payer;
            _toppedUp = id;
        } else if (kind == IEscrowEvents.Settled.selector) {
            (, paidOut) = abi.decode(log.data, (uint256, uint256));
        } else if (kind == IEscrowEvents.ChannelClosed.selector) {
            (, paidOut, refund) = abi.decode(log.data, (uint256, uint256, uint256));
            tally.finals++;
        } else if (kind == IEscrowEvents.Withdrawn.selector) {
            (, refund) = abi.decode(log.data, (uint256, uint256));
            tally.finals++;
        }
        if (kind == IEscrowEvents.SettlementSkipped.selector) _noteSkip(abi.decode(log.data, (bytes)));
        tally.paidIn += paidIn;
        tally.toPayee += paidOut;
        tally.toPayer += refund;
        paidOut += refund;
    }

    /// @dev Counted, so that it is seen to happen.
    function _noteSkip(bytes memory reason) private {
        if (bytes4(reason) == IEscrowErrors.RefundRefused.selector) taken["a refund refused within a batch"]++;
        else refused["a row of a batch"]++;
    }
}
