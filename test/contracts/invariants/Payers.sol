// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IPaymentChannelEscrow} from "../../../contracts/IPaymentChannelEscrow.sol";
import {IRelayedProfile} from "../../../contracts/IRelayedProfile.sol";
import {EscrowModel} from "./EscrowModel.sol";
import {Deposits} from "./Deposits.sol";

/// @dev Those who open, top up and leave: out of an allowance, by EIP-3009, by Permit2, by the forced close.
abstract contract Payers is Deposits {
    // ---------------------------------------------------------------- opening

    function open(uint256 seed) external dice(seed) {
        EscrowModel.Terms memory terms = _terms();
        _open(terms.payer, terms, _depositAmount());
    }

    function openWithAuthorization(uint256 seed) external dice(seed) {
        EscrowModel.Terms memory terms = _terms();
        Deposit memory deposit = _newDeposit(terms.token, terms.payer);
        deposit.nonce = uint256(_openNonce(terms));
        _signAuthorization(deposit);
        _spoil(deposit);
        _openWithAuthorization(_anyone(), terms, deposit);
    }

    function openWithPermit2(uint256 seed) external dice(seed) {
        EscrowModel.Terms memory terms = _terms();
        Deposit memory deposit = _newDeposit(terms.token, terms.payer);
        deposit.nonce = _roll(40);
        _signOpenPermit(terms, deposit);
        _spoil(deposit);
        _openWithPermit2(_anyone(), terms, deposit);
    }

    function _open(address sender, EscrowModel.Terms memory terms, uint128 amount) internal {
        _attempt(
            "open",
            sender,
            abi.encodeCall(
                IPaymentChannelEscrow.open,
                (terms.payee, terms.token, amount, terms.salt, terms.authorizedSigner)
            ),
            abi.encodeCall(EscrowModel.open, (terms, amount))
        );
    }

    function _openWithAuthorization(address sender, EscrowModel.Terms memory terms, Deposit memory deposit) internal {
        _attempt(
            "openWithAuthorization",
            sender,
            abi.encodeCall(
                IRelayedProfile.openWithAuthorization,
                (
                    terms.payee,
                    terms.token,
                    deposit.amount,
                    terms.salt,
                    terms.authorizedSigner,
                    terms.payer,
                    deposit.validAfter,
                    deposit.until,
                    bytes32(deposit.nonce),
                    deposit.signature
                )
            ),
            abi.encodeCall(EscrowModel.openFor, (terms, deposit.amount, _authorizationRules(deposit))),
            _authorizationRules(deposit).once
        );
    }

    function _openWithPermit2(address sender, EscrowModel.Terms memory terms, Deposit memory deposit) internal {
        _attempt(
            "openWithPermit2",
            sender,
            abi.encodeCall(
                IRelayedProfile.openWithPermit2,
                (
                    terms.payee,
                    terms.token,
                    deposit.amount,
                    terms.salt,
                    terms.authorizedSigner,
                    terms.payer,
                    deposit.nonce,
                    deposit.until,
                    deposit.signature
                )
            ),
            abi.encodeCall(EscrowModel.openFor, (terms, deposit.amount, _permitRules(deposit))),
            _permitRules(deposit).once
        );
    }

    // ---------------------------------------------------------------- topping up

    function topUp(uint256 seed) external dice(seed) {
        bytes32 id = _channel();
        _topUp(_mostly(_termsOf(id).payer), id, _depositAmount());
    }

    function topUpWithAuthorization(uint256 seed) external dice(seed) {
        bytes32 id = _channel();
        bytes32 salt = bytes32(_roll(3));
        Deposit memory deposit = _newDeposit(_termsOf(id).token, _funder(id));
        deposit.nonce = uint256(keccak256(abi.encode(id, deposit.amount, deposit.from, salt)));
        _signAuthorization(deposit);
        _spoil(deposit);
        _topUpWithAuthorization(_anyone(), id, salt, deposit);
    }

    function topUpWithPermit2(uint256 seed) external dice(seed) {
        bytes32 id = _channel();
        Deposit memory deposit = _newDeposit(_termsOf(id).token, _funder(id));
        deposit.nonce = _roll(40);
        _signTopUpPermit(id, deposit);
        _spoil(deposit);
        _topUpWithPermit2(_anyone(), id, deposit);
    }

    function _topUp(address sender, bytes32 id, uint128 amount) internal {
        _attempt(
            "topUp",
            sender,
            abi.encodeCall(IPaymentChannelEscrow.topUp, (id, amount)),
            abi.encodeCall(EscrowModel.topUp, (id, amount))
        );
    }

    function _topUpWithAuthorization(address sender, bytes32 id, bytes32 salt, Deposit memory deposit) internal {
        bool byPayer = deposit.from == _termsOf(id).payer;
        _attempt(
            byPayer ? "topUpWithAuthorization" : "topUpWithAuthorization, by a third party",
            sender,
            abi.encodeCall(
                IRelayedProfile.topUpWithAuthorization,
                (
                    id,
                    deposit.amount,
                    deposit.from,
                    salt,
                    deposit.validAfter,
                    deposit.until,
                    bytes32(deposit.nonce),
                    deposit.signature
                )
            ),
            abi.encodeCall(EscrowModel.topUpFor, (id, deposit.from, deposit.amount, _authorizationRules(deposit))),
            _authorizationRules(deposit).once
        );
    }

    function _topUpWithPermit2(address sender, bytes32 id, Deposit memory deposit) internal {
        bool byPayer = deposit.from == _termsOf(id).payer;
        _attempt(
            byPayer ? "topUpWithPermit2" : "topUpWithPermit2, by a third party",
            sender,
            abi.encodeCall(
                IRelayedProfile.topUpWithPermit2,
                (id, deposit.amount, deposit.from, deposit.nonce, deposit.until, deposit.signature)
            ),
            abi.encodeCall(EscrowModel.topUpFor, (id, deposit.from, deposit.amount, _permitRules(deposit))),
            _permitRules(deposit).once
        );
    }

    // ---------------------------------------------------------------- leaving

    function requestClose(uint256 seed) external dice(seed) {
        bytes32 id = _channel();
        _requestClose(_mostly(_termsOf(id).payer), id);
    }

    function withdraw(uint256 seed) external dice(seed) {
        bytes32 id = _roll(4) == 0 ? _channel() : _closingChannel();
        _withdraw(_mostly(_termsOf(id).payer), id);
    }

    function _requestClose(address sender, bytes32 id) internal {
        _attempt(
            "requestClose",
            sender,
            abi.encodeCall(IPaymentChannelEscrow.requestClose, (id)),
            abi.encodeCall(EscrowModel.requestClose, (id))
        );
    }

    function _withdraw(address sender, bytes32 id) internal {
        _attempt(
            "withdraw",
            sender,
            abi.encodeCall(IPaymentChannelEscrow.withdraw, (id)),
            abi.encodeCall(EscrowModel.withdraw, (id))
        );
    }
}
