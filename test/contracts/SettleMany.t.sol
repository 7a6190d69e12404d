// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchSettlement} from "../../contracts/IBatchSettlement.sol";
import {IEscrowErrors} from "../../contracts/IEscrowErrors.sol";
import {IEscrowEvents} from "../../contracts/IEscrowEvents.sol";
import {IPaymentChannelEscrow} from "../../contracts/IPaymentChannelEscrow.sol";
import {BlocklistToken} from "../../contracts/test/BlocklistToken.sol";
import {BatchRowsTest} from "./support/BatchRowsTest.sol";

contract SettleManyTest is BatchRowsTest {
    function send(IBatchSettlement.SignedVoucher[] memory vouchers) internal override returns (uint256) {
        return settleMany(vouchers);
    }

    function singleCall(IBatchSettlement.SignedVoucher memory voucher) internal pure override returns (bytes memory) {
        return
            abi.encodeCall(
                IPaymentChannelEscrow.settle,
                (voucher.channelId, voucher.cumulativeAmount, signatureOf(voucher))
            );
    }

    function stale(bytes32 channelId, uint128 amount, uint128 settled) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IEscrowErrors.AmountNotIncreasing.selector, channelId, amount, settled);
    }

    function test_ManyChannelsAreSettledWithOneTransfer() public {
        settle(first, 40);
        IBatchSettlement.SignedVoucher[] memory batch = rows(row(first, AMOUNT), row(last, 7));
        expectOneTransfer(token, payee, AMOUNT - 40 + 7);
        vm.expectEmit(address(escrow));
        emit IEscrowEvents.Settled(first, payer, payee, AMOUNT, AMOUNT - 40);
        vm.expectEmit(address(escrow));
        emit IEscrowEvents.Settled(last, payer, payee, 7, 7);

        vm.assertEq(settleMany(batch), 2, "redeemed");

        assertBalances(2 * DEPOSIT - AMOUNT - 7, AMOUNT + 7, "after the batch");
        vm.assertEq(channelOf(first).settled, AMOUNT, "first");
        vm.assertEq(channelOf(last).settled, 7, "last");
        vm.assertFalse(channelOf(first).finalized, "still open");
    }

    function test_I2_ARowThatIsNotAboveWhatWasSettledIsSkipped() public {
        bytes32 channelId = openChannel();
        settle(channelId, 50);
        expectBad(row(channelId, 50), stale(channelId, 50, 50));
        expectBad(row(channelId, 49), stale(channelId, 49, 50));
        expectBad(unsigned(channelId, 0), stale(channelId, 0, 50));
    }

    function test_RisingRowsOfOneChannelEachPayTheirPart() public {
        IBatchSettlement.SignedVoucher[] memory batch = rows(row(first, 10), row(first, 30), row(first, 60));
        expectOneTransfer(token, payee, 60);
        vm.assertEq(settleMany(batch), 3, "redeemed");
        vm.assertEq(channelOf(first).settled, 60, "settled");
    }

    function test_I4_EqualRowsOfOneChannelPayOnce() public {
        IBatchSettlement.SignedVoucher[] memory batch = rows(row(first, 10), row(first, 10), row(last, 5));
        expectOneTransfer(token, payee, 15);
        expectSkipped(first, payer, stale(first, 10, 10));
        vm.assertEq(settleMany(batch), 2, "redeemed");
    }

    function test_I2_FallingRowsOfOneChannelPayTheHighestOnly() public {
        IBatchSettlement.SignedVoucher[] memory batch = rows(row(first, 60), row(first, 30), row(first, 10));
        expectOneTransfer(token, payee, 60);
        expectSkipped(first, payer, stale(first, 30, 60));
        expectSkipped(first, payer, stale(first, 10, 60));
        vm.assertEq(settleMany(batch), 1, "redeemed");
    }

    function test_ABatchLeavesPendingCloseRequestsPending() public {
        requestClose(first);
        settleMany(rows(row(first, AMOUNT), row(last, AMOUNT)));
        vm.assertEq(channelOf(first).closeRequestedAt, NOW, "still pending");
        vm.warp(NOW + GRACE);
        withdraw(first);
        assertBalances(DEPOSIT - AMOUNT, 2 * AMOUNT, "the payee was paid first");
    }

    function test_SettlingAsksNothingOfThePayersSoABlockedOneIsSettledAgainst() public {
        BlocklistToken blocklist = BlocklistToken(deploy("BlocklistToken", ""));
        useToken(blocklist);
        bytes32 channelId = openChannel();
        blocklist.setBlocked(payer, true);
        vm.assertEq(settleMany(rows(row(channelId, AMOUNT))), 1, "redeemed");
        assertBalances(DEPOSIT - AMOUNT, AMOUNT, "after the batch");
    }

    function test_ATokenThatRefusesThePayeeFailsTheWholeBatchAndNothingIsLost() public {
        BlocklistToken blocklist = BlocklistToken(deploy("BlocklistToken", ""));
        useToken(blocklist);
        bytes32 refused = openChannel();
        blocklist.setBlocked(payee, true);
        bytes memory call = abi.encodeCall(IBatchSettlement.settleMany, (rows(row(first, AMOUNT), row(refused, 5))));
        vm.assertEq(
            revertOf(payee, call),
            abi.encodeWithSelector(BlocklistToken.Blocked.selector, payee),
            "the token's own reason"
        );
        vm.assertEq(channelOf(first).settled, 0, "first");
        vm.assertEq(channelOf(refused).settled, 0, "refused");

        vm.assertEq(settleMany(rows(row(first, AMOUNT))), 1, "without that token's channels it works");
    }

    function test_ARowTakes128BytesOfCalldata() public view {
        bytes memory one = abi.encodeCall(IBatchSettlement.settleMany, (rows(row(first, AMOUNT))));
        bytes memory two = abi.encodeCall(IBatchSettlement.settleMany, (rows(row(first, AMOUNT), row(last, AMOUNT))));
        vm.assertEq(two.length - one.length, 128, "bytes for one more");
        vm.assertEq(one.length, 4 + 2 * 32 + 128, "bytes for the first");
    }

    /// @dev Such calldata is nobody's voucher: whoever sends it has encoded it wrong.
    function test_ABatchWithAnAmountBeyond128BitsIsNotDecoded() public {
        bytes memory call = abi.encodeCall(IBatchSettlement.settleMany, (rows(row(first, AMOUNT))));
        call[4 + 3 * 32 + 15] = 0x01; // the lowest byte above the amount
        vm.assertEq(revertOf(payee, call), "", "no reason, as the decoder gives none");
    }

    function test_AHundredChannelsInOneBatch() public {
        IBatchSettlement.SignedVoucher[] memory batch = new IBatchSettlement.SignedVoucher[](100);
        for (uint256 i = 0; i < 100; i++) batch[i] = row(openNumber(i), AMOUNT);
        expectOneTransfer(token, payee, 100 * AMOUNT);
        vm.assertEq(settleMany(batch), 100, "redeemed");
    }
}
