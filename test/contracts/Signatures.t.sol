// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {EscrowTest} from "./support/EscrowTest.sol";

/// Draft section "Signature Verification". `settle` and `close` share the check; it is tested through `settle`.
contract SignaturesTest is EscrowTest {
    uint128 private constant AMOUNT = 100;

    function submit(bytes32 channelId, bytes memory signature) private {
        vm.prank(payee);
        escrow.settle(channelId, AMOUNT, signature);
    }

    function expectRefused(bytes32 channelId, address expectedSigner, bytes memory signature) private {
        expectInvalidSignature(channelId, expectedSigner);
        submit(channelId, signature);
    }

    function test_TheDelegatedSignersVoucherIsGood() public {
        bytes32 channelId = openChannel(DEPOSIT, SALT, signer);
        submit(channelId, signVoucher(SIGNER_KEY, channelId, AMOUNT));
        assertBalances(DEPOSIT - AMOUNT, AMOUNT, "after settle");
    }

    function test_ThePayersOwnVoucherIsRefusedWhereASignerIsDelegated() public {
        bytes32 channelId = openChannel(DEPOSIT, SALT, signer);
        expectRefused(channelId, signer, signVoucher(PAYER_KEY, channelId, AMOUNT));
    }

    function test_AStrangersVoucherIsRefused() public {
        bytes32 channelId = openChannel();
        expectRefused(channelId, payer, signVoucher(STRANGER_KEY, channelId, AMOUNT));
    }

    function test_AVoucherForAnotherAmountIsRefused() public {
        bytes32 channelId = openChannel();
        expectRefused(channelId, payer, signVoucher(PAYER_KEY, channelId, AMOUNT - 1));
    }

    function test_AVoucherForAnotherChannelIsRefused() public {
        bytes32 channelId = openChannel();
        bytes32 other = openChannel(DEPOSIT, keccak256("other"), address(0));
        expectRefused(channelId, payer, signVoucher(PAYER_KEY, other, AMOUNT));
    }

    function test_AVoucherForAnotherEscrowIsRefused() public {
        bytes32 channelId = openChannel();
        bytes32 domain = domainOf(address(deployEscrow(GRACE)));
        expectRefused(channelId, payer, signDigest(PAYER_KEY, voucherDigest(domain, channelId, AMOUNT)));
    }

    function test_AVoucherSignedBeforeTheChainForkedIsRefusedOnTheNewChain() public {
        bytes32 channelId = openChannel();
        bytes memory signature = signVoucher(PAYER_KEY, channelId, AMOUNT);

        goToChain(31338);
        expectRefused(channelId, payer, signature);

        goToChain(31337);
        submit(channelId, signature);
    }

    function test_TheDomainIsTheDraftsAndFollowsTheChain() public {
        vm.assertEq(escrow.DOMAIN_SEPARATOR(), domainOf(address(escrow)), "as deployed");
        goToChain(31338);
        vm.assertEq(escrow.DOMAIN_SEPARATOR(), domainOf(address(escrow)), "after a fork");
    }

    function test_AHighSSignatureIsRefused() public {
        bytes32 channelId = openChannel();
        expectRefused(channelId, payer, highS(PAYER_KEY, voucherDigest(channelId, AMOUNT)));
    }

    function test_AHighSSignatureIsRefusedEvenWhereTheSignerHasCodeThatWouldTakeIt() public {
        bytes32 channelId = openChannel();
        vm.etch(payer, deploy("CredulousWallet", "").code);
        expectRefused(channelId, payer, highS(PAYER_KEY, voucherDigest(channelId, AMOUNT)));
        submit(channelId, "the code takes anything that gets as far as it");
    }

    function test_ASignatureThatRecoversToNobodyIsRefused() public {
        bytes32 channelId = openChannel();
        expectRefused(channelId, payer, abi.encodePacked(bytes32(0), bytes32(0), uint8(27)));
    }

    function test_ASignatureWithVOfZeroOrOneIsRefused() public {
        bytes32 channelId = openChannel();
        bytes memory signature = signVoucher(PAYER_KEY, channelId, AMOUNT);
        signature[64] = bytes1(uint8(signature[64]) - 27);
        expectRefused(channelId, payer, signature);
    }

    function test_ASignatureOfAnotherLengthIsRefused() public {
        bytes32 channelId = openChannel();
        bytes memory signature = signVoucher(PAYER_KEY, channelId, AMOUNT);
        expectRefused(channelId, payer, NO_SIGNATURE);
        expectRefused(channelId, payer, abi.encodePacked(signature, uint8(0)));

        // EIP-2098, 64 bytes
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER_KEY, voucherDigest(channelId, AMOUNT));
        expectRefused(channelId, payer, abi.encodePacked(r, uint256(s) | (uint256(v - 27) << 255)));
    }

    function test_AnAccountWithCodeStillSignsWithItsKey() public {
        bytes32 channelId = openChannel();
        // EIP-7702: the payer's account now has code, and the code knows nothing of the payer's key.
        vm.etch(payer, deploy("ERC1271Wallet", abi.encode(stranger)).code);
        submit(channelId, signVoucher(PAYER_KEY, channelId, AMOUNT));
        assertBalances(DEPOSIT - AMOUNT, AMOUNT, "after settle");
    }

    function test_AContractWalletSignsByERC1271() public {
        address wallet = deploy("ERC1271Wallet", abi.encode(signer));
        bytes32 channelId = openChannel(DEPOSIT, SALT, wallet);
        submit(channelId, abi.encodePacked(uint8(0), signVoucher(SIGNER_KEY, channelId, AMOUNT)));
        assertBalances(DEPOSIT - AMOUNT, AMOUNT, "after settle");
    }

    function test_AContractWalletsOwnerDoesNotSignForItDirectly() public {
        address wallet = deploy("ERC1271Wallet", abi.encode(signer));
        bytes32 channelId = openChannel(DEPOSIT, SALT, wallet);
        expectRefused(channelId, wallet, signVoucher(SIGNER_KEY, channelId, AMOUNT));
    }

    function test_ASignatureTheContractWalletDoesNotKnowIsRefused() public {
        address wallet = deploy("ERC1271Wallet", abi.encode(signer));
        bytes32 channelId = openChannel(DEPOSIT, SALT, wallet);
        bytes memory signature = abi.encodePacked(uint8(0), signVoucher(STRANGER_KEY, channelId, AMOUNT));
        expectRefused(channelId, wallet, signature);
    }

    function test_AContractThatKnowsNoERC1271SignsNothing() public {
        bytes32 channelId = openChannel(DEPOSIT, SALT, address(token));
        expectRefused(channelId, address(token), signVoucher(PAYER_KEY, channelId, AMOUNT));
    }
}
