// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchSettlement} from "../../../contracts/IBatchSettlement.sol";
import {IPaymentChannelEscrow} from "../../../contracts/IPaymentChannelEscrow.sol";
import {IRelayedProfile} from "../../../contracts/IRelayedProfile.sol";
import {Choices} from "./Choices.sol";
import {EscrowModel} from "./EscrowModel.sol";

/// @dev Those who redeem and close: themselves, in batches, or through anyone who carries their authorization.
abstract contract Payees is Choices {
    bytes32 private constant SETTLE_AUTHORIZATION = keccak256(
        "SettleAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)"
    );
    bytes32 private constant CLOSE_AUTHORIZATION = keccak256(
        "CloseAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)"
    );

    /// @dev A payee's consent to settle or close, as somebody submits it.
    struct Consent {
        bytes32 id;
        uint128 amount;
        uint256 nonce;
        uint256 deadline;
        bytes signature;
        bool genuine;
    }

    // ---------------------------------------------------------------- one channel

    function settle(uint256 seed) external dice(seed) {
        (bytes32 id, uint128 amount, bytes memory signature, bool genuine) = _anyVoucher();
        _settle(_mostly(_termsOf(id).payee), id, amount, signature, genuine);
    }

    function close(uint256 seed) external dice(seed) {
        (bytes32 id, uint128 amount, bytes memory signature, bool genuine) = _anyVoucher();
        _close(_mostly(_termsOf(id).payee), id, amount, signature, genuine);
    }

    /// @dev A new one, or one time in five an old one, shown for its own channel or for another.
    function _anyVoucher() internal returns (bytes32 id, uint128 amount, bytes memory signature, bool genuine) {
        if (vouchers.length != 0 && _roll(5) == 0) {
            Voucher memory old = vouchers[_roll(vouchers.length)];
            id = _roll(3) == 0 ? _channel() : old.id;
            return (id, old.amount, old.signature, id == old.id);
        }
        id = _channel();
        amount = _voucherAmount(id);
        (signature, genuine) = _voucher(id, amount);
    }

    function _settle(address sender, bytes32 id, uint128 amount, bytes memory signature, bool genuine) internal {
        _attempt(
            "settle",
            sender,
            abi.encodeCall(IPaymentChannelEscrow.settle, (id, amount, signature)),
            abi.encodeCall(EscrowModel.settle, (id, amount, genuine))
        );
    }

    function _close(address sender, bytes32 id, uint128 amount, bytes memory signature, bool genuine) internal {
        _attempt(
            "close",
            sender,
            abi.encodeCall(IPaymentChannelEscrow.close, (id, amount, signature)),
            abi.encodeCall(EscrowModel.close, (id, amount, genuine))
        );
    }

    // ---------------------------------------------------------------- batches

    function settleMany(uint256 seed) external dice(seed) {
        address sender = _roll(12) == 0 ? _anyone() : _one(payees);
        _settleMany(sender);
    }

    function closeMany(uint256 seed) external dice(seed) {
        address sender = _roll(12) == 0 ? _anyone() : _one(payees);
        _closeMany(sender);
    }

    function _settleMany(address sender) internal {
        (IBatchSettlement.SignedVoucher[] memory rows, EscrowModel.Row[] memory modelRows) = _rows(sender);
        _attempt(
            "settleMany",
            sender,
            abi.encodeCall(IBatchSettlement.settleMany, (rows)),
            abi.encodeCall(EscrowModel.settleMany, (modelRows))
        );
    }

    function _closeMany(address sender) internal {
        (IBatchSettlement.SignedVoucher[] memory rows, EscrowModel.Row[] memory modelRows) = _rows(sender);
        _attempt(
            "closeMany",
            sender,
            abi.encodeCall(IBatchSettlement.closeMany, (rows)),
            abi.encodeCall(EscrowModel.closeMany, (modelRows))
        );
    }

    /// @dev Up to five rows, mostly of channels that pay the sender, some of them twice.
    function _rows(
        address sender
    ) private returns (IBatchSettlement.SignedVoucher[] memory rows, EscrowModel.Row[] memory modelRows) {
        uint256 count = _roll(6);
        rows = new IBatchSettlement.SignedVoucher[](count);
        modelRows = new EscrowModel.Row[](count);
        for (uint256 i = 0; i < count; i++) {
            bytes32 id = _roll(8) == 0 ? _channel() : _channelThatPays(sender);
            uint128 amount = _voucherAmount(id);
            (bytes32 r, bytes32 vs, bool genuine) = _row(id, amount);
            rows[i] = IBatchSettlement.SignedVoucher(id, amount, r, vs);
            modelRows[i] = EscrowModel.Row(id, amount, genuine);
        }
    }

    // ---------------------------------------------------------------- by authorization

    function settleWithAuthorization(uint256 seed) external dice(seed) {
        (bytes32 id, uint128 amount, bytes memory signature, bool genuine) = _anyVoucher();
        _settleWithAuthorization(_anyone(), _consent(SETTLE_AUTHORIZATION, id, amount), signature, genuine);
    }

    function closeWithAuthorization(uint256 seed) external dice(seed) {
        (bytes32 id, uint128 amount, bytes memory signature, bool genuine) = _anyVoucher();
        _closeWithAuthorization(_anyone(), _consent(CLOSE_AUTHORIZATION, id, amount), signature, genuine);
    }

    /// @dev Mallory has the payee's consent to the one and uses it for the other.
    function _useConsentForTheOther(address sender) internal {
        (bytes32 id, uint128 amount, bytes memory signature, bool genuine) = _anyVoucher();
        bool toClose = _roll(2) == 0;
        Consent memory consent = _consent(toClose ? SETTLE_AUTHORIZATION : CLOSE_AUTHORIZATION, id, amount);
        consent.genuine = false;
        if (toClose) _closeWithAuthorization(sender, consent, signature, genuine);
        else _settleWithAuthorization(sender, consent, signature, genuine);
    }

    function _settleWithAuthorization(
        address sender,
        Consent memory consent,
        bytes memory signature,
        bool genuine
    ) internal {
        _attempt(
            "settleWithAuthorization",
            sender,
            abi.encodeCall(
                IRelayedProfile.settleWithAuthorization,
                (consent.id, consent.amount, consent.nonce, consent.deadline, consent.signature, signature)
            ),
            abi.encodeCall(EscrowModel.settleFor, (consent.id, consent.amount, genuine, _consentRules(consent))),
            _consentRules(consent).once
        );
    }

    function _closeWithAuthorization(
        address sender,
        Consent memory consent,
        bytes memory signature,
        bool genuine
    ) internal {
        _attempt(
            "closeWithAuthorization",
            sender,
            abi.encodeCall(
                IRelayedProfile.closeWithAuthorization,
                (consent.id, consent.amount, consent.nonce, consent.deadline, consent.signature, signature)
            ),
            abi.encodeCall(EscrowModel.closeFor, (consent.id, consent.amount, genuine, _consentRules(consent))),
            _consentRules(consent).once
        );
    }

    /// @dev Few nonces and near deadlines, so that both are met again; one time in five it is not what was signed.
    function _consent(bytes32 typeHash, bytes32 id, uint128 amount) private returns (Consent memory consent) {
        consent = Consent(id, amount, _roll(5) << (_roll(2) * 8), clock + 1 hours, "", true);
        if (_roll(4) == 0) consent.deadline = clock - 1 + _roll(3);
        address payee_ = _termsOf(id).payee;
        if (payee_ == address(0)) return consent; // of a channel that does not exist
        bytes32 structHash = keccak256(abi.encode(typeHash, id, amount, consent.nonce, consent.deadline));
        consent.signature = _sign(payee_, _typed(domainOf(address(escrow)), structHash));

        uint256 flaw = _roll(25);
        if (flaw > 4) return consent;
        consent.genuine = false;
        if (flaw == 0) consent.signature = _flip(consent.signature, _roll(520));
        else if (flaw == 1) consent.nonce ^= 1 << _roll(256);
        else if (flaw == 2) consent.deadline += 1;
        else if (flaw == 3) consent.signature = _sign(mallory, _typed(domainOf(address(escrow)), structHash));
        else consent.signature = _sign(_termsOf(id).payer, _typed(domainOf(address(escrow)), structHash));
        if (
            flaw > 2 &&
            keccak256(consent.signature) == keccak256(_sign(payee_, _typed(domainOf(address(escrow)), structHash)))
        ) {
            consent.genuine = true; // payer and payee are one
        }
    }

    function _consentRules(Consent memory consent) private pure returns (EscrowModel.Funding memory) {
        return
            EscrowModel.Funding({
                once: keccak256(abi.encode("payee", consent.id, consent.nonce)),
                firstSecond: 0,
                lastSecond: consent.deadline,
                genuine: consent.genuine
            });
    }
}
