// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {BitMaps} from "@openzeppelin/contracts/utils/structs/BitMaps.sol";

import {Channels} from "./Channels.sol";
import {Terms} from "./ChannelWords.sol";
import {IPaymentChannelEscrow} from "../IPaymentChannelEscrow.sol";
import {IRelayedProfile} from "../IRelayedProfile.sol";

/**
 * @title Who signed what
 * @dev Vouchers and payee authorizations, draft sections "Signature Verification" and "Payee-initiated functions". The
 * domain separator is OpenZeppelin's: cached, and made anew if the chain's id is no longer the one of the deployment.
 */
abstract contract Signatures is Channels, EIP712 {
    using BitMaps for BitMaps.BitMap;

    bytes32 internal constant SETTLE_AUTHORIZATION_TYPEHASH = keccak256(
        "SettleAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)"
    );
    bytes32 internal constant CLOSE_AUTHORIZATION_TYPEHASH = keccak256(
        "CloseAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)"
    );
    bytes32 private constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 channelId,uint128 cumulativeAmount)");

    /**
     * @dev The payees' used nonces. The draft keys them by payee and channel; a channel has one payee for ever, so the
     * channel alone says both.
     */
    mapping(bytes32 channelId => BitMaps.BitMap) private _usedNonces;

    constructor() EIP712("EVM Payment Channel", "1") {}

    /// @inheritdoc IPaymentChannelEscrow
    // solhint-disable-next-line func-name-mixedcase
    function DOMAIN_SEPARATOR() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    /**
     * @inheritdoc IRelayedProfile
     * @dev A finalized channel takes no authorization of any nonce, so finalizing uses them all up and no bit has to be
     * stored for the last one.
     */
    function isNonceUsed(bytes32 channelId, uint256 nonce) public view returns (bool) {
        return _channels[channelId].terms.isFinalized() || _usedNonces[channelId].get(nonce);
    }

    function _useNonce(bytes32 channelId, uint256 nonce) internal {
        _usedNonces[channelId].set(nonce);
    }

    /// @dev The payee's leave to settle or close, of which `typeHash` says which. Does not use up the nonce.
    function _requirePayeeAuthorization(
        bytes32 typeHash,
        address payee,
        bytes32 channelId,
        uint128 cumulativeAmount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) internal view {
        require(block.timestamp <= deadline, AuthorizationExpired(deadline));
        require(!isNonceUsed(channelId, nonce), NonceAlreadyUsed(channelId, nonce));
        bytes32 structHash = keccak256(abi.encode(typeHash, channelId, cumulativeAmount, nonce, deadline));
        _requireSignedBy(payee, channelId, _hashTypedDataV4(structHash), signature);
    }

    /// @dev A voucher signed by the one who signs for this channel, with a key or as a contract.
    function _requireVoucher(
        bytes32 channelId,
        Terms terms,
        uint128 cumulativeAmount,
        bytes calldata signature
    ) internal view {
        bytes32 digest = _voucherDigest(channelId, cumulativeAmount);
        _requireSignedBy(_signerOf(channelId, terms), channelId, digest, signature);
    }

    /// @dev The same for a row of a batch, which is signed with a key only.
    function _isVoucher(
        bytes32 channelId,
        Terms terms,
        uint128 cumulativeAmount,
        bytes32 r,
        bytes32 vs
    ) internal view returns (bool) {
        bytes32 digest = _voucherDigest(channelId, cumulativeAmount);
        (address recovered, ECDSA.RecoverError failure, ) = ECDSA.tryRecover(digest, r, vs);
        return failure == ECDSA.RecoverError.NoError && recovered == _signerOf(channelId, terms);
    }

    function _voucherDigest(bytes32 channelId, uint128 cumulativeAmount) private view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(VOUCHER_TYPEHASH, channelId, cumulativeAmount)));
    }

    /**
     * @dev ECDSA first: an account with EIP-7702 code still signs with its key. OpenZeppelin's recovery refuses a high
     * s, any length but 65 and a recovered zero address. A high s is not put to ERC-1271 either, where lax code could
     * let it pass.
     */
    function _requireSignedBy(
        address signer,
        bytes32 channelId,
        bytes32 digest,
        bytes calldata signature
    ) private view {
        (address recovered, ECDSA.RecoverError failure, ) = ECDSA.tryRecoverCalldata(digest, signature);
        if (failure == ECDSA.RecoverError.NoError && recovered == signer) return;
        require(
            failure != ECDSA.RecoverError.InvalidSignatureS &&
                signer.code.length != 0 &&
                SignatureChecker.isValidERC1271SignatureNowCalldata(signer, digest, signature),
            InvalidSignature(channelId, signer)
        );
    }
}
