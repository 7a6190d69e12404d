// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrowErrors} from "../../../contracts/IEscrowErrors.sol";
import {BlocklistToken} from "../../../contracts/test/BlocklistToken.sol";
import {PayeeSigner} from "./PayeeSigner.sol";

/**
 * @dev What holds for both functions that a relayer submits for the payee, draft section "Payee-initiated functions".
 * The contracts that inherit from this say which of the two it is.
 */
abstract contract PayeeAuthorizationTest is PayeeSigner {
    uint128 internal constant AMOUNT = 100;
    uint256 internal constant NONCE = 7;
    uint256 internal constant DEADLINE = NOW + 60;

    bytes32 internal channelId;

    function setUp() public virtual override {
        super.setUp();
        channelId = openChannel();
    }

    /// @dev The type of the function under test, and that of the other one.
    function typeString() internal pure virtual returns (string memory own, string memory other);

    /// @dev Calls the function under test as a stranger.
    function submit(
        Authorization memory authorization,
        bytes memory payeeSignature,
        bytes memory voucherSignature
    ) internal virtual;

    // Steps

    function authorized() internal view returns (Authorization memory) {
        return Authorization(channelId, AMOUNT, NONCE, DEADLINE);
    }

    function digestOf(Authorization memory authorization) internal view returns (bytes32) {
        (string memory own, ) = typeString();
        return digestOf(domainOf(address(escrow)), own, authorization);
    }

    function signed(Authorization memory authorization) internal view returns (bytes memory) {
        return signDigest(PAYEE_KEY, digestOf(authorization));
    }

    function voucher() internal view returns (bytes memory) {
        return signVoucher(PAYER_KEY, channelId, AMOUNT);
    }

    /// @dev Submits what both have signed.
    function submit(Authorization memory a) internal {
        submit(a, signed(a), signVoucher(PAYER_KEY, a.channelId, a.cumulativeAmount));
    }

    /// @dev Submits something else than what the payee has signed.
    function expectNotAuthorized(Authorization memory submitted, bytes memory payeeSignature) internal {
        bytes memory voucherSignature = signVoucher(PAYER_KEY, submitted.channelId, submitted.cumulativeAmount);
        expectInvalidSignature(submitted.channelId, payee);
        submit(submitted, payeeSignature, voucherSignature);
    }

    /// @dev Opens the test's channel anew, for a payee that is a contract.
    function useContractPayee(address wallet) internal {
        payee = wallet;
        channelId = openChannel();
    }

    // What holds for both

    function test_AnyoneMaySubmitAndOnlyThePayeeGains() public {
        submit(authorized());
        vm.assertEq(token.balanceOf(payee), AMOUNT, "payee");
        vm.assertEq(token.balanceOf(stranger), 0, "who submitted it");
        vm.assertEq(channelOf(channelId).settled, AMOUNT, "settled");
    }

    function test_AnAuthorizationIsGoodOneSecondBeforeItsDeadline() public {
        vm.warp(DEADLINE - 1);
        submit(authorized());
    }

    function test_AnAuthorizationIsGoodInTheSecondOfItsDeadline() public {
        vm.warp(DEADLINE);
        submit(authorized());
    }

    function test_AnAuthorizationIsRefusedOneSecondAfterItsDeadline() public {
        Authorization memory authorization = authorized();
        bytes memory payeeSignature = signed(authorization);
        bytes memory voucherSignature = voucher();
        vm.warp(DEADLINE + 1);
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.AuthorizationExpired.selector, DEADLINE));
        submit(authorization, payeeSignature, voucherSignature);
    }

    function test_AnAuthorizationForAnotherChannelIsRefused() public {
        bytes memory payeeSignature = signed(authorized());
        Authorization memory submitted = authorized();
        submitted.channelId = openChannel(DEPOSIT, keccak256("other"), address(0));
        expectNotAuthorized(submitted, payeeSignature);
    }

    function test_AnAuthorizationForAnotherAmountIsRefused() public {
        bytes memory payeeSignature = signed(authorized());
        Authorization memory submitted = authorized();
        submitted.cumulativeAmount = AMOUNT + 1;
        expectNotAuthorized(submitted, payeeSignature);
    }

    function test_AnAuthorizationWithAnotherNonceIsRefused() public {
        bytes memory payeeSignature = signed(authorized());
        Authorization memory submitted = authorized();
        submitted.nonce = NONCE + 1;
        expectNotAuthorized(submitted, payeeSignature);
    }

    function test_AnAuthorizationWithALaterDeadlineIsRefused() public {
        bytes memory payeeSignature = signed(authorized());
        Authorization memory submitted = authorized();
        submitted.deadline = DEADLINE + 1;
        expectNotAuthorized(submitted, payeeSignature);
    }

    function test_AnAuthorizationForTheOtherFunctionIsRefused() public {
        (, string memory other) = typeString();
        bytes32 digest = digestOf(domainOf(address(escrow)), other, authorized());
        expectNotAuthorized(authorized(), signDigest(PAYEE_KEY, digest));
    }

    function test_AnAuthorizationForAnotherEscrowIsRefused() public {
        (string memory own, ) = typeString();
        bytes32 digest = digestOf(domainOf(address(deployEscrow(GRACE))), own, authorized());
        expectNotAuthorized(authorized(), signDigest(PAYEE_KEY, digest));
    }

    function test_AnAuthorizationFollowsTheLiveChainId() public {
        bytes memory payeeSignature = signed(authorized());
        goToChain(31338);
        expectNotAuthorized(authorized(), payeeSignature);
        submit(authorized()); // signed anew, for the chain that the escrow is on now
    }

    function test_AnAuthorizationByAnyoneButThePayeeIsRefused() public {
        bytes32 digest = digestOf(authorized());
        expectNotAuthorized(authorized(), signDigest(STRANGER_KEY, digest));
        expectNotAuthorized(authorized(), signDigest(PAYER_KEY, digest));
        expectNotAuthorized(authorized(), NO_SIGNATURE);
        expectNotAuthorized(authorized(), voucher());
    }

    function test_AnAuthorizationWithHighSIsRefused() public {
        expectNotAuthorized(authorized(), highS(PAYEE_KEY, digestOf(authorized())));
    }

    function test_AnAuthorizationThatRecoversToNobodyIsRefused() public {
        expectNotAuthorized(authorized(), abi.encodePacked(bytes32(0), bytes32(0), uint8(27)));
    }

    function test_AContractPayeeAuthorizesByERC1271() public {
        useContractPayee(deploy("ERC1271Wallet", abi.encode(signer)));
        Authorization memory authorization = authorized();
        bytes32 digest = digestOf(authorization);
        expectNotAuthorized(authorization, abi.encodePacked(uint8(0), signDigest(STRANGER_KEY, digest)));
        expectNotAuthorized(authorization, signDigest(SIGNER_KEY, digest));

        submit(authorization, abi.encodePacked(uint8(0), signDigest(SIGNER_KEY, digest)), voucher());
        vm.assertEq(token.balanceOf(payee), AMOUNT, "payee");
    }

    function test_APayeeWithEIP7702CodeAuthorizesWithItsKey() public {
        delegateCode(payee, deploy("ERC1271Wallet", abi.encode(stranger)));
        submit(authorized());
        vm.assertEq(token.balanceOf(payee), AMOUNT, "payee");
    }

    function test_ThePayeesAuthorizationIsNoVoucher() public {
        Authorization memory authorization = authorized();
        bytes memory payeeSignature = signed(authorization);
        expectInvalidSignature(channelId, payer);
        submit(authorization, payeeSignature, payeeSignature);
    }

    function test_TheVouchersSignatureIsStillNeeded() public {
        Authorization memory authorization = authorized();
        bytes memory payeeSignature = signed(authorization);
        expectInvalidSignature(channelId, payer);
        submit(authorization, payeeSignature, NO_SIGNATURE);
    }

    function test_AVoucherForAnotherAmountOrWithHighSIsRefused() public {
        Authorization memory authorization = authorized();
        bytes memory payeeSignature = signed(authorization);
        bytes memory tooLow = signVoucher(PAYER_KEY, channelId, AMOUNT - 1);
        expectInvalidSignature(channelId, payer);
        submit(authorization, payeeSignature, tooLow);

        bytes memory malleable = highS(PAYER_KEY, voucherDigest(channelId, AMOUNT));
        expectInvalidSignature(channelId, payer);
        submit(authorization, payeeSignature, malleable);
    }

    function test_TheDelegatedSignersVoucherIsGoodAndThePayersIsNot() public {
        channelId = openChannel(DEPOSIT, SALT, signer);
        Authorization memory authorization = authorized();
        bytes memory payeeSignature = signed(authorization);
        bytes memory voucherSignature = voucher();
        expectInvalidSignature(channelId, signer);
        submit(authorization, payeeSignature, voucherSignature);

        submit(authorization, payeeSignature, signVoucher(SIGNER_KEY, channelId, AMOUNT));
    }

    function test_I1_MoreThanTheDepositIsRefused() public {
        Authorization memory authorization = authorized();
        authorization.cumulativeAmount = DEPOSIT + 1;
        bytes memory payeeSignature = signed(authorization);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrowErrors.AmountExceedsDeposit.selector, channelId, DEPOSIT + 1, DEPOSIT)
        );
        submit(authorization, payeeSignature, NO_SIGNATURE);
    }

    function test_AnUnknownChannelIsRefused() public {
        Authorization memory authorization = authorized();
        authorization.channelId = SALT;
        bytes memory payeeSignature = signed(authorization);
        expectRevert(IEscrowErrors.ChannelNotFound.selector, SALT);
        submit(authorization, payeeSignature, NO_SIGNATURE);
    }

    function test_I12_AFinalizedChannelIsRefused() public {
        close(channelId, 10);
        Authorization memory authorization = authorized();
        bytes memory payeeSignature = signed(authorization);
        bytes memory voucherSignature = voucher();
        expectRevert(IEscrowErrors.ChannelFinalized.selector, channelId);
        submit(authorization, payeeSignature, voucherSignature);
    }

    function test_AnAuthorizationWorksWhileACloseIsPending() public {
        requestClose(channelId);
        submit(authorized());
        vm.assertEq(token.balanceOf(payee), AMOUNT, "payee");
    }

    function test_ACallThatFailsDoesNotUseTheNonce() public {
        Authorization memory authorization = authorized();
        bytes memory payeeSignature = signed(authorization);
        expectInvalidSignature(channelId, payer);
        submit(authorization, payeeSignature, NO_SIGNATURE);

        vm.assertFalse(escrow.isNonceUsed(channelId, NONCE), "after a bad voucher");
        submit(authorization);
        vm.assertTrue(escrow.isNonceUsed(channelId, NONCE), "after a good one");
    }

    function test_ATokenThatRefusesThePayeeLeavesTheNonceUnused() public {
        BlocklistToken blocklist = BlocklistToken(deploy("BlocklistToken", ""));
        useToken(blocklist);
        channelId = openChannel();
        blocklist.setBlocked(payee, true);
        Authorization memory authorization = authorized();
        bytes memory payeeSignature = signed(authorization);
        bytes memory voucherSignature = voucher();
        vm.expectRevert(abi.encodeWithSelector(BlocklistToken.Blocked.selector, payee));
        submit(authorization, payeeSignature, voucherSignature);

        vm.assertFalse(escrow.isNonceUsed(channelId, NONCE), "unused");
        vm.assertEq(channelOf(channelId).settled, 0, "nothing redeemed");
        blocklist.setBlocked(payee, false);
        submit(authorization);
    }
}
