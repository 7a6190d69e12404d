// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrowErrors} from "../../contracts/IEscrowErrors.sol";
import {IEscrowEvents} from "../../contracts/IEscrowEvents.sol";
import {IPaymentChannelEscrow} from "../../contracts/IPaymentChannelEscrow.sol";
import {IPermit2} from "../../contracts/IPermit2.sol";
import {IRelayedProfile} from "../../contracts/IRelayedProfile.sol";
import {InexactToken} from "../../contracts/test/InexactToken.sol";
import {TestUSDC} from "../../contracts/test/TestUSDC.sol";
import {IPermit2Errors, Permit2Test} from "./support/Permit2Test.sol";

/// Through the real Permit2: that it takes the signatures shows that the witness's types are the draft's.
contract OpenWithPermit2Test is Permit2Test {
    /// @dev The arguments of `openWithPermit2`, but the signature.
    struct Opening {
        address payee;
        address token;
        uint128 deposit;
        bytes32 salt;
        address authorizedSigner;
        address from;
        uint256 nonce;
        uint256 deadline;
    }

    uint256 private constant NONCE = 42;
    uint256 private constant DEADLINE = NOW + 60;
    string private constant NO_ALLOWANCE = "TRANSFER_FROM_FAILED";

    function setUp() public override {
        super.setUp();
        approvePermit2Only(payer);
    }

    function opening() private view returns (Opening memory) {
        return Opening(payee, address(token), DEPOSIT, SALT, signer, payer, NONCE, DEADLINE);
    }

    function digestOf(Opening memory o) private view returns (bytes32) {
        Permit memory permit = Permit(o.token, o.deposit, address(escrow), o.nonce, o.deadline);
        return openPermitDigest(permit, o.payee, o.salt, o.authorizedSigner);
    }

    function signed(Opening memory o) private view returns (bytes memory) {
        return signDigest(PAYER_KEY, digestOf(o));
    }

    function callOf(Opening memory o, bytes memory signature) private pure returns (bytes memory) {
        return
            abi.encodeCall(
                IRelayedProfile.openWithPermit2,
                (o.payee, o.token, o.deposit, o.salt, o.authorizedSigner, o.from, o.nonce, o.deadline, signature)
            );
    }

    function submit(Opening memory o, bytes memory signature) private returns (bytes32 channelId) {
        bytes memory call = callOf(o, signature);
        vm.prank(stranger);
        (bool success, bytes memory answer) = address(escrow).call(call);
        vm.assertTrue(success, "opened");
        return abi.decode(answer, (bytes32));
    }

    function expectRefused(Opening memory o, bytes memory signature, bytes memory why) private {
        vm.assertEq(revertOf(stranger, callOf(o, signature)), why, "why");
        bytes32 id = escrow.computeChannelId(o.from, o.payee, o.token, o.salt, o.authorizedSigner);
        vm.assertEq(channelOf(id).payer, address(0), "no channel");
    }

    function expectInvalidSigner(Opening memory o, bytes memory signature) private {
        expectRefused(o, signature, abi.encodeWithSelector(IPermit2Errors.InvalidSigner.selector));
    }

    // Opening

    function test_AnyoneMayOpenForThePayerWhoSigned() public {
        bytes32 expectedId = escrow.computeChannelId(payer, payee, address(token), SALT, signer);
        bytes memory signature = signed(opening());
        vm.expectEmit(address(escrow));
        emit IEscrowEvents.ChannelOpened(expectedId, payer, payee, address(token), signer, SALT, DEPOSIT);

        bytes32 channelId = submit(opening(), signature);

        vm.assertEq(channelId, expectedId, "id");
        IPaymentChannelEscrow.Channel memory channel = channelOf(channelId);
        vm.assertEq(channel.payer, payer, "the payer is who signed, not who submitted");
        vm.assertEq(channel.authorizedSigner, signer, "authorizedSigner");
        vm.assertEq(channel.deposit, DEPOSIT, "deposit");
        assertBalances(DEPOSIT, 0, "after open");
    }

    function test_AContractPayerSignsByERC1271() public {
        payer = deploy("ERC1271Wallet", abi.encode(signer));
        token.mint(payer, DEPOSIT);
        approvePermit2Only(payer);
        bytes32 digest = digestOf(opening());
        expectRefused(
            opening(),
            abi.encodePacked(uint8(0), signDigest(STRANGER_KEY, digest)),
            abi.encodeWithSelector(IPermit2Errors.InvalidContractSignature.selector)
        );

        bytes32 channelId = submit(opening(), abi.encodePacked(uint8(0), signDigest(SIGNER_KEY, digest)));
        vm.assertEq(channelOf(channelId).payer, payer, "payer");
    }

    /// @dev Not so the escrow's own signatures: those the key always makes good.
    function test_APayerWithEIP7702CodeIsAskedByPermit2ThroughThatCode() public {
        delegateCode(payer, deploy("ERC1271Wallet", abi.encode(signer)));
        bytes32 digest = digestOf(opening());
        expectRefused(
            opening(),
            signDigest(PAYER_KEY, digest),
            abi.encodeWithSelector(IPermit2Errors.InvalidContractSignature.selector)
        );
        submit(opening(), abi.encodePacked(uint8(0), signDigest(SIGNER_KEY, digest)));
    }

    // Front-running: whoever sees the signature can do with it only what the payer meant

    function test_FrontRunningWithAnotherPayeeIsRefused() public {
        Opening memory changed = opening();
        changed.payee = stranger;
        expectInvalidSigner(changed, signed(opening()));
    }

    function test_FrontRunningWithAnotherSaltIsRefused() public {
        Opening memory changed = opening();
        changed.salt = keccak256("other");
        expectInvalidSigner(changed, signed(opening()));
    }

    function test_FrontRunningWithAnotherSignerIsRefused() public {
        Opening memory changed = opening();
        changed.authorizedSigner = stranger;
        expectInvalidSigner(changed, signed(opening()));
        changed.authorizedSigner = address(0);
        expectInvalidSigner(changed, signed(opening()));
    }

    function test_FrontRunningInTheNameOfAnotherPayerIsRefused() public {
        token.mint(stranger, DEPOSIT);
        approvePermit2Only(stranger);
        Opening memory changed = opening();
        changed.from = stranger;
        expectInvalidSigner(changed, signed(opening()));
    }

    function test_AnotherDepositThanTheOneSignedIsRefused() public {
        Opening memory changed = opening();
        changed.deposit = DEPOSIT - 1;
        expectInvalidSigner(changed, signed(opening()));
        changed.deposit = DEPOSIT + 1;
        expectInvalidSigner(changed, signed(opening()));
    }

    function test_AnotherTokenThanTheOneSignedIsRefused() public {
        Opening memory changed = opening();
        useToken(TestUSDC(deploy("TestUSDC", "")));
        approvePermit2Only(payer);
        bytes memory signature = signed(changed);
        changed.token = address(token);
        expectInvalidSigner(changed, signature);
    }

    function test_AnotherNonceOrDeadlineThanTheOneSignedIsRefused() public {
        Opening memory changed = opening();
        changed.nonce = NONCE + 1;
        expectInvalidSigner(changed, signed(opening()));

        changed = opening();
        changed.deadline = DEADLINE + 1;
        expectInvalidSigner(changed, signed(opening()));
    }

    function test_ASignatureForAnotherSpenderIsRefused() public {
        Permit memory permit = Permit(address(token), DEPOSIT, stranger, NONCE, DEADLINE);
        expectInvalidSigner(opening(), signDigest(PAYER_KEY, openPermitDigest(permit, payee, SALT, signer)));
    }

    function test_ASignatureForAnotherEscrowIsRefused() public {
        bytes memory signature = signed(opening());
        escrow = deployEscrow(GRACE);
        expectInvalidSigner(opening(), signature);
    }

    function test_TheSignatureIsOfNoUseToAnyoneButTheEscrow() public {
        bytes memory signature = signed(opening());
        vm.expectRevert(abi.encodeWithSelector(IPermit2Errors.InvalidSigner.selector));
        vm.prank(stranger);
        IPermit2(PERMIT2).permitWitnessTransferFrom(
            IPermit2.PermitTransferFrom(IPermit2.TokenPermissions(address(token), DEPOSIT), NONCE, DEADLINE),
            IPermit2.SignatureTransferDetails(stranger, DEPOSIT),
            payer,
            keccak256(
                abi.encode(
                    keccak256("ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)"),
                    payee,
                    SALT,
                    signer
                )
            ),
            "ChannelOpenWitness witness)ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)TokenPermissions(address token,uint256 amount)",
            signature
        );
        submit(opening(), signature); // and is still good afterwards
    }

    function test_ATopUpSignatureOpensNothing() public {
        bytes32 channelId = escrow.computeChannelId(payer, payee, address(token), SALT, signer);
        Permit memory permit = Permit(address(token), DEPOSIT, address(escrow), NONCE, DEADLINE);
        expectInvalidSigner(opening(), signDigest(PAYER_KEY, topUpPermitDigest(permit, channelId)));
    }

    function test_ASignatureByAnyoneButThePayerIsRefused() public {
        expectInvalidSigner(opening(), signDigest(STRANGER_KEY, digestOf(opening())));
        expectInvalidSigner(opening(), signDigest(SIGNER_KEY, digestOf(opening())));
    }

    function test_ASignatureForAnotherChainIsRefused() public {
        bytes memory signature = signed(opening());
        goToChain(31338);
        expectInvalidSigner(opening(), signature);
        submit(opening(), signed(opening()));
    }

    // Once, and in time

    function test_I4_ASignatureOpensOnce() public {
        bytes memory signature = signed(opening());
        bytes32 channelId = submit(opening(), signature);
        vm.assertEq(
            revertOf(stranger, callOf(opening(), signature)),
            abi.encodeWithSelector(IEscrowErrors.ChannelAlreadyExists.selector, channelId),
            "why"
        );
    }

    function test_I4_AUsedPermit2NonceIsRefused() public {
        submit(opening(), signed(opening()));
        Opening memory second = opening();
        second.salt = keccak256("second");
        expectRefused(second, signed(second), abi.encodeWithSelector(IPermit2Errors.InvalidNonce.selector));
    }

    function test_ASignatureIsGoodUpToAndInItsLastSecond() public {
        bytes memory signature = signed(opening());
        Opening memory second = opening();
        second.salt = keccak256("second");
        second.nonce = NONCE + 1;
        vm.warp(DEADLINE - 1);
        submit(opening(), signature);
        vm.warp(DEADLINE);
        submit(second, signed(second));
    }

    function test_ASignatureIsRefusedOneSecondAfterItsDeadline() public {
        vm.warp(DEADLINE + 1);
        expectRefused(
            opening(),
            signed(opening()),
            abi.encodeWithSelector(IPermit2Errors.SignatureExpired.selector, DEADLINE)
        );
    }

    // What any way of opening refuses

    function test_OpenOfNothingIsRefused() public {
        Opening memory o = opening();
        o.deposit = 0;
        expectRefused(o, signed(o), abi.encodeWithSelector(IEscrowErrors.ZeroDeposit.selector));
    }

    function test_OpenForNobodyIsRefused() public {
        Opening memory o = opening();
        o.payee = address(0);
        expectRefused(o, signed(o), abi.encodeWithSelector(IEscrowErrors.InvalidPayee.selector, address(0)));
    }

    function test_OpenInTheNameOfTheZeroAddressIsRefused() public {
        Opening memory o = opening();
        o.from = address(0);
        expectRefused(o, signed(o), abi.encodeWithSelector(IEscrowErrors.InvalidPayer.selector, address(0)));
    }

    function test_OpenInATokenThatIsNoContractIsRefused() public {
        Opening memory o = opening();
        o.token = stranger;
        expectRefused(o, signed(o), abi.encodeWithSelector(IEscrowErrors.InvalidToken.selector, stranger));
    }

    function test_OpenWithoutApprovalOfPermit2IsRefused() public {
        vm.prank(payer);
        token.approve(PERMIT2, DEPOSIT - 1);
        expectRefused(opening(), signed(opening()), abi.encodeWithSignature("Error(string)", NO_ALLOWANCE));
    }

    function test_ADepositThatDoesNotArriveInFullIsRefused() public {
        useToken(InexactToken(deploy("InexactToken", abi.encode(int256(-1)))));
        approvePermit2Only(payer);
        expectRefused(
            opening(),
            signed(opening()),
            abi.encodeWithSelector(IEscrowErrors.DepositNotExact.selector, address(token), DEPOSIT, DEPOSIT - 1)
        );
    }

    function test_WhereThereIsNoPermit2NothingIsOpened() public {
        bytes memory signature = signed(opening());
        vm.etch(PERMIT2, "");
        expectRefused(opening(), signature, "");
    }
}
