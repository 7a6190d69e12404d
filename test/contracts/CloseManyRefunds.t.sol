// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchSettlement} from "../../contracts/IBatchSettlement.sol";
import {IEscrowErrors} from "../../contracts/IEscrowErrors.sol";
import {IEscrowEvents} from "../../contracts/IEscrowEvents.sol";
import {BlocklistToken} from "../../contracts/test/BlocklistToken.sol";
import {TestUSDC} from "../../contracts/test/TestUSDC.sol";
import {UnrulyToken} from "../../contracts/test/UnrulyToken.sol";
import {BatchTest} from "./support/BatchTest.sol";
import {Vm} from "./support/Vm.sol";

/// A refund that a token refuses, in a batch of closes: that channel stays open, and nothing else notices.
contract CloseManyRefundsTest is BatchTest {
    uint128 private constant AMOUNT = 100;
    uint128 private constant BEFORE = 40;
    uint256 private constant NEIGHBOUR_KEY = 0x4E16;
    uint256 private constant REFUND_GAS_LIMIT = 300_000;

    UnrulyToken private unruly;
    TestUSDC private proper;

    bytes32 private troubled; // of the payer, whose refunds go wrong
    bytes32 private neighbours; // in the same token, of another payer
    bytes32 private elsewhere; // of the same payer, in another token

    function setUp() public override {
        super.setUp();
        elsewhere = openChannel();
        proper = token;
        unruly = UnrulyToken(deploy("UnrulyToken", ""));
        useToken(unruly);
        troubled = openChannel();
        settle(troubled, BEFORE);
        neighbours = openByNeighbour(1);
    }

    function openByNeighbour(uint256 number) private returns (bytes32) {
        address neighbour = vm.addr(NEIGHBOUR_KEY);
        token.mint(neighbour, DEPOSIT);
        vm.prank(neighbour);
        token.approve(address(escrow), DEPOSIT);
        vm.prank(neighbour);
        return escrow.open(payee, address(token), DEPOSIT, bytes32(number), address(0));
    }

    function refused() private view returns (bytes memory) {
        return abi.encodeWithSelector(IEscrowErrors.RefundRefused.selector, troubled, payer);
    }

    function batch() private view returns (IBatchSettlement.SignedVoucher[] memory) {
        return rows(row(NEIGHBOUR_KEY, neighbours, AMOUNT), row(troubled, AMOUNT), row(elsewhere, AMOUNT));
    }

    /// @dev The row's voucher is redeemed, its channel stays open, the rows around it are closed, and nothing is lost.
    function expectLeftOpen(UnrulyToken.Manner manner) private {
        unruly.setManner(payer, manner);
        IBatchSettlement.SignedVoucher[] memory all = batch();
        vm.expectEmit(address(escrow));
        emit IEscrowEvents.Settled(troubled, payer, payee, AMOUNT, AMOUNT - BEFORE);
        expectSkipped(troubled, payer, refused());

        vm.assertEq(closeMany(all), 2, "closed");

        vm.assertFalse(channelOf(troubled).finalized, "not finalized");
        vm.assertEq(channelOf(troubled).settled, AMOUNT, "but redeemed");
        vm.assertTrue(channelOf(neighbours).finalized, "the same token's other channel is closed");
        vm.assertTrue(channelOf(elsewhere).finalized, "and so is the payer's other channel");
        vm.assertEq(unruly.balanceOf(address(escrow)), DEPOSIT - AMOUNT, "what the open channel is owed");
        vm.assertEq(unruly.balanceOf(payee), 2 * AMOUNT, "payee");
        vm.assertEq(proper.balanceOf(payee), AMOUNT, "payee, in the other token");
        vm.assertEq(proper.balanceOf(address(escrow)), 0, "in escrow, of the other token");
        expectStillOfUse();
    }

    /// @dev Once the token pays again, everything works on the channel that was left open.
    function expectStillOfUse() private {
        settle(troubled, AMOUNT + 1);
        topUp(troubled, 1);
        unruly.setManner(payer, UnrulyToken.Manner.Proper);
        requestClose(troubled);
        vm.warp(NOW + GRACE);
        withdraw(troubled);
        vm.assertTrue(channelOf(troubled).finalized, "finalized");
        vm.assertEq(unruly.balanceOf(address(escrow)), 0, "in escrow");
        vm.assertEq(unruly.balanceOf(payee), 2 * AMOUNT + 1, "payee");
    }

    function test_ARefundThatRevertsLeavesItsChannelOpen() public {
        expectLeftOpen(UnrulyToken.Manner.Reverts);
    }

    function test_ARefundThatReturnsFalseLeavesItsChannelOpen() public {
        expectLeftOpen(UnrulyToken.Manner.ReturnsFalse);
    }

    function test_ARefundThatReturnsAMalformedBoolLeavesItsChannelOpen() public {
        expectLeftOpen(UnrulyToken.Manner.ReturnsTwo);
    }

    function test_ARefundThatReturnsLessThanAWordLeavesItsChannelOpen() public {
        expectLeftOpen(UnrulyToken.Manner.ReturnsOneByte);
    }

    /// @dev The escrow's scratch memory may then still hold the one that the answer lacks: the number of the first route.
    function test_ARefundThatReturnsAllOfFalseButTheLastByteLeavesItsChannelOpen() public {
        escrow = deployEscrow(GRACE);
        useToken(unruly);
        bytes32 ofFirstRoute = openChannel();
        unruly.setManner(payer, UnrulyToken.Manner.ReturnsThirtyOneZeros);
        vm.assertEq(closeMany(rows(unsigned(ofFirstRoute, 0))), 0, "closed");
        vm.assertFalse(channelOf(ofFirstRoute).finalized, "not finalized");
    }

    function test_ARefundThatBurnsAllItsGasLeavesItsChannelOpen() public {
        expectLeftOpen(UnrulyToken.Manner.BurnsAllGas);
    }

    function test_ARefundThatReturnsTooMuchLeavesItsChannelOpen() public {
        expectLeftOpen(UnrulyToken.Manner.ReturnsTooMuch);
    }

    function test_ARefundThatRevertsWithTooMuchLeavesItsChannelOpen() public {
        expectLeftOpen(UnrulyToken.Manner.RevertsWithTooMuch);
    }

    function test_ARefundToABlockedPayerLeavesItsChannelOpenAndLaterCloses() public {
        BlocklistToken blocklist = BlocklistToken(deploy("BlocklistToken", ""));
        useToken(blocklist);
        troubled = openChannel();
        blocklist.setBlocked(payer, true);
        IBatchSettlement.SignedVoucher[] memory all = rows(row(troubled, AMOUNT), row(elsewhere, AMOUNT));
        expectSkipped(troubled, payer, refused());
        vm.assertEq(closeMany(all), 1, "closed");
        assertBalances(DEPOSIT - AMOUNT, AMOUNT, "redeemed, not refunded");

        blocklist.setBlocked(payer, false);
        close(troubled, AMOUNT + 1);
        assertBalances(0, AMOUNT + 1, "closed by a single call");
    }

    function test_ATokenThatReturnsNothingRefundsAsUSDTDoes() public {
        unruly.setManner(payer, UnrulyToken.Manner.ReturnsNothing);
        unruly.setManner(payee, UnrulyToken.Manner.ReturnsNothing);
        vm.assertEq(closeMany(batch()), 3, "closed");
        vm.assertEq(unruly.balanceOf(address(escrow)), 0, "in escrow");
    }

    function test_ATokenWithoutCodeAnyMoreLeavesItsChannelOpen() public {
        bytes memory code = address(unruly).code;
        vm.etch(address(unruly), "");
        expectSkipped(troubled, payer, refused());
        vm.assertEq(closeMany(rows(unsigned(troubled, 0), row(elsewhere, AMOUNT))), 1, "closed");
        vm.assertFalse(channelOf(troubled).finalized, "still open");

        vm.etch(address(unruly), code);
        vm.assertEq(closeMany(rows(unsigned(troubled, 0))), 1, "closed");
    }

    function test_ARefusedForfeitRowAnnouncesNoSettlement() public {
        unruly.setManner(payer, UnrulyToken.Manner.Reverts);
        IBatchSettlement.SignedVoucher[] memory all = rows(unsigned(troubled, 0));
        vm.assertEq(closeMany(all), 0, "closed");
        Vm.Log[] memory logs = lastLogs();
        vm.assertEq(count(logs, IEscrowEvents.Settled.selector), 0, "Settled");
        vm.assertEq(count(logs, IEscrowEvents.SettlementSkipped.selector), 1, "SettlementSkipped");
        vm.assertEq(logs.length, 1, "and nothing else");
        vm.assertEq(channelOf(troubled).settled, BEFORE, "settled");
    }

    function test_ARefusedRefundLeavesACloseRequestPending() public {
        requestClose(troubled);
        unruly.setManner(payer, UnrulyToken.Manner.Reverts);
        closeMany(rows(row(troubled, AMOUNT)));
        vm.assertEq(channelOf(troubled).closeRequestedAt, NOW, "still pending");
    }

    function test_LaterRowsOfAChannelThatWasLeftOpenPayTheirPart() public {
        unruly.setManner(payer, UnrulyToken.Manner.Reverts);
        IBatchSettlement.SignedVoucher[] memory all = rows(row(troubled, 60), row(troubled, 70), unsigned(troubled, 0));
        expectOneTransfer(unruly, payee, 70 - BEFORE);
        for (uint256 i = 0; i < 3; i++) expectSkipped(troubled, payer, refused());
        vm.assertEq(closeMany(all), 0, "closed");
        vm.assertEq(channelOf(troubled).settled, 70, "settled");
        vm.assertEq(unruly.balanceOf(address(escrow)), 2 * DEPOSIT - 70, "in escrow");
    }

    // What a token can do to a batch, and what it cannot

    function test_ARefundCanBurnNoMoreThanItsLimit() public {
        unruly.setManner(payer, UnrulyToken.Manner.BurnsAllGas);
        expectGasPerRowBelow(REFUND_GAS_LIMIT + 100_000);
    }

    function test_ARefundThatReturnsTooMuchCostsABatchNoMoreThanItsLimitPerRow() public {
        unruly.setManner(payer, UnrulyToken.Manner.ReturnsTooMuch);
        expectGasPerRowBelow(REFUND_GAS_LIMIT + 100_000);
    }

    function test_ARefundThatRevertsWithTooMuchCostsABatchNoMoreThanItsLimitPerRow() public {
        unruly.setManner(payer, UnrulyToken.Manner.RevertsWithTooMuch);
        expectGasPerRowBelow(REFUND_GAS_LIMIT + 100_000);
    }

    function expectGasPerRowBelow(uint256 limit) private {
        IBatchSettlement.SignedVoucher[] memory all = new IBatchSettlement.SignedVoucher[](20);
        for (uint256 i = 0; i < all.length; i++) all[i] = row(openNumber(i), AMOUNT);
        vm.prank(payee);
        uint256 before = gasleft();
        escrow.closeMany(all);
        vm.assertTrue((before - gasleft()) / all.length < limit, "gas per row");
    }

    /// @dev A token that lies can only empty itself: what it did is taken for what it said.
    function test_ATokenThatMovesARefundAndDeniesItShortsItsOwnChannelsOnly() public {
        unruly.setManner(payer, UnrulyToken.Manner.MovesAndReturnsFalse);

        vm.assertEq(closeMany(rows(unsigned(troubled, 0), unsigned(troubled, 0), unsigned(elsewhere, 0))), 1, "closed");
        vm.assertFalse(channelOf(troubled).finalized, "taken for refused");
        vm.assertTrue(
            unruly.balanceOf(address(escrow)) < 2 * DEPOSIT - BEFORE,
            "but moved: its other channels are short"
        );
        vm.assertTrue(channelOf(elsewhere).finalized, "the other token's channel is closed");
        vm.assertEq(proper.balanceOf(address(escrow)), 0, "and refunded");
    }

    function test_AMalformedAnswerIsARefusalWhateverMoved() public {
        unruly.setManner(payer, UnrulyToken.Manner.MovesAndReturnsTwo);
        vm.assertEq(closeMany(rows(unsigned(troubled, 0))), 0, "closed");
        vm.assertFalse(channelOf(troubled).finalized, "taken for refused");
    }

    /// @dev Whoever sends it, with however little gas: it reverts as a whole or does everything.
    function test_ABatchShortOfGasDoesNotPassForARefusedRefund() public {
        bytes memory call = abi.encodeCall(IBatchSettlement.closeMany, (batch()));
        bool success = false;
        for (uint256 gasLimit = 40_000; !success; gasLimit += 997) {
            vm.assertTrue(gasLimit < 500_000, "enough at last");
            vm.prank(payee);
            (success, ) = address(escrow).call{gas: gasLimit}(call);
            vm.assertEq(channelOf(troubled).finalized ? 1 : 0, success ? 1 : 0, "closed if it did not revert");
            vm.assertEq(unruly.balanceOf(address(escrow)), success ? 0 : 2 * DEPOSIT - BEFORE, "in escrow");
        }
    }
}
