// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IPaymentChannelEscrow} from "../../../contracts/IPaymentChannelEscrow.sol";
import {Choices} from "./Choices.sol";
import {EscrowModel} from "./EscrowModel.sol";

/// @dev Deposits by signature: how they are drawn up and signed, and what can be wrong with them.
abstract contract Deposits is Choices {
    bytes32 private constant RECEIVE = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    bytes32 private constant TOKEN_PERMISSIONS = keccak256("TokenPermissions(address token,uint256 amount)");
    string private constant PERMIT_STUB =
        "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,";
    string private constant PERMIT_OPEN =
        "ChannelOpenWitness witness)ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)TokenPermissions(address token,uint256 amount)";
    string private constant PERMIT_TOP_UP =
        "ChannelTopUpWitness witness)ChannelTopUpWitness(bytes32 channelId)TokenPermissions(address token,uint256 amount)";

    /// @dev An EIP-3009 authorization or a Permit2 permit, as somebody submits it.
    struct Deposit {
        address token;
        address from;
        uint128 amount;
        uint256 validAfter; // EIP-3009 only
        uint256 until; // EIP-3009: the first second it is no longer good; Permit2: the last one it is
        uint256 nonce;
        bytes signature;
        bool genuine;
    }

    function _newDeposit(address money, address from) internal returns (Deposit memory deposit) {
        deposit.token = money;
        deposit.from = from;
        deposit.amount = _depositAmount();
        deposit.validAfter = _roll(3) == 0 ? clock - 1 + _roll(3) : 0;
        deposit.until = _roll(3) == 0 ? clock - 1 + _roll(3) : clock + 1 hours;
        deposit.genuine = true;
    }

    function _openNonce(EscrowModel.Terms memory terms) internal pure returns (bytes32) {
        return keccak256(abi.encode(terms.payer, terms.payee, terms.token, terms.salt, terms.authorizedSigner));
    }

    function _signAuthorization(Deposit memory deposit) internal view {
        bytes32 structHash = keccak256(
            abi.encode(
                RECEIVE,
                deposit.from,
                address(escrow),
                deposit.amount,
                deposit.validAfter,
                deposit.until,
                deposit.nonce
            )
        );
        bytes32 domain = deposit.token == address(0) ? bytes32(0) : _domainOf(deposit.token);
        deposit.signature = _sign(deposit.from, _typed(domain, structHash));
    }

    function _signPermit(Deposit memory deposit, string memory typeEnd, bytes32 witness) private view {
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(bytes(string.concat(PERMIT_STUB, typeEnd))),
                keccak256(abi.encode(TOKEN_PERMISSIONS, deposit.token, deposit.amount)),
                address(escrow),
                deposit.nonce,
                deposit.until,
                witness
            )
        );
        deposit.signature = _sign(deposit.from, _typed(_domainOf(permit2), structHash));
    }

    function _signOpenPermit(EscrowModel.Terms memory terms, Deposit memory deposit) internal view {
        bytes32 typeHash = keccak256("ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)");
        bytes32 witness = keccak256(abi.encode(typeHash, terms.payee, terms.salt, terms.authorizedSigner));
        _signPermit(deposit, PERMIT_OPEN, witness);
    }

    function _signTopUpPermit(bytes32 id, Deposit memory deposit) internal view {
        bytes32 witness = keccak256(abi.encode(keccak256("ChannelTopUpWitness(bytes32 channelId)"), id));
        _signPermit(deposit, PERMIT_TOP_UP, witness);
    }

    /// @dev One time in five something is not what was signed.
    function _spoil(Deposit memory deposit) internal {
        uint256 how = _roll(25);
        if (how > 4) return;
        deposit.genuine = false;
        if (how == 0 && deposit.signature.length != 0) deposit.signature = _flip(deposit.signature, _roll(520));
        else if (how == 1) deposit.amount ^= uint128(1 << _roll(128));
        else if (how == 2) deposit.until += 1;
        else if (how == 3) deposit.nonce ^= 1 << _roll(256);
        else deposit.signature = _sign(mallory, keccak256(deposit.signature));
    }

    function _authorizationRules(Deposit memory deposit) internal pure returns (EscrowModel.Funding memory) {
        return
            EscrowModel.Funding({
                once: keccak256(abi.encode("EIP-3009", deposit.token, deposit.from, deposit.nonce)),
                firstSecond: deposit.validAfter + 1,
                lastSecond: deposit.until - 1,
                genuine: deposit.genuine
            });
    }

    function _permitRules(Deposit memory deposit) internal pure returns (EscrowModel.Funding memory) {
        return
            EscrowModel.Funding({
                once: keccak256(abi.encode("Permit2", deposit.from, deposit.nonce)),
                firstSecond: 0,
                lastSecond: deposit.until,
                genuine: deposit.genuine
            });
    }

    function _domainOf(address part) private view returns (bytes32) {
        return IPaymentChannelEscrow(part).DOMAIN_SEPARATOR(); // tokens and Permit2 answer the same question
    }
}
