// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {EscrowTest} from "./support/EscrowTest.sol";

/// Payers and signers that are contracts (ERC-1271), or accounts with code (EIP-7702). See also Signatures.t.sol.
contract ContractWalletsTest is EscrowTest {
    uint128 private constant AMOUNT = 100;
    uint256 private constant EXPIRY = NOW + 60;

    function walletOf(address owner) private returns (address) {
        return deploy("ERC1271Wallet", abi.encode(owner));
    }

    function answering(bytes memory answer, bool fails) private returns (address) {
        return deploy("AnsweringWallet", abi.encode(answer, fails));
    }

    function asWallet(bytes memory signature) private pure returns (bytes memory) {
        return abi.encodePacked(uint8(0), signature);
    }

    function submit(bytes32 channelId, bytes memory signature) private {
        vm.prank(payee);
        escrow.settle(channelId, AMOUNT, signature);
    }

    function expectRefused(bytes32 channelId, address expectedSigner, bytes memory signature) private {
        expectInvalidSignature(channelId, expectedSigner);
        submit(channelId, signature);
    }

    /// @dev Opens by EIP-3009 for the payer of the moment, whose token lets it sign in its own way.
    function openByAuthorization(bytes memory signature) private returns (bytes32) {
        bytes32 nonce = openNonce(payer, payee, SALT, address(0));
        vm.prank(stranger);
        return
            escrow.openWithAuthorization(
                payee,
                address(token),
                DEPOSIT,
                SALT,
                address(0),
                payer,
                0,
                EXPIRY,
                nonce,
                signature
            );
    }

    function authorizationDigest() private view returns (bytes32) {
        return receiveDigest(payer, DEPOSIT, EXPIRY, openNonce(payer, payee, SALT, address(0)));
    }

    // Contracts that pay

    function test_AContractPayerOpensByAuthorizationSignsVouchersAndIsRefunded() public {
        payer = walletOf(signer);
        token.mint(payer, DEPOSIT);
        bytes memory signature = asWallet(signDigest(SIGNER_KEY, authorizationDigest()));
        bytes32 channelId = openByAuthorization(signature);
        vm.assertEq(channelOf(channelId).payer, payer, "payer");

        submit(channelId, asWallet(signVoucher(SIGNER_KEY, channelId, AMOUNT)));
        requestClose(channelId);
        vm.warp(NOW + GRACE);
        withdraw(channelId);
        vm.assertEq(token.balanceOf(payer), DEPOSIT - AMOUNT, "payer");
        vm.assertEq(token.balanceOf(payee), AMOUNT, "payee");
    }

    function test_AnAuthorizationThatAContractPayerDoesNotKnowIsRefusedByTheToken() public {
        payer = walletOf(signer);
        token.mint(payer, DEPOSIT);
        bytes memory signature = asWallet(signDigest(STRANGER_KEY, authorizationDigest()));
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009InvalidSignature.selector));
        openByAuthorization(signature);
    }

    function test_AContractPayersChannelIsClosedAndRefunded() public {
        payer = walletOf(signer);
        token.mint(payer, DEPOSIT);
        bytes32 channelId = openByAuthorization(asWallet(signDigest(SIGNER_KEY, authorizationDigest())));
        bytes memory signature = asWallet(signVoucher(SIGNER_KEY, channelId, AMOUNT));
        vm.prank(payee);
        escrow.close(channelId, AMOUNT, signature);
        vm.assertEq(token.balanceOf(payer), DEPOSIT - AMOUNT, "payer");
    }

    // What a contract answers

    function test_AnAnswerOfExactlyTheMagicValueIsGood() public {
        address wallet = answering(abi.encode(IERC1271.isValidSignature.selector), false);
        submit(openChannel(DEPOSIT, SALT, wallet), NO_SIGNATURE);
        assertBalances(DEPOSIT - AMOUNT, AMOUNT, "after settling");
    }

    function test_AnAnswerWithMoreAfterTheMagicValueIsGood() public {
        address wallet = answering(abi.encode(IERC1271.isValidSignature.selector, "more"), false);
        submit(openChannel(DEPOSIT, SALT, wallet), NO_SIGNATURE);
    }

    function test_AnAnswerWithGarbageBesideTheMagicValueIsRefused() public {
        bytes32 dirty = bytes32(IERC1271.isValidSignature.selector) | bytes32(uint256(1));
        expectAnswerRefused(abi.encode(dirty), false);
    }

    function test_AnAnswerOfTheMagicValueAtTheWrongEndIsRefused() public {
        expectAnswerRefused(abi.encode(uint256(uint32(IERC1271.isValidSignature.selector))), false);
    }

    function test_AnAnswerShorterThanAWordIsRefused() public {
        expectAnswerRefused("", false);
        expectAnswerRefused(abi.encodePacked(IERC1271.isValidSignature.selector), false);
        expectAnswerRefused(abi.encodePacked(IERC1271.isValidSignature.selector, new bytes(27)), false);
    }

    function test_AnAnswerOfOneOrOfAllOnesIsRefused() public {
        expectAnswerRefused(abi.encode(true), false);
        expectAnswerRefused(abi.encode(type(uint256).max), false);
    }

    function test_AContractThatRevertsRefusesEvenIfItDoesSoWithTheMagicValue() public {
        expectAnswerRefused("", true);
        expectAnswerRefused(abi.encode(IERC1271.isValidSignature.selector), true);
    }

    function expectAnswerRefused(bytes memory answer, bool fails) private {
        address wallet = answering(answer, fails);
        bytes32 channelId = openChannel(DEPOSIT, keccak256(abi.encode(answer, fails)), wallet);
        expectRefused(channelId, wallet, signVoucher(PAYER_KEY, channelId, AMOUNT));
        expectRefused(channelId, wallet, NO_SIGNATURE);
    }

    // Contracts that change

    /// @dev Draft section "Contract Wallet Signer Mutability": the payee's risk, and why a key should sign.
    function test_AContractSignerCanMakeItsOldVouchersWorthlessButAKeyCannot() public {
        address wallet = walletOf(signer);
        bytes32 byContract = openChannel(DEPOSIT, SALT, wallet);
        bytes32 byKey = openChannel(DEPOSIT, SALT, signer);
        bytes memory ofContract = asWallet(signVoucher(SIGNER_KEY, byContract, AMOUNT));
        bytes memory ofKey = signVoucher(SIGNER_KEY, byKey, AMOUNT);

        address changed = walletOf(stranger);
        vm.etch(wallet, changed.code);
        delegateCode(signer, changed);

        expectRefused(byContract, wallet, ofContract);
        submit(byKey, ofKey);
    }

    function test_AContractSignerWithoutCodeAnyMoreSignsNothing() public {
        address wallet = walletOf(signer);
        bytes32 channelId = openChannel(DEPOSIT, SALT, wallet);
        bytes memory signature = asWallet(signVoucher(SIGNER_KEY, channelId, AMOUNT));
        vm.etch(wallet, "");
        expectRefused(channelId, wallet, signature);
    }

    function test_AnEscrowOrAPrecompileAsSignerSignsNothing() public {
        address[3] memory odd = [address(escrow), address(1), address(4)];
        for (uint256 i = 0; i < 3; i++) {
            bytes32 channelId = openChannel(DEPOSIT, SALT, odd[i]);
            expectRefused(channelId, odd[i], signVoucher(PAYER_KEY, channelId, AMOUNT));
            expectRefused(channelId, odd[i], NO_SIGNATURE);
        }
    }

    // EIP-7702

    function test_APayerWithEIP7702CodeSignsVouchersWithItsKeyAndWithItsCode() public {
        bytes32 channelId = openChannel();
        delegateCode(payer, walletOf(signer));
        submit(channelId, signVoucher(PAYER_KEY, channelId, AMOUNT));

        channelId = openChannel(DEPOSIT, SALT, payer);
        submit(channelId, asWallet(signVoucher(SIGNER_KEY, channelId, AMOUNT)));
        assertBalances(2 * DEPOSIT - 2 * AMOUNT, 2 * AMOUNT, "after both");
    }

    function test_APayerWithEIP7702CodeCanTopUpRequestCloseAndWithdraw() public {
        bytes32 channelId = openChannel();
        delegateCode(payer, walletOf(stranger));
        topUp(channelId, 1);
        requestClose(channelId);
        vm.warp(NOW + GRACE);
        withdraw(channelId);
        assertBalances(0, 0, "after withdraw");
    }
}
