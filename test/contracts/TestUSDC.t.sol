// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {EscrowTest} from "./support/EscrowTest.sol";

/// The play money is what the rest is tested against, so it has to behave like USDC.
contract TestUSDCTest is EscrowTest {
    bytes32 private constant NONCE = keccak256("any nonce will do");
    string private constant FIELDS =
        "(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)";

    function digest(string memory kind, address from, address to) private view returns (bytes32) {
        bytes32 typeHash = keccak256(bytes(string.concat(kind, FIELDS)));
        bytes32 structHash = keccak256(abi.encode(typeHash, from, to, 5, 0, type(uint256).max, NONCE));
        return keccak256(abi.encodePacked("\x19\x01", token.DOMAIN_SEPARATOR(), structHash));
    }

    function transfer(address from, bytes memory signature) private {
        token.transferWithAuthorization(from, payee, 5, 0, type(uint256).max, NONCE, signature);
    }

    function test_TheDomainCanBeReadFromTheToken() public view {
        vm.assertEq(token.version(), "2", "version");
        vm.assertEq(token.decimals(), 6, "decimals");
        (, string memory name, string memory version, uint256 chainId, address verifyingContract, , ) = token
            .eip712Domain();
        vm.assertEq(token.name(), name, "name");
        vm.assertEq(token.version(), version, "version in ERC-5267");
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(name)),
                keccak256(bytes(version)),
                chainId,
                verifyingContract
            )
        );
        vm.assertEq(token.DOMAIN_SEPARATOR(), domain, "domain");
    }

    function test_TransferWithASignatureInOnePiece() public {
        transfer(payer, signDigest(PAYER_KEY, digest("TransferWithAuthorization", payer, payee)));
        vm.assertEq(token.balanceOf(payee), 5, "payee");
        vm.assertTrue(token.authorizationState(payer, NONCE), "used");
    }

    function test_TransferWithASignatureInThreeParts() public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER_KEY, digest("TransferWithAuthorization", payer, payee));
        token.transferWithAuthorization(payer, payee, 5, 0, type(uint256).max, NONCE, v, r, s);
        vm.assertEq(token.balanceOf(payee), 5, "payee");
    }

    function test_ReceiveWithASignatureInThreeParts() public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER_KEY, digest("ReceiveWithAuthorization", payer, payee));
        vm.prank(payee);
        token.receiveWithAuthorization(payer, payee, 5, 0, type(uint256).max, NONCE, v, r, s);
        vm.assertEq(token.balanceOf(payee), 5, "payee");
    }

    function test_AReceiveAuthorizationIsNoTransferAuthorization() public {
        bytes memory signature = signDigest(PAYER_KEY, digest("ReceiveWithAuthorization", payer, payee));
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009InvalidSignature.selector));
        transfer(payer, signature);
    }

    function test_I4_AnAuthorizationIsUsedOnceInEitherForm() public {
        bytes32 hash = digest("TransferWithAuthorization", payer, payee);
        transfer(payer, signDigest(PAYER_KEY, hash));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER_KEY, hash);
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, payer, NONCE));
        token.transferWithAuthorization(payer, payee, 5, 0, type(uint256).max, NONCE, v, r, s);
    }

    function test_ACancelledAuthorizationIsRefused() public {
        bytes32 typeHash = keccak256("CancelAuthorization(address authorizer,bytes32 nonce)");
        bytes32 cancel = keccak256(
            abi.encodePacked("\x19\x01", token.DOMAIN_SEPARATOR(), keccak256(abi.encode(typeHash, payer, NONCE)))
        );
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER_KEY, cancel);
        token.cancelAuthorization(payer, NONCE, v, r, s);

        bytes memory signature = signDigest(PAYER_KEY, digest("TransferWithAuthorization", payer, payee));
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, payer, NONCE));
        transfer(payer, signature);
    }

    function test_AContractWalletAuthorizesByERC1271() public {
        address wallet = deploy("ERC1271Wallet", abi.encode(signer));
        token.mint(wallet, 5);
        bytes32 hash = digest("TransferWithAuthorization", wallet, payee);
        transfer(wallet, abi.encodePacked(uint8(0), signDigest(SIGNER_KEY, hash)));
        vm.assertEq(token.balanceOf(payee), 5, "payee");
    }
}
