// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {EscrowModel} from "./EscrowModel.sol";
import {Stage} from "./Stage.sol";

/// @dev What is left to chance: which channel, who, how much, and what is wrong with it.
abstract contract Choices is Stage {
    struct Voucher {
        bytes32 id;
        uint128 amount;
        bytes signature;
    }

    uint256 private _dice;

    /// @dev Every genuine voucher that was ever signed.
    Voucher[] internal vouchers;

    /// @dev One number decides everything about an action, so that a run can be repeated, and shrunk, by its seeds.
    modifier dice(uint256 seed) {
        _dice = seed;
        _;
    }

    function _roll(uint256 sides) internal returns (uint256) {
        _dice = uint256(keccak256(abi.encode(_dice)));
        return _dice % sides;
    }

    function _one(address[] storage of_) internal returns (address) {
        return of_[_roll(of_.length)];
    }

    function _anyone() internal returns (address) {
        return _one(everyone);
    }

    /// @dev The one who may, seven times in eight.
    function _mostly(address rightful) internal returns (address) {
        return _roll(8) == 0 ? _anyone() : rightful;
    }

    // ---------------------------------------------------------------- channels

    /// @dev A channel, now and then one that does not exist, and rather an open one.
    function _channel() internal returns (bytes32 id) {
        if (ids.length == 0 || _roll(30) == 0) return keccak256(abi.encode("nobody opened this", _roll(2)));
        for (uint256 i = 0; i < 3; i++) {
            id = ids[_roll(ids.length)];
            if (tallies_[id].finals == 0) break;
        }
    }

    /// @dev A channel of which a close is pending, if there is one.
    function _closingChannel() internal returns (bytes32 id) {
        id = _channel();
        EscrowModel.Channel[] memory channels = model.channelsOf(ids);
        uint256 first = _roll(ids.length + 1);
        for (uint256 i = 0; i < ids.length; i++) {
            EscrowModel.Channel memory channel = channels[(first + i) % ids.length];
            if (!channel.closed && channel.requestedAt != 0) return ids[(first + i) % ids.length];
        }
    }

    /// @dev An open channel in which this account is paid, if there is one.
    function _channelThatPays(address payee_) internal returns (bytes32 id) {
        id = _channel();
        uint256 first = _roll(ids.length + 1);
        for (uint256 i = 0; i < ids.length; i++) {
            bytes32 other = ids[(first + i) % ids.length];
            if (tallies_[other].finals == 0 && _termsOf(other).payee == payee_) return other;
        }
    }

    function _stateOf(bytes32 id) internal view returns (EscrowModel.Channel memory) {
        return model.channelOf(id);
    }

    function _termsOf(bytes32 id) internal view returns (EscrowModel.Terms memory) {
        return termsOf_[id];
    }

    function _signerOf(bytes32 id) internal view returns (address) {
        EscrowModel.Terms memory terms = _termsOf(id);
        return terms.authorizedSigner == address(0) ? terms.payer : terms.authorizedSigner;
    }

    /// @dev Of so few that the same come up again, also when their channel is long closed.
    function _terms() internal returns (EscrowModel.Terms memory terms) {
        terms.payer = _one(payers);
        terms.payee = _one(payees);
        terms.token = address(tokens[_roll(tokens.length)]);
        terms.salt = bytes32(_roll(2));
        uint256 signer = _roll(6);
        if (signer < 2) terms.authorizedSigner = delegates[signer];
        else if (signer == 2) terms.authorizedSigner = terms.payer; // another channel than with nobody named
    }

    /// @dev The payer one time in two, anyone who has money otherwise. Nobody makes Mallory a present.
    function _funder(bytes32 id) internal returns (address) {
        address payer_ = _termsOf(id).payer;
        return payer_ == mallory || _roll(2) == 0 ? payer_ : _anyone();
    }

    // ---------------------------------------------------------------- amounts

    function _depositAmount() internal returns (uint128) {
        uint256 how = _roll(20);
        if (how == 0) return 0;
        if (how == 1) return type(uint128).max - uint128(_roll(3));
        if (how == 2) return uint128(2 ** 127);
        if (how == 3) return 1;
        return uint128(1 + _roll(10_000_000));
    }

    /// @dev Mostly more than was settled and covered by the deposit; else at, or beyond, a boundary.
    function _voucherAmount(bytes32 id) internal returns (uint128) {
        EscrowModel.Channel memory channel = _stateOf(id);
        uint256 how = _roll(16);
        if (how == 0) return uint128(channel.settled);
        if (how == 1) return uint128(channel.deposit);
        if (how == 2 && channel.deposit < type(uint128).max) return uint128(channel.deposit + 1);
        if (how == 3) return uint128(_roll(channel.settled + 1));
        if (how == 4) return uint128(_roll(2 ** 128));
        uint256 left = channel.deposit - channel.settled;
        if (left == 0) return uint128(channel.settled);
        return uint128(channel.settled + 1 + _roll(how < 12 ? left / 4 + 1 : left));
    }

    // ---------------------------------------------------------------- vouchers

    /// @dev A voucher for this channel and amount; one time in six it is not what it should be.
    function _voucher(bytes32 id, uint128 amount) internal returns (bytes memory signature, bool genuine) {
        address signer = _signerOf(id);
        if (signer == address(0)) return ("", false);
        bytes32 digest = voucherDigest(id, amount);
        uint256 flaw = _roll(36);
        if (flaw == 0) return (_flip(_sign(signer, digest), _roll(520)), false);
        if (flaw == 1) signer = mallory;
        if (flaw == 6) signer = _termsOf(id).payer; // who is not asked where somebody else was named
        if (flaw == 2) return (_sign(signer, voucherDigest(id, amount ^ uint128(1 << _roll(128)))), false);
        if (flaw == 3) return (_sign(signer, voucherDigest(bytes32(uint256(id) ^ (1 << _roll(256))), amount)), false);
        if (flaw == 4) return (_signHigh(signer, digest), false);
        if (flaw == 5) return ("", false);
        signature = _sign(signer, digest);
        genuine = signer == _signerOf(id);
        if (!genuine) return (signature, false);
        vouchers.push(Voucher(id, amount, signature));
        _noteVoucher(id, amount);
    }

    /// @dev The same, as a row of a batch, where a contract's signature is never good.
    function _row(bytes32 id, uint128 amount) internal returns (bytes32 r, bytes32 vs, bool genuine) {
        address signer = _signerOf(id);
        if (signer == address(0)) return (r, vs, false);
        uint256 flaw = _roll(24);
        if (flaw == 3) signer = mallory;
        if (flaw == 4) signer = _termsOf(id).payer;
        (r, vs, genuine) = _signCompact(signer, voucherDigest(id, amount));
        genuine = genuine && signer == _signerOf(id);
        if (flaw == 0) return (r ^ bytes32(1 << _roll(256)), vs, false);
        if (flaw == 1) return (r, vs ^ bytes32(1 << _roll(256)), false);
        if (flaw == 2) return (0, 0, false);
        if (genuine) _noteVoucher(id, amount);
    }

    function _noteVoucher(bytes32 id, uint128 amount) private {
        if (amount > tallies_[id].highestVoucher) tallies_[id].highestVoucher = amount;
    }
}
