// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IPaymentChannelEscrow} from "../../../contracts/IPaymentChannelEscrow.sol";
import {EscrowModel} from "./EscrowModel.sol";
import {Payees} from "./Payees.sol";
import {Payers} from "./Payers.sol";

/**
 * @dev Everything that may happen, in any order. What payers do is in {Payers}, what payees and their relayers do in
 * {Payees}; here are Mallory, time, the token that blocks accounts, and gifts. Each function takes one number and makes
 * one attempt, which {Stage} judges.
 */
contract EscrowHandler is Payers, Payees {
    // ---------------------------------------------------------------- Mallory

    /// @dev Mallory calls everything, of other people's channels.
    function malloryMeddles(uint256 seed) external dice(seed) {
        uint256 how = _roll(10);
        bytes32 id = _channel();
        if (how == 0) _topUp(mallory, id, _depositAmount());
        else if (how == 1) _requestClose(mallory, id);
        else if (how == 2) _withdraw(mallory, _closingChannel());
        else if (how == 3) _settleMany(mallory);
        else if (how == 4) _closeMany(mallory);
        else if (how < 7) _useConsentForTheOther(mallory);
        else _malloryShowsAVoucher(how == 7);
    }

    function _malloryShowsAVoucher(bool settles) private {
        (bytes32 id, uint128 amount, bytes memory signature, bool genuine) = _anyVoucher();
        if (settles) _settle(mallory, id, amount, signature, genuine);
        else _close(mallory, id, amount, signature, genuine);
    }

    /// @dev Mallory has seen a payer's signature before it was used, and opens another channel with it.
    function malloryRunsInFront(uint256 seed) external dice(seed) {
        EscrowModel.Terms memory meant = _terms();
        Deposit memory deposit = _newDeposit(meant.token, meant.payer);
        bool byPermit = _roll(2) == 0;
        deposit.nonce = byPermit ? _roll(40) : uint256(_openNonce(meant));
        if (byPermit) _signOpenPermit(meant, deposit);
        else _signAuthorization(deposit);

        EscrowModel.Terms memory twisted = meant;
        uint256 how = _roll(5);
        if (how == 0) twisted.payee = mallory;
        else if (how == 1) twisted.authorizedSigner = mallory;
        else if (how == 2) twisted.salt = ~meant.salt;
        else if (how == 3) twisted.payer = mallory;
        else twisted.token = address(tokens[0]) == meant.token ? address(tokens[1]) : address(tokens[0]);
        if (!byPermit && _roll(2) == 0) deposit.nonce = uint256(_openNonce(twisted));
        deposit.genuine = false;
        if (byPermit) _openWithPermit2(mallory, twisted, deposit);
        else _openWithAuthorization(mallory, twisted, deposit);
    }

    /// @dev Anything that was ever submitted is submitted again, by Mallory or by anyone. Opening by allowance makes a
    /// channel of the sender's own: nobody but Mallory does that on her suggestion, so that nobody pays her of free will.
    function malloryReplays(uint256 seed) external dice(seed) {
        if (attempts.length == 0) return;
        Attempt memory attempt = attempts[_roll(attempts.length)];
        bool opens = bytes4(attempt.toEscrow) == IPaymentChannelEscrow.open.selector;
        if (_roll(3) != 0) attempt.sender = opens || _roll(2) == 0 ? mallory : _anyone();
        attempt.what = string.concat("replayed ", attempt.what);
        _make(attempt);
    }

    /// @dev Mallory has a channel with herself, among the others' money. She pays, is paid and signs as anyone does.
    function malloryOpensHerOwn(uint256 seed) external dice(seed) {
        EscrowModel.Terms memory terms = _terms();
        (terms.payer, terms.payee, terms.authorizedSigner) = (mallory, mallory, address(0));
        _open(mallory, terms, _depositAmount());
    }

    // ---------------------------------------------------------------- the world

    /// @dev A few minutes, or to the second before, in, or after that in which somebody may withdraw.
    function passTime(uint256 seed) external dice(seed) {
        bytes32 id = _closingChannel();
        uint256 readyAt = _stateOf(id).requestedAt + GRACE - 1 + _roll(3);
        _passTime(readyAt > clock && _roll(2) == 0 ? readyAt : clock + _roll(5 minutes));
    }

    /// @dev Accounts are put on the token's list, and taken off it a little more often. The escrow itself not for long.
    function blockOrUnblock(uint256 seed) external dice(seed) {
        _setBlocked(address(escrow), _roll(12) == 0);
        address account =
            _roll(3) == 0
                ? _anyone()
                : _roll(2) == 0
                    ? _one(payers)
                    : _one(payees);
        _setBlocked(account, _roll(5) < 2);
    }

    function _setBlocked(address account, bool isBlocked) private {
        blocklist.setBlocked(account, isBlocked);
        model.setBlocked(address(blocklist), account, isBlocked);
    }

    /// @dev Tokens that nobody asked for.
    function donate(uint256 seed) external dice(seed) {
        address donor = _anyone();
        uint256 which = _roll(tokens.length);
        uint256 amount = _roll(1_000_000);
        vm.prank(donor);
        (bool allowed, ) = address(model).call(
            abi.encodeCall(EscrowModel.transfer, (address(tokens[which]), address(escrow), amount))
        );
        if (!allowed) return;
        vm.prank(donor);
        tokens[which].transfer(address(escrow), amount);
        donated[address(tokens[which])] += amount;
        somethingHappened = true;
    }

    // ---------------------------------------------------------------- the end

    /// @dev Nobody is blocked any more, and every payer leaves without anybody's help.
    function everyoneLeaves() external {
        for (uint256 i = 0; i < everyone.length; i++) _setBlocked(everyone[i], false);
        _setBlocked(address(escrow), false);
        for (uint256 i = 0; i < ids.length; i++) {
            EscrowModel.Channel memory channel = _stateOf(ids[i]);
            if (!channel.closed) _requestClose(channel.terms.payer, ids[i]);
        }
        _passTime(clock + GRACE);
        for (uint256 i = 0; i < ids.length; i++) {
            EscrowModel.Channel memory channel = _stateOf(ids[i]);
            if (!channel.closed) _withdraw(channel.terms.payer, ids[i]);
        }
    }

    // ---------------------------------------------------------------- for the invariants

    /// @dev What the runner may call, in any order.
    function actions() external pure returns (bytes4[] memory selectors) {
        selectors = new bytes4[](21);
        selectors[0] = this.open.selector;
        selectors[1] = this.openWithAuthorization.selector;
        selectors[2] = this.openWithPermit2.selector;
        selectors[3] = this.topUp.selector;
        selectors[4] = this.topUpWithAuthorization.selector;
        selectors[5] = this.topUpWithPermit2.selector;
        selectors[6] = this.requestClose.selector;
        selectors[7] = this.withdraw.selector;
        selectors[8] = this.settle.selector;
        selectors[9] = this.close.selector;
        selectors[10] = this.settleMany.selector;
        selectors[11] = this.closeMany.selector;
        selectors[12] = this.settleWithAuthorization.selector;
        selectors[13] = this.closeWithAuthorization.selector;
        selectors[14] = this.malloryMeddles.selector;
        selectors[15] = this.malloryRunsInFront.selector;
        selectors[16] = this.malloryReplays.selector;
        selectors[17] = this.malloryOpensHerOwn.selector;
        selectors[18] = this.passTime.selector;
        selectors[19] = this.blockOrUnblock.selector;
        selectors[20] = this.donate.selector;
    }

    /// @dev Who is who; the last of the accounts are the bystanders.
    function cast()
        external
        view
        returns (IPaymentChannelEscrow, EscrowModel, address[] memory, address[] memory, uint256, uint256)
    {
        address[] memory tokenList = new address[](tokens.length);
        for (uint256 i = 0; i < tokens.length; i++) tokenList[i] = address(tokens[i]);
        return (escrow, model, tokenList, everyone, BYSTANDERS, START_MONEY);
    }
}
