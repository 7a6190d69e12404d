// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IBatchSettlement} from "../../contracts/IBatchSettlement.sol";
import {IPaymentChannelEscrow} from "../../contracts/IPaymentChannelEscrow.sol";
import {IRelayedProfile} from "../../contracts/IRelayedProfile.sol";
import {ReentrantToken} from "../../contracts/test/ReentrantToken.sol";
import {BatchTest} from "./support/BatchTest.sol";
import {EscrowTest} from "./support/EscrowTest.sol";
import {PayeeSigner} from "./support/PayeeSigner.sol";
import {Permit2Test} from "./support/Permit2Test.sol";

/// A token that calls back in the middle of a transfer gets nowhere, whichever way in it tries.
contract ReentrancyTest is Permit2Test, PayeeSigner, BatchTest {
    uint256 private constant FOR_EVER = type(uint256).max;

    ReentrantToken private hostile;
    bytes32 private channelId;
    uint256 private unique;

    function setUp() public override(Permit2Test, PayeeSigner, EscrowTest) {
        super.setUp();
        hostile = ReentrantToken(deploy("ReentrantToken", ""));
        useToken(hostile);
        vm.prank(payer);
        token.approve(PERMIT2, type(uint256).max);
        channelId = openChannel();
    }

    /// @dev All functions that change state, as the hostile token would call them.
    function waysIn() private view returns (bytes[] memory calls) {
        calls = new bytes[](14);
        address money = address(token);
        calls[0] = abi.encodeCall(IPaymentChannelEscrow.open, (payee, money, 1, SALT, address(0)));
        calls[1] = abi.encodeCall(
            IRelayedProfile.openWithAuthorization,
            (payee, money, 1, SALT, address(0), payer, 0, 1, bytes32(0), NO_SIGNATURE)
        );
        calls[2] = abi.encodeCall(
            IRelayedProfile.openWithPermit2,
            (payee, money, 1, SALT, address(0), payer, 0, 1, NO_SIGNATURE)
        );
        calls[3] = abi.encodeCall(IPaymentChannelEscrow.topUp, (channelId, 1));
        calls[4] = abi.encodeCall(
            IRelayedProfile.topUpWithAuthorization,
            (channelId, 1, payer, SALT, 0, 1, bytes32(0), NO_SIGNATURE)
        );
        calls[5] = abi.encodeCall(IRelayedProfile.topUpWithPermit2, (channelId, 1, payer, 0, 1, NO_SIGNATURE));
        calls[6] = abi.encodeCall(IPaymentChannelEscrow.settle, (channelId, 1, NO_SIGNATURE));
        calls[7] = abi.encodeCall(
            IRelayedProfile.settleWithAuthorization,
            (channelId, 1, 0, FOR_EVER, NO_SIGNATURE, NO_SIGNATURE)
        );
        calls[8] = abi.encodeCall(IBatchSettlement.settleMany, (rows(unsigned(channelId, 1))));
        calls[9] = abi.encodeCall(IPaymentChannelEscrow.close, (channelId, 0, NO_SIGNATURE));
        calls[10] = abi.encodeCall(
            IRelayedProfile.closeWithAuthorization,
            (channelId, 0, 0, FOR_EVER, NO_SIGNATURE, NO_SIGNATURE)
        );
        calls[11] = abi.encodeCall(IBatchSettlement.closeMany, (rows(unsigned(channelId, 0))));
        calls[12] = abi.encodeCall(IPaymentChannelEscrow.requestClose, (channelId));
        calls[13] = abi.encodeCall(IPaymentChannelEscrow.withdraw, (channelId));
    }

    /// @dev On a channel of its own for each way in, so that the deed can be done again.
    function tryEverythingDuring(function() internal deed) private {
        bytes memory refusal = abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        for (uint256 i = 0; i < 14; i++) {
            channelId = openNumber(++unique);
            hostile.armQuietly(address(escrow), waysIn()[i]);
            deed();
            vm.assertEq(hostile.answer(), refusal, string.concat("way in ", vm.toString(i)));
            hostile.disarm();
        }
    }

    function freshSalt() private returns (bytes32) {
        return keccak256(abi.encode(++unique));
    }

    // From deposits

    function doOpen() private {
        openChannel(DEPOSIT, freshSalt(), address(0));
    }

    function doOpenWithAuthorization() private {
        bytes32 salt = freshSalt();
        bytes32 nonce = openNonce(payer, payee, salt, address(0));
        bytes memory signature = signReceive(PAYER_KEY, 5, FOR_EVER, nonce);
        escrow.openWithAuthorization(payee, address(token), 5, salt, address(0), payer, 0, FOR_EVER, nonce, signature);
    }

    function doOpenWithPermit2() private {
        bytes32 salt = freshSalt();
        Permit memory permit = Permit(address(token), 5, address(escrow), ++unique, FOR_EVER);
        bytes memory signature = signDigest(PAYER_KEY, openPermitDigest(permit, payee, salt, address(0)));
        escrow.openWithPermit2(payee, address(token), 5, salt, address(0), payer, unique, FOR_EVER, signature);
    }

    function doTopUp() private {
        topUp(channelId, 1);
    }

    function doTopUpWithAuthorization() private {
        bytes32 nonce = keccak256(abi.encode(channelId, uint128(5), payer, SALT));
        bytes memory signature = signReceive(PAYER_KEY, 5, FOR_EVER, nonce);
        escrow.topUpWithAuthorization(channelId, 5, payer, SALT, 0, FOR_EVER, nonce, signature);
    }

    function doTopUpWithPermit2() private {
        Permit memory permit = Permit(address(token), 5, address(escrow), ++unique, FOR_EVER);
        bytes memory signature = signDigest(PAYER_KEY, topUpPermitDigest(permit, channelId));
        escrow.topUpWithPermit2(channelId, 5, payer, unique, FOR_EVER, signature);
    }

    function test_NothingCanBeReenteredFromADepositOutOfAnAllowance() public {
        tryEverythingDuring(doOpen);
        tryEverythingDuring(doTopUp);
    }

    function test_NothingCanBeReenteredFromADepositByAuthorization() public {
        tryEverythingDuring(doOpenWithAuthorization);
        tryEverythingDuring(doTopUpWithAuthorization);
    }

    function test_NothingCanBeReenteredFromADepositByPermit2() public {
        tryEverythingDuring(doOpenWithPermit2);
        tryEverythingDuring(doTopUpWithPermit2);
    }

    // From payouts and refunds.

    function doSettle() private {
        settle(channelId, 100);
    }

    function doSettleWithAuthorization() private {
        Authorization memory a = Authorization(channelId, 100, 0, FOR_EVER);
        bytes memory signature = signDigest(PAYEE_KEY, digestOf(domainOf(address(escrow)), SETTLE_TYPE, a));
        escrow.settleWithAuthorization(channelId, 100, 0, FOR_EVER, signature, signVoucher(PAYER_KEY, channelId, 100));
    }

    function doSettleMany() private {
        vm.assertEq(settleMany(rows(row(channelId, 100))), 1, "redeemed");
    }

    function doClose() private {
        close(channelId, 100);
    }

    function doForfeit() private {
        close(channelId, 0);
    }

    function doCloseWithAuthorization() private {
        Authorization memory a = Authorization(channelId, 100, 0, FOR_EVER);
        bytes memory signature = signDigest(PAYEE_KEY, digestOf(domainOf(address(escrow)), CLOSE_TYPE, a));
        escrow.closeWithAuthorization(channelId, 100, 0, FOR_EVER, signature, signVoucher(PAYER_KEY, channelId, 100));
    }

    function doCloseMany() private {
        vm.assertEq(closeMany(rows(row(channelId, DEPOSIT))), 1, "closed");
    }

    function doForfeitMany() private {
        vm.assertEq(closeMany(rows(unsigned(channelId, 0))), 1, "closed");
    }

    function doWithdraw() private {
        requestClose(channelId);
        vm.warp(block.timestamp + GRACE);
        withdraw(channelId);
    }

    function test_NothingCanBeReenteredFromAPayout() public {
        tryEverythingDuring(doSettle);
        tryEverythingDuring(doSettleWithAuthorization);
    }

    function test_NothingCanBeReenteredFromARefund() public {
        tryEverythingDuring(doClose);
        tryEverythingDuring(doForfeit);
        tryEverythingDuring(doCloseWithAuthorization);
        tryEverythingDuring(doWithdraw);
    }

    function test_NothingCanBeReenteredFromABatchsPayout() public {
        tryEverythingDuring(doSettleMany);
        tryEverythingDuring(doCloseMany);
    }

    function test_NothingCanBeReenteredFromABatchsRefund() public {
        tryEverythingDuring(doForfeitMany);
    }

    /// @dev The channel is only finalized for as long as its refund is tried: nobody can act on that.
    function test_ARefundThatFailsBecauseItReenteredLeavesItsChannelOpenAndTheRestClosed() public {
        hostile.arm(address(escrow), waysIn()[13]);
        bytes32 other = openIn(anotherToken(), 1);
        IBatchSettlement.SignedVoucher[] memory batch = rows(unsigned(channelId, 0), row(other, 5));
        vm.assertEq(closeMany(batch), 1, "closed");
        vm.assertFalse(channelOf(channelId).finalized, "the hostile token's channel is open");
        vm.assertTrue(channelOf(other).finalized, "the other one is not");
        assertBalances(DEPOSIT, 0, "nothing of it was paid");
    }

    function test_ATokenThatInsistsOnReenteringMovesNothing() public {
        bytes[] memory calls = waysIn();
        for (uint256 i = 0; i < calls.length; i++) {
            hostile.arm(address(escrow), calls[i]);
            bytes memory signature = signVoucher(PAYER_KEY, channelId, 100);
            vm.expectRevert(abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector));
            vm.prank(payee);
            escrow.settle(channelId, 100, signature);
        }
    }

    function test_TheGuardIsReleasedAfterEachCall() public {
        settle(channelId, 100);
        settle(channelId, 200);
        topUp(channelId, 1);
        settleMany(rows(row(channelId, 250)));
        requestClose(channelId);
        requestClose(channelId);
        closeMany(rows(row(channelId, 300)));
        assertBalances(0, 300, "after close");
    }
}
