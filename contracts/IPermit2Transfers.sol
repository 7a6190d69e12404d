// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IPermit2} from "./IPermit2.sol";

/**
 * @title What a server asks of Permit2 for a one-time charge
 * @notice The escrow does not use this: a charge is executed by the server's own account, which is the `spender` that the
 * payer signed (draft-evm-charge-00, section "Permit2 Payload"). The TypeScript ABI is made from here.
 */
interface IPermit2Transfers is IPermit2 {
    /// @notice As `PermitTransferFrom`, for several transfers under one signature, one entry for each of them.
    struct PermitBatchTransferFrom {
        TokenPermissions[] permitted;
        uint256 nonce;
        uint256 deadline;
    }

    /// @notice The signature was good until `signatureDeadline` (Unix seconds), which has passed.
    error SignatureExpired(uint256 signatureDeadline);

    /// @notice The nonce was used or invalidated.
    error InvalidNonce();

    /// @notice More is requested than the `maxAmount` that was permitted.
    error InvalidAmount(uint256 maxAmount);

    /// @notice There are not as many transfers as permitted entries.
    error LengthMismatch();

    /// @notice The signature has neither 64 nor 65 bytes.
    error InvalidSignatureLength();

    /// @notice No key could have made the signature.
    error InvalidSignature();

    /// @notice Somebody else than the owner made the signature, or made it of something else.
    error InvalidSigner();

    /// @notice The owner is a contract, and does not accept the signature.
    error InvalidContractSignature();

    /**
     * @notice Moves `owner`'s tokens to several accounts at once, under a signature that names the caller as the spender.
     * The charge draft calls it `permitBatchWitnessTransferFrom`; Permit2 knows it by this name.
     * @param transferDetails As many as `permit.permitted`, in its order.
     * @param witness The EIP-712 hash of the extra struct that was signed.
     * @param witnessTypeString The end of the signed type: `<Witness> witness)`, then the structs in alphabetical order.
     */
    function permitWitnessTransferFrom(
        PermitBatchTransferFrom calldata permit,
        SignatureTransferDetails[] calldata transferDetails,
        address owner,
        bytes32 witness,
        string calldata witnessTypeString,
        bytes calldata signature
    ) external;

    /// @notice Which nonces of `owner` are used: bit `nonce & 0xff` of the word `nonce >> 8`.
    function nonceBitmap(address owner, uint256 wordPosition) external view returns (uint256);
}
