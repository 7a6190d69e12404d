// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrowErrors} from "../../contracts/IEscrowErrors.sol";
import {IEscrowEvents} from "../../contracts/IEscrowEvents.sol";
import {EscrowTest} from "./support/EscrowTest.sol";
import {Vm} from "./support/Vm.sol";

contract ForcedCloseTest is EscrowTest {
    bytes32 private channelId;

    function setUp() public override {
        super.setUp();
        channelId = openChannel();
    }

    function expectNotReady(uint256 readyAt) private {
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.CloseNotReady.selector, channelId, readyAt));
    }

    // requestClose

    function test_RequestCloseStartsTheClock() public {
        vm.expectEmit(address(escrow));
        emit IEscrowEvents.CloseRequested(channelId, payer, uint64(NOW), NOW + GRACE);
        requestClose(channelId);
        vm.assertEq(channelOf(channelId).closeRequestedAt, NOW, "closeRequestedAt");
        vm.assertFalse(channelOf(channelId).finalized, "still open");
    }

    function test_ASecondRequestCloseDoesNotRestartTheClock() public {
        requestClose(channelId);
        vm.warp(NOW + GRACE - 1);
        vm.recordLogs();
        requestClose(channelId);
        Vm.Log[] memory logs = vm.getRecordedLogs();

        vm.assertEq(logs.length, 0, "nothing happened, nothing is announced");
        vm.assertEq(channelOf(channelId).closeRequestedAt, NOW, "closeRequestedAt");
        vm.warp(NOW + GRACE);
        withdraw(channelId);
    }

    function test_RequestCloseAfterACancelledOneStartsANewClock() public {
        requestClose(channelId);
        topUp(channelId, 1);
        vm.warp(NOW + GRACE);
        requestClose(channelId);
        expectNotReady(NOW + 2 * GRACE);
        withdraw(channelId);
    }

    function test_RequestCloseByThePayeeIsRefused() public {
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.NotPayer.selector, channelId, payee));
        vm.prank(payee);
        escrow.requestClose(channelId);
    }

    function test_RequestCloseOfAnUnknownChannelIsRefused() public {
        expectRevert(IEscrowErrors.ChannelNotFound.selector, SALT);
        requestClose(SALT);
    }

    function test_I12_RequestCloseOfAFinalizedChannelIsRefused() public {
        close(channelId, 10);
        expectRevert(IEscrowErrors.ChannelFinalized.selector, channelId);
        requestClose(channelId);
    }

    // withdraw

    function test_WithdrawOneSecondBeforeTheGracePeriodIsOverIsRefused() public {
        requestClose(channelId);
        vm.warp(NOW + GRACE - 1);
        expectNotReady(NOW + GRACE);
        withdraw(channelId);
    }

    function test_WithdrawInTheSecondTheGracePeriodIsOver() public {
        requestClose(channelId);
        vm.warp(NOW + GRACE);
        vm.expectEmit(address(escrow));
        emit IEscrowEvents.Withdrawn(channelId, payer, 0, DEPOSIT);
        withdraw(channelId);
        assertBalances(0, 0, "after withdraw");
        vm.assertTrue(channelOf(channelId).finalized, "finalized");
    }

    function test_WithdrawOneSecondAfterTheGracePeriodIsOver() public {
        requestClose(channelId);
        vm.warp(NOW + GRACE + 1);
        withdraw(channelId);
        assertBalances(0, 0, "after withdraw");
    }

    function test_WithdrawReturnsOnlyWhatWasNotSettled() public {
        settle(channelId, 100);
        requestClose(channelId);
        settle(channelId, 250);
        vm.warp(NOW + GRACE);
        vm.expectEmit(address(escrow));
        emit IEscrowEvents.Withdrawn(channelId, payer, 250, DEPOSIT - 250);
        withdraw(channelId);
        assertBalances(0, 250, "after withdraw");
    }

    function test_WithdrawFromAnExhaustedChannelFinalizesIt() public {
        settle(channelId, DEPOSIT);
        requestClose(channelId);
        vm.warp(NOW + GRACE);
        withdraw(channelId);
        vm.assertTrue(channelOf(channelId).finalized, "finalized");
        assertBalances(0, DEPOSIT, "after withdraw");
    }

    function test_WithdrawWithoutARequestIsRefused() public {
        expectNotReady(0);
        withdraw(channelId);
    }

    function test_WithdrawByThePayeeIsRefused() public {
        requestClose(channelId);
        vm.warp(NOW + GRACE);
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.NotPayer.selector, channelId, payee));
        vm.prank(payee);
        escrow.withdraw(channelId);
    }

    function test_WithdrawFromAnUnknownChannelIsRefused() public {
        expectRevert(IEscrowErrors.ChannelNotFound.selector, SALT);
        withdraw(SALT);
    }

    function test_I12_ASecondWithdrawIsRefused() public {
        requestClose(channelId);
        vm.warp(NOW + GRACE);
        withdraw(channelId);
        expectRevert(IEscrowErrors.ChannelFinalized.selector, channelId);
        withdraw(channelId);
    }

    function test_I12_WithdrawAfterACooperativeCloseIsRefused() public {
        requestClose(channelId);
        close(channelId, 10);
        vm.warp(NOW + GRACE);
        expectRevert(IEscrowErrors.ChannelFinalized.selector, channelId);
        withdraw(channelId);
    }
}
