// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrowErrors} from "../../contracts/IEscrowErrors.sol";
import {IEscrowEvents} from "../../contracts/IEscrowEvents.sol";
import {BlocklistToken} from "../../contracts/test/BlocklistToken.sol";
import {EscrowTest} from "./support/EscrowTest.sol";

contract SettleTest is EscrowTest {
    function test_SettlePaysWhatIsNewInTheVoucher() public {
        bytes32 channelId = openChannel();
        settle(channelId, 100);
        assertBalances(DEPOSIT - 100, 100, "first voucher");

        vm.expectEmit(address(escrow));
        emit IEscrowEvents.Settled(channelId, payer, payee, 250, 150);
        settle(channelId, 250);

        assertBalances(DEPOSIT - 250, 250, "second voucher");
        vm.assertEq(channelOf(channelId).settled, 250, "settled");
        vm.assertEq(channelOf(channelId).deposit, DEPOSIT, "deposit is not reduced");
        vm.assertFalse(channelOf(channelId).finalized, "still open");
    }

    function test_I1_SettleTakesTheWholeDepositAndNotOneUnitMore() public {
        bytes32 channelId = openChannel();
        openChannel(DEPOSIT, keccak256("another channel in the same pool"), address(0));
        vm.expectRevert(
            abi.encodeWithSelector(IEscrowErrors.AmountExceedsDeposit.selector, channelId, DEPOSIT + 1, DEPOSIT)
        );
        settle(channelId, DEPOSIT + 1);

        settle(channelId, DEPOSIT);
        assertBalances(DEPOSIT, DEPOSIT, "the other channel's deposit is left");
    }

    function test_I2_SettleOfTheSameVoucherAgainIsRefused() public {
        bytes32 channelId = openChannel();
        settle(channelId, 100);
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.AmountNotIncreasing.selector, channelId, 100, 100));
        settle(channelId, 100);
    }

    function test_I2_SettleOfAnOlderVoucherIsRefused() public {
        bytes32 channelId = openChannel();
        settle(channelId, 100);
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.AmountNotIncreasing.selector, channelId, 99, 100));
        settle(channelId, 99);
    }

    function test_SettleOfNothingIsRefused() public {
        bytes32 channelId = openChannel();
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.AmountNotIncreasing.selector, channelId, 0, 0));
        settle(channelId, 0);
    }

    function test_SettleByAnyoneButThePayeeIsRefused() public {
        bytes32 channelId = openChannel();
        bytes memory signature = signVoucher(PAYER_KEY, channelId, 100);
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.NotPayee.selector, channelId, payer));
        vm.prank(payer);
        escrow.settle(channelId, 100, signature);
    }

    function test_SettleOfAnUnknownChannelIsRefused() public {
        expectRevert(IEscrowErrors.ChannelNotFound.selector, SALT);
        settle(SALT, 1);
    }

    function test_I12_SettleOfAFinalizedChannelIsRefused() public {
        bytes32 channelId = openChannel();
        close(channelId, 10);
        expectRevert(IEscrowErrors.ChannelFinalized.selector, channelId);
        settle(channelId, 11);
    }

    function test_SettleWorksWhileACloseIsPendingAndLeavesItPending() public {
        bytes32 channelId = openChannel();
        requestClose(channelId);
        settle(channelId, 100);
        vm.assertEq(channelOf(channelId).closeRequestedAt, NOW, "still pending");
    }

    function test_SettleWorksAfterTheGracePeriodUntilThePayerWithdraws() public {
        bytes32 channelId = openChannel();
        requestClose(channelId);
        vm.warp(NOW + 10 * GRACE);
        settle(channelId, 100);
        withdraw(channelId);
        assertBalances(0, 100, "after withdraw");
    }

    function test_SettleAgainstAPayerTheTokenHasBlocked() public {
        BlocklistToken blocklist = BlocklistToken(deploy("BlocklistToken", ""));
        useToken(blocklist);
        bytes32 channelId = openChannel();
        blocklist.setBlocked(payer, true);
        settle(channelId, 100);
        assertBalances(DEPOSIT - 100, 100, "after settle");
    }

    function test_SettleByAPayeeThatIsThePayer() public {
        payee = payer;
        bytes32 channelId = openChannel();
        settle(channelId, 100);
        vm.assertEq(token.balanceOf(address(escrow)), DEPOSIT - 100, "in escrow");
    }

    function test_ChannelsOfTwoPayeesOfOneTokenAreApart() public {
        bytes32 first = openChannel();
        payee = address(0xCAFE);
        bytes32 second = openChannel();
        vm.assertEq(channelOf(second).payee, address(0xCAFE), "second payee");

        bytes memory signature = signVoucher(PAYER_KEY, first, 100);
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.NotPayee.selector, first, payee));
        vm.prank(payee);
        escrow.settle(first, 100, signature);

        // nor is a voucher for one channel good for the other
        expectInvalidSignature(second, payer);
        vm.prank(payee);
        escrow.settle(second, 100, signature);
    }
}
