// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchSettlement} from "../../contracts/IBatchSettlement.sol";
import {IEscrowErrors} from "../../contracts/IEscrowErrors.sol";
import {IEscrowEvents} from "../../contracts/IEscrowEvents.sol";
import {IPaymentChannelEscrow} from "../../contracts/IPaymentChannelEscrow.sol";
import {BlocklistToken} from "../../contracts/test/BlocklistToken.sol";
import {TestUSDC} from "../../contracts/test/TestUSDC.sol";
import {BatchRowsTest} from "./support/BatchRowsTest.sol";

/// Refunds that a token refuses are in CloseManyRefunds.t.sol.
contract CloseManyTest is BatchRowsTest {
    function send(IBatchSettlement.SignedVoucher[] memory vouchers) internal override returns (uint256) {
        return closeMany(vouchers);
    }

    function singleCall(IBatchSettlement.SignedVoucher memory voucher) internal pure override returns (bytes memory) {
        return
            abi.encodeCall(
                IPaymentChannelEscrow.close,
                (voucher.channelId, voucher.cumulativeAmount, signatureOf(voucher))
            );
    }

    function finalized(bytes32 channelId) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IEscrowErrors.ChannelFinalized.selector, channelId);
    }

    function test_ManyChannelsAreClosedWithOneTransferToThePayeeAndARefundEach() public {
        settle(first, 40);
        IBatchSettlement.SignedVoucher[] memory batch = rows(row(first, AMOUNT), row(last, 7));
        expectOneTransfer(token, payee, AMOUNT - 40 + 7);
        vm.expectEmit(address(escrow));
        emit IEscrowEvents.ChannelClosed(first, payer, payee, AMOUNT, AMOUNT - 40, DEPOSIT - AMOUNT);
        vm.expectEmit(address(escrow));
        emit IEscrowEvents.ChannelClosed(last, payer, payee, 7, 7, DEPOSIT - 7);

        vm.assertEq(closeMany(batch), 2, "closed");

        assertBalances(0, AMOUNT + 7, "after the batch");
        vm.assertTrue(channelOf(first).finalized && channelOf(last).finalized, "finalized");
        vm.assertEq(channelOf(first).settled, AMOUNT, "first");
        vm.assertEq(channelOf(last).settled, 7, "last");
    }

    function test_ForfeitRowsNeedNoSignatureAndPayNothing() public {
        settle(first, 40);
        IBatchSettlement.SignedVoucher[] memory batch = rows(unsigned(first, 40), unsigned(last, 0));
        expectOneTransfer(token, payee, 0);
        vm.expectEmit(address(escrow));
        emit IEscrowEvents.ChannelClosed(first, payer, payee, 40, 0, DEPOSIT - 40);
        vm.assertEq(closeMany(batch), 2, "closed");
        assertBalances(0, 40, "after the batch");
        vm.assertEq(channelOf(first).settled, 40, "settled does not go back (I2)");
    }

    function test_AForfeitRowBelowSettledKeepsWhatWasSettled() public {
        settle(first, 40);
        vm.assertEq(closeMany(rows(unsigned(first, 39))), 1, "closed");
        assertBalances(DEPOSIT, 40, "after the batch");
        vm.assertEq(channelOf(first).settled, 40, "settled does not go back (I2)");
    }

    function test_EachPayerIsRefundedInItsChannelsTokenHoweverTheRowsAreMixed() public {
        TestUSDC other = anotherToken();
        bytes32 elsewhere = openIn(other, 1);
        IBatchSettlement.SignedVoucher[] memory batch = rows(unsigned(first, 0), row(elsewhere, 5), row(last, 7));
        expectOneTransfer(other, payee, 5);
        expectOneTransfer(token, payee, 7);
        vm.assertEq(closeMany(batch), 3, "closed");
        assertBalances(0, 7, "the one token");
        vm.assertEq(other.balanceOf(address(escrow)), 0, "the other token");
        vm.assertEq(other.balanceOf(payer), type(uint128).max - 5, "its payer");
    }

    function test_AnExhaustedChannelIsClosedWithoutTroublingTheToken() public {
        settle(first, DEPOSIT);
        IBatchSettlement.SignedVoucher[] memory batch = rows(unsigned(first, 0));
        expectOneTransfer(token, payee, 0);
        expectOneTransfer(token, payer, 0);
        vm.assertEq(closeMany(batch), 1, "closed");
        vm.assertTrue(channelOf(first).finalized, "finalized");
    }

    function test_AnExhaustedChannelOfABlockedPayerIsClosed() public {
        BlocklistToken blocklist = BlocklistToken(deploy("BlocklistToken", ""));
        useToken(blocklist);
        bytes32 channelId = openChannel();
        blocklist.setBlocked(payer, true);
        vm.assertEq(closeMany(rows(row(channelId, DEPOSIT))), 1, "closed");
        assertBalances(0, DEPOSIT, "after the batch");
    }

    // Several rows of one channel: the first that is good closes it

    function test_I12_RisingRowsCloseWithTheFirst() public {
        IBatchSettlement.SignedVoucher[] memory batch = rows(row(first, 10), row(first, 30), row(last, 5));
        expectOneTransfer(token, payee, 15);
        expectSkipped(first, payer, finalized(first));
        vm.assertEq(closeMany(batch), 2, "closed");
        vm.assertEq(channelOf(first).settled, 10, "settled");
        assertBalances(0, 15, "after the batch");
    }

    function test_I12_EqualRowsCloseAndRefundOnce() public {
        IBatchSettlement.SignedVoucher[] memory batch = rows(row(first, 10), row(first, 10));
        expectOneTransfer(token, payer, DEPOSIT - 10);
        expectSkipped(first, payer, finalized(first));
        vm.assertEq(closeMany(batch), 1, "closed");
        assertBalances(DEPOSIT, 10, "the other channel's deposit is left");
    }

    function test_I12_FallingRowsCloseWithTheFirst() public {
        IBatchSettlement.SignedVoucher[] memory batch = rows(row(first, 30), row(first, 10), unsigned(first, 0));
        expectOneTransfer(token, payer, DEPOSIT - 30);
        expectSkipped(first, payer, finalized(first));
        expectSkipped(first, payer, finalized(first));
        vm.assertEq(closeMany(batch), 1, "closed");
    }

    function test_ABadRowDoesNotKeepAGoodOneOfTheSameChannelFromClosing() public {
        IBatchSettlement.SignedVoucher[] memory batch = rows(unsigned(first, 10), row(first, 10));
        expectSkipped(first, payer, abi.encodeWithSelector(IEscrowErrors.InvalidSignature.selector, first, payer));
        vm.assertEq(closeMany(batch), 1, "closed");
    }

    function test_ClosingWhileACloseIsPendingEndsIt() public {
        requestClose(first);
        closeMany(rows(row(first, AMOUNT)));
        vm.warp(NOW + GRACE);
        expectRevert(IEscrowErrors.ChannelFinalized.selector, first);
        withdraw(first);
    }

    function test_ATokenThatRefusesThePayeeFailsTheWholeBatchAndNothingIsLost() public {
        BlocklistToken blocklist = BlocklistToken(deploy("BlocklistToken", ""));
        useToken(blocklist);
        bytes32 refused = openChannel();
        blocklist.setBlocked(payee, true);
        bytes memory call = abi.encodeCall(IBatchSettlement.closeMany, (rows(row(first, AMOUNT), row(refused, 5))));
        vm.assertEq(
            revertOf(payee, call),
            abi.encodeWithSelector(BlocklistToken.Blocked.selector, payee),
            "the token's own reason"
        );
        vm.assertFalse(channelOf(first).finalized || channelOf(refused).finalized, "both still open");
        assertBalances(DEPOSIT, 0, "no refund either");

        vm.assertEq(closeMany(rows(row(first, AMOUNT))), 1, "without that token's channels it works");
    }

    function test_APayeeThatTheTokenRefusesCanStillForfeit() public {
        BlocklistToken blocklist = BlocklistToken(deploy("BlocklistToken", ""));
        useToken(blocklist);
        bytes32 channelId = openChannel();
        blocklist.setBlocked(payee, true);
        vm.assertEq(closeMany(rows(unsigned(channelId, 0))), 1, "closed");
        assertBalances(0, 0, "refunded");
    }

    function test_APayerThatIsThePayeeIsPaidBoth() public {
        payee = payer;
        bytes32 channelId = openChannel();
        vm.assertEq(closeMany(rows(row(channelId, AMOUNT))), 1, "closed");
        vm.assertEq(token.balanceOf(address(escrow)), 2 * DEPOSIT, "only its own left");
    }
}
