// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {EscrowTest} from "./EscrowTest.sol";

/// @dev Permit2's own refusals.
interface IPermit2Errors {
    error InvalidSigner();
    error InvalidNonce();
    error InvalidContractSignature();
    error InvalidSignatureLength();
    error SignatureExpired(uint256 signatureDeadline);
}

/**
 * @dev The real Permit2 at its real address, which proves every byte of it. What is signed is written out here as in
 * draft-evm-session-00, section "Open Payload (feePayer: true)"; nothing of it is asked of the contracts.
 */
abstract contract Permit2Test is EscrowTest {
    /// @dev What `PermitWitnessTransferFrom` says, and who signs it.
    struct Permit {
        address token;
        uint256 amount;
        address spender;
        uint256 nonce;
        uint256 deadline;
    }

    string internal constant OPEN_PERMIT_TYPE =
        "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,ChannelOpenWitness witness)ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)TokenPermissions(address token,uint256 amount)";
    string internal constant TOP_UP_PERMIT_TYPE =
        "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,ChannelTopUpWitness witness)ChannelTopUpWitness(bytes32 channelId)TokenPermissions(address token,uint256 amount)";
    string private constant OPEN_WITNESS_TYPE =
        "ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)";
    string private constant TOP_UP_WITNESS_TYPE = "ChannelTopUpWitness(bytes32 channelId)";
    string private constant TOKEN_PERMISSIONS_TYPE = "TokenPermissions(address token,uint256 amount)";
    string private constant DOMAIN_TYPE = "EIP712Domain(string name,uint256 chainId,address verifyingContract)";

    string private constant FIXTURE = "test/fixtures/permit2.json";

    function setUp() public virtual override {
        super.setUp();
        deployPermit2();
    }

    /// @dev Through the factory its authors used, from their code and their salt.
    function deployPermit2() internal {
        string memory json = vm.readFile(FIXTURE);
        address factory = vm.parseJsonAddress(json, ".factory");
        bytes32 salt = vm.parseJsonBytes32(json, ".salt");
        (bool success, ) = factory.call(bytes.concat(salt, vm.parseJsonBytes(json, ".initCode")));
        vm.assertTrue(success, "the factory deploys");
        vm.assertEq(vm.parseJsonAddress(json, ".address"), PERMIT2, "the address everyone knows");
        vm.assertTrue(PERMIT2.code.length != 0, "Permit2 is there");
    }

    /// @dev Lets Permit2, and nobody else, move `owner`'s tokens.
    function approvePermit2Only(address owner) internal {
        vm.prank(owner);
        token.approve(address(escrow), 0);
        vm.prank(owner);
        token.approve(PERMIT2, type(uint256).max);
    }

    function openPermitDigest(
        Permit memory permit,
        address payee_,
        bytes32 salt,
        address authorizedSigner
    ) internal view returns (bytes32) {
        bytes32 witness = keccak256(abi.encode(keccak256(bytes(OPEN_WITNESS_TYPE)), payee_, salt, authorizedSigner));
        return permitDigest(OPEN_PERMIT_TYPE, permit, witness);
    }

    function topUpPermitDigest(Permit memory permit, bytes32 channelId) internal view returns (bytes32) {
        bytes32 witness = keccak256(abi.encode(keccak256(bytes(TOP_UP_WITNESS_TYPE)), channelId));
        return permitDigest(TOP_UP_PERMIT_TYPE, permit, witness);
    }

    function permitDigest(string memory type_, Permit memory permit, bytes32 witness) private view returns (bytes32) {
        bytes32 domain = keccak256(abi.encode(keccak256(bytes(DOMAIN_TYPE)), keccak256("Permit2"), chain, PERMIT2));
        bytes32 permitted = keccak256(
            abi.encode(keccak256(bytes(TOKEN_PERMISSIONS_TYPE)), permit.token, permit.amount)
        );
        bytes32 structHash = keccak256(
            abi.encode(keccak256(bytes(type_)), permitted, permit.spender, permit.nonce, permit.deadline, witness)
        );
        return keccak256(abi.encodePacked("\x19\x01", domain, structHash));
    }
}
