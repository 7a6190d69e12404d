// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/**
 * @title What the escrow asks of Permit2 to take a deposit by signature
 * @notice The one function of Uniswap's Permit2 that is used here, and its arguments.
 */
interface IPermit2 {
    /// @notice What `owner` lets be moved.
    struct TokenPermissions {
        address token;
        uint256 amount;
    }

    /// @notice What `owner` signed, besides the spender and the witness.
    struct PermitTransferFrom {
        TokenPermissions permitted;
        uint256 nonce;
        uint256 deadline;
    }

    /// @notice Where it is moved to.
    struct SignatureTransferDetails {
        address to;
        uint256 requestedAmount;
    }

    /**
     * @notice Moves `owner`'s tokens under a signature that names the caller as the spender.
     * @param witness The EIP-712 hash of the extra struct that was signed.
     * @param witnessTypeString The end of the signed type: `<Witness> witness)`, then the structs in alphabetical order.
     */
    function permitWitnessTransferFrom(
        PermitTransferFrom calldata permit,
        SignatureTransferDetails calldata transferDetails,
        address owner,
        bytes32 witness,
        string calldata witnessTypeString,
        bytes calldata signature
    ) external;
}
