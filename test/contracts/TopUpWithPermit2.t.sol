// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRelayedProfile} from "../../contracts/IRelayedProfile.sol";
import {TestUSDC} from "../../contracts/test/TestUSDC.sol";
import {EscrowTest} from "./support/EscrowTest.sol";
import {IPermit2Errors, Permit2Test} from "./support/Permit2Test.sol";
import {RelayedTopUpTest} from "./support/RelayedTopUpTest.sol";

contract TopUpWithPermit2Test is Permit2Test, RelayedTopUpTest {
    function setUp() public override(Permit2Test, RelayedTopUpTest) {
        super.setUp();
    }

    function prepare(address from) internal override {
        vm.prank(from);
        token.approve(PERMIT2, type(uint256).max);
    }

    function permitOf(Funding memory f) private view returns (Permit memory) {
        return Permit(address(token), f.amount, address(escrow), f.unique, f.expiry);
    }

    function digestOf(Funding memory f) internal view override returns (bytes32) {
        return topUpPermitDigest(permitOf(f), f.channelId);
    }

    function callOf(Funding memory f, bytes memory signature) internal pure override returns (bytes memory) {
        return
            abi.encodeCall(
                IRelayedProfile.topUpWithPermit2,
                (f.channelId, f.amount, f.from, f.unique, f.expiry, signature)
            );
    }

    function notSigned() internal pure override returns (bytes memory) {
        return abi.encodeWithSelector(IPermit2Errors.InvalidSigner.selector);
    }

    function alreadyUsed(Funding memory) internal pure override returns (bytes memory) {
        return abi.encodeWithSelector(IPermit2Errors.InvalidNonce.selector);
    }

    function test_ASignatureWithAnotherNonceIsRefused() public {
        Funding memory changed = fundingBy(payer);
        changed.unique += 1;
        expectRefused(callOf(changed, signDigest(PAYER_KEY, digestOf(fundingBy(payer)))), notSigned());
    }

    function test_ASignatureForAnotherTokenThanTheChannelsIsRefused() public {
        bytes32 ofTheFirstToken = channelId;
        useToken(TestUSDC(deploy("TestUSDC", "")));
        prepare(payer);
        Funding memory funding = fundingBy(payer);
        funding.channelId = ofTheFirstToken;
        bytes memory call = signedCall(PAYER_KEY, funding);
        vm.assertEq(revertOf(stranger, call), notSigned(), "why");
    }

    function test_ASignatureForAnotherSpenderIsRefused() public {
        Permit memory permit = permitOf(fundingBy(payer));
        permit.spender = stranger;
        bytes memory signature = signDigest(PAYER_KEY, topUpPermitDigest(permit, channelId));
        expectRefused(callOf(fundingBy(payer), signature), notSigned());
    }

    function test_AnOpenSignatureTopsUpNothing() public {
        bytes32 digest = openPermitDigest(permitOf(fundingBy(payer)), payee, SALT, address(0));
        expectRefused(callOf(fundingBy(payer), signDigest(PAYER_KEY, digest)), notSigned());
    }

    function test_ASignatureIsGoodUpToAndInItsLastSecond() public {
        Funding memory second = fundingBy(payer);
        second.unique += 1;
        vm.warp(EXPIRY - 1);
        submit(signedCall(PAYER_KEY, fundingBy(payer)));
        vm.warp(EXPIRY);
        submit(signedCall(PAYER_KEY, second));
        vm.assertEq(channelOf(channelId).deposit, DEPOSIT + 2 * AMOUNT, "deposit");
    }

    function test_ASignatureIsRefusedOneSecondAfterItsDeadline() public {
        vm.warp(EXPIRY + 1);
        expectRefused(
            signedCall(PAYER_KEY, fundingBy(payer)),
            abi.encodeWithSelector(IPermit2Errors.SignatureExpired.selector, EXPIRY)
        );
    }

    function test_TopUpWithoutApprovalOfPermit2IsRefused() public {
        vm.prank(payer);
        token.approve(PERMIT2, AMOUNT - 1);
        expectRefused(
            signedCall(PAYER_KEY, fundingBy(payer)),
            abi.encodeWithSignature("Error(string)", "TRANSFER_FROM_FAILED")
        );
    }
}
