// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrowErrors} from "../../contracts/IEscrowErrors.sol";
import {IEscrowEvents} from "../../contracts/IEscrowEvents.sol";
import {InexactToken} from "../../contracts/test/InexactToken.sol";
import {EscrowTest} from "./support/EscrowTest.sol";
import {Vm} from "./support/Vm.sol";

contract TopUpTest is EscrowTest {
    function test_TopUpAddsToTheDeposit() public {
        bytes32 channelId = openChannel();
        settle(channelId, 10);

        vm.expectEmit(address(escrow));
        emit IEscrowEvents.ToppedUp(channelId, payer, 7, DEPOSIT + 7);
        topUp(channelId, 7);

        vm.assertEq(channelOf(channelId).deposit, DEPOSIT + 7, "deposit");
        vm.assertEq(channelOf(channelId).settled, 10, "settled is left alone");
        assertBalances(DEPOSIT + 7 - 10, 10, "after top-up");
    }

    function test_TopUpMakesALargerVoucherGood() public {
        bytes32 channelId = openChannel();
        topUp(channelId, 7);
        settle(channelId, DEPOSIT + 7);
        assertBalances(0, DEPOSIT + 7, "after settling it all");
    }

    function test_TopUpByThePayerCancelsItsCloseRequest() public {
        bytes32 channelId = openChannel();
        requestClose(channelId);

        vm.expectEmit(address(escrow));
        emit IEscrowEvents.CloseRequestCancelled(channelId, payer);
        topUp(channelId, 1);

        vm.assertEq(channelOf(channelId).closeRequestedAt, 0, "no request");
        vm.warp(NOW + GRACE);
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.CloseNotReady.selector, channelId, 0));
        withdraw(channelId);
    }

    function test_TopUpWithoutACloseRequestAnnouncesNoCancellation() public {
        bytes32 channelId = openChannel();
        vm.recordLogs();
        topUp(channelId, 1);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; i++) {
            vm.assertTrue(logs[i].topics[0] != IEscrowEvents.CloseRequestCancelled.selector, "cancelled");
        }
    }

    function test_TopUpByAnyoneElseIsRefused() public {
        bytes32 channelId = openChannel();
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.NotPayer.selector, channelId, payee));
        vm.prank(payee);
        escrow.topUp(channelId, 1);
    }

    function test_TopUpByTheDelegatedSignerIsRefused() public {
        bytes32 channelId = openChannel(DEPOSIT, SALT, signer);
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.NotPayer.selector, channelId, signer));
        vm.prank(signer);
        escrow.topUp(channelId, 1);
    }

    function test_TopUpOfAnUnknownChannelIsRefused() public {
        expectRevert(IEscrowErrors.ChannelNotFound.selector, SALT);
        topUp(SALT, 1);
    }

    function test_I12_TopUpOfAFinalizedChannelIsRefused() public {
        bytes32 channelId = openChannel();
        close(channelId, 10);
        expectRevert(IEscrowErrors.ChannelFinalized.selector, channelId);
        topUp(channelId, 1);
    }

    function test_TopUpOfNothingIsRefused() public {
        bytes32 channelId = openChannel();
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.ZeroDeposit.selector));
        topUp(channelId, 0);
    }

    function test_I1_TopUpBeyond128BitsIsRefused() public {
        uint128 almostAll = type(uint128).max - 5;
        bytes32 channelId = openChannel(almostAll, SALT, address(0));
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.DepositOverflow.selector, almostAll, 6));
        topUp(channelId, 6);

        topUp(channelId, 5);
        vm.assertEq(channelOf(channelId).deposit, type(uint128).max, "up to the last unit");
    }

    function test_TopUpThatDoesNotArriveInFullIsRefused() public {
        InexactToken fair = InexactToken(deploy("InexactToken", abi.encode(int256(0))));
        InexactToken greedy = InexactToken(deploy("InexactToken", abi.encode(int256(-1))));
        useToken(fair);
        bytes32 channelId = openChannel();
        vm.etch(address(fair), address(greedy).code); // a token that starts to take a fee

        vm.expectRevert(
            abi.encodeWithSelector(IEscrowErrors.DepositNotExact.selector, address(token), DEPOSIT + 100, DEPOSIT + 99)
        );
        topUp(channelId, 100);
    }
}
