// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {TestUSDC} from "../../contracts/test/TestUSDC.sol";
import {IPaymentChannelEscrow} from "../../contracts/IPaymentChannelEscrow.sol";
import {EscrowTest} from "./support/EscrowTest.sol";

/**
 * The contract against vectors that viem computed, which TypeScript is held against too. Each vector names its chain
 * and its addresses, so the contracts are put there.
 */
contract VectorsTest is EscrowTest {
    struct Vector {
        uint256 chainId;
        address escrow;
        address payer;
        address payee;
        address token;
        bytes32 salt;
        address authorizedSigner;
        bytes32 channelId;
        uint128 cumulativeAmount;
        bytes32 domainSeparator;
        bytes32 digest;
        address signer;
        bytes signature;
        bytes highSSignature;
        bytes32 openNonce;
        uint128 deposit;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 tokenDomainSeparator;
        bytes receiveSignature;
    }

    string private constant PATH = "test/vectors/voucher.json";

    function test_VectorsMatchTheContractsIdsDomainsAndDigests() public {
        Vector[] memory vectors = readVectors();
        for (uint256 i = 0; i < vectors.length; i++) {
            Vector memory v = vectors[i];
            enter(v);
            string memory name = string.concat("vector ", vm.toString(i));
            vm.assertEq(
                escrow.computeChannelId(v.payer, v.payee, v.token, v.salt, v.authorizedSigner),
                v.channelId,
                name
            );
            vm.assertEq(escrow.DOMAIN_SEPARATOR(), v.domainSeparator, name);
            vm.assertEq(token.DOMAIN_SEPARATOR(), v.tokenDomainSeparator, name);
            vm.assertEq(voucherDigest(v.channelId, v.cumulativeAmount), v.digest, name);
            vm.assertEq(openNonce(v.payer, v.payee, v.salt, v.authorizedSigner), v.openNonce, name);
        }
    }

    function test_VectorsOpenAndCloseARealChannel() public {
        Vector[] memory vectors = readVectors();
        for (uint256 i = 0; i < vectors.length; i++) {
            Vector memory v = vectors[i];
            enter(v);
            string memory name = string.concat("vector ", vm.toString(i));
            token.mint(v.payer, v.deposit);

            vm.assertEq(openFrom(v), v.channelId, name);
            if (v.cumulativeAmount != 0) {
                expectInvalidSignature(v.channelId, v.signer);
                vm.prank(v.payee);
                escrow.close(v.channelId, v.cumulativeAmount, v.highSSignature);
            }
            vm.prank(v.payee);
            escrow.close(v.channelId, v.cumulativeAmount, v.signature);

            vm.assertEq(token.balanceOf(v.payee), v.cumulativeAmount, name);
            vm.assertEq(token.balanceOf(v.payer), v.deposit - v.cumulativeAmount, name);

            // The next vector may use the same addresses: leave no money behind.
            vm.prank(v.payee);
            token.transfer(address(1), v.cumulativeAmount);
            vm.prank(v.payer);
            token.transfer(address(1), v.deposit - v.cumulativeAmount);
        }
    }

    function test_VectorsSignaturesAreTheSigners() public view {
        Vector[] memory vectors = readVectors();
        for (uint256 i = 0; i < vectors.length; i++) {
            vm.assertEq(recover(vectors[i].digest, vectors[i].signature), vectors[i].signer, "canonical");
            vm.assertEq(recover(vectors[i].digest, vectors[i].highSSignature), vectors[i].signer, "malleable twin");
        }
    }

    /// @dev Goes to the vector's chain and puts the contracts at its addresses.
    function enter(Vector memory v) private {
        goToChain(v.chainId);
        if (v.escrow.code.length == 0) vm.etch(v.escrow, address(escrow).code);
        if (v.token.code.length == 0) vm.etch(v.token, address(token).code);
        escrow = IPaymentChannelEscrow(v.escrow);
        token = TestUSDC(v.token);
    }

    function openFrom(Vector memory v) private returns (bytes32) {
        return
            escrow.openWithAuthorization(
                v.payee,
                v.token,
                v.deposit,
                v.salt,
                v.authorizedSigner,
                v.payer,
                v.validAfter,
                v.validBefore,
                v.openNonce,
                v.receiveSignature
            );
    }

    function recover(bytes32 digest, bytes memory signature) private pure returns (address) {
        (bytes32 r, bytes32 s) = abi.decode(signature, (bytes32, bytes32));
        return ecrecover(digest, uint8(signature[64]), r, s);
    }

    function readVectors() private view returns (Vector[] memory vectors) {
        string memory json = vm.readFile(PATH);
        uint256 count = 0;
        while (vm.keyExistsJson(json, keyOf(count))) count++;
        vm.assertTrue(count >= 5, "no vectors were read");
        vectors = new Vector[](count);
        for (uint256 i = 0; i < count; i++) vectors[i] = readVector(json, keyOf(i));
    }

    function keyOf(uint256 index) private pure returns (string memory) {
        return string.concat(".vectors[", vm.toString(index), "]");
    }

    function readVector(string memory json, string memory key) private pure returns (Vector memory v) {
        v.chainId = vm.parseJsonUint(json, string.concat(key, ".chainId"));
        v.escrow = vm.parseJsonAddress(json, string.concat(key, ".escrow"));
        v.payer = vm.parseJsonAddress(json, string.concat(key, ".payer"));
        v.payee = vm.parseJsonAddress(json, string.concat(key, ".payee"));
        v.token = vm.parseJsonAddress(json, string.concat(key, ".token"));
        v.salt = vm.parseJsonBytes32(json, string.concat(key, ".salt"));
        v.authorizedSigner = vm.parseJsonAddress(json, string.concat(key, ".authorizedSigner"));
        v.channelId = vm.parseJsonBytes32(json, string.concat(key, ".channelId"));
        v.cumulativeAmount = uint128(vm.parseJsonUint(json, string.concat(key, ".cumulativeAmount")));
        v.domainSeparator = vm.parseJsonBytes32(json, string.concat(key, ".domainSeparator"));
        v.digest = vm.parseJsonBytes32(json, string.concat(key, ".digest"));
        v.signer = vm.parseJsonAddress(json, string.concat(key, ".signer"));
        v.signature = vm.parseJsonBytes(json, string.concat(key, ".signature"));
        v.highSSignature = vm.parseJsonBytes(json, string.concat(key, ".highSSignature"));
        v.openNonce = vm.parseJsonBytes32(json, string.concat(key, ".openNonce"));
        key = string.concat(key, ".receiveWithAuthorization");
        v.deposit = uint128(vm.parseJsonUint(json, string.concat(key, ".value")));
        v.validAfter = vm.parseJsonUint(json, string.concat(key, ".validAfter"));
        v.validBefore = vm.parseJsonUint(json, string.concat(key, ".validBefore"));
        v.tokenDomainSeparator = vm.parseJsonBytes32(json, string.concat(key, ".domainSeparator"));
        v.receiveSignature = vm.parseJsonBytes(json, string.concat(key, ".signature"));
    }
}
