// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IEscrowErrors} from "../../contracts/IEscrowErrors.sol";
import {IEscrowEvents} from "../../contracts/IEscrowEvents.sol";
import {BlocklistToken} from "../../contracts/test/BlocklistToken.sol";
import {EscrowTest} from "./support/EscrowTest.sol";

contract CloseTest is EscrowTest {
    function test_ClosePaysBothSidesInOneTransaction() public {
        bytes32 channelId = openChannel();
        settle(channelId, 100);

        vm.expectEmit(address(escrow));
        emit IEscrowEvents.ChannelClosed(channelId, payer, payee, 250, 150, DEPOSIT - 250);
        close(channelId, 250);

        assertBalances(0, 250, "after close");
        vm.assertEq(channelOf(channelId).settled, 250, "settled");
        vm.assertEq(channelOf(channelId).deposit, DEPOSIT, "deposit");
        vm.assertTrue(channelOf(channelId).finalized, "finalized");
    }

    function test_CloseAtTheWholeDepositPaysNoRefund() public {
        bytes32 channelId = openChannel();
        expectTransfers(payee, DEPOSIT, 1);
        expectTransfers(payer, 0, 0);
        close(channelId, DEPOSIT);
        assertBalances(0, DEPOSIT, "after close");
    }

    function test_CloseBelowSettledForfeitsWithoutSignature() public {
        bytes32 channelId = openChannel();
        settle(channelId, 100);

        vm.expectEmit(address(escrow));
        emit IEscrowEvents.ChannelClosed(channelId, payer, payee, 100, 0, DEPOSIT - 100);
        vm.prank(payee);
        escrow.close(channelId, 99, NO_SIGNATURE);

        assertBalances(0, 100, "after close");
        vm.assertEq(channelOf(channelId).settled, 100, "settled does not go back (I2)");
        vm.assertTrue(channelOf(channelId).finalized, "finalized");
    }

    function test_CloseAtSettledForfeitsWithoutSignature() public {
        bytes32 channelId = openChannel();
        settle(channelId, 100);
        expectTransfers(payee, 0, 0);
        vm.prank(payee);
        escrow.close(channelId, 100, NO_SIGNATURE);
        assertBalances(0, 100, "after close");
    }

    function test_CloseOfAnUnusedChannelRefundsItAll() public {
        bytes32 channelId = openChannel();
        vm.prank(payee);
        escrow.close(channelId, 0, NO_SIGNATURE);
        assertBalances(0, 0, "after close");
    }

    function test_CloseOfAnExhaustedChannelMovesNoToken() public {
        bytes32 channelId = openChannel();
        settle(channelId, DEPOSIT);
        expectTransfers(payee, 0, 0);
        expectTransfers(payer, 0, 0);
        vm.prank(payee);
        escrow.close(channelId, 0, NO_SIGNATURE);
        vm.assertTrue(channelOf(channelId).finalized, "finalized");
    }

    function test_CloseOneUnitAboveSettledNeedsASignature() public {
        bytes32 channelId = openChannel();
        settle(channelId, 100);
        expectInvalidSignature(channelId, payer);
        vm.prank(payee);
        escrow.close(channelId, 101, NO_SIGNATURE);
    }

    function test_CloseAboveTheDepositIsRefused() public {
        bytes32 channelId = openChannel();
        vm.expectRevert(
            abi.encodeWithSelector(IEscrowErrors.AmountExceedsDeposit.selector, channelId, DEPOSIT + 1, DEPOSIT)
        );
        close(channelId, DEPOSIT + 1);
    }

    function test_CloseByAnyoneButThePayeeIsRefused() public {
        bytes32 channelId = openChannel();
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.NotPayee.selector, channelId, payer));
        vm.prank(payer);
        escrow.close(channelId, 0, NO_SIGNATURE);
    }

    function test_CloseOfAnUnknownChannelIsRefused() public {
        expectRevert(IEscrowErrors.ChannelNotFound.selector, SALT);
        vm.prank(payee);
        escrow.close(SALT, 0, NO_SIGNATURE);
    }

    function test_I12_CloseOfAFinalizedChannelIsRefused() public {
        bytes32 channelId = openChannel();
        close(channelId, 10);
        expectRevert(IEscrowErrors.ChannelFinalized.selector, channelId);
        close(channelId, 11);
    }

    function test_CloseWorksWhileACloseIsPending() public {
        bytes32 channelId = openChannel();
        requestClose(channelId);
        close(channelId, 100);
        assertBalances(0, 100, "after close");
    }

    function test_CloseForABlockedPayerFailsAsAWholeAndThePayeeCanStillSettle() public {
        BlocklistToken blocklist = BlocklistToken(deploy("BlocklistToken", ""));
        useToken(blocklist);
        bytes32 channelId = openChannel();
        blocklist.setBlocked(payer, true);

        vm.expectRevert(abi.encodeWithSelector(BlocklistToken.Blocked.selector, payer));
        close(channelId, 100);
        vm.assertFalse(channelOf(channelId).finalized, "still open");

        settle(channelId, 100);
        assertBalances(DEPOSIT - 100, 100, "after settle");
    }

    function expectTransfers(address to, uint256 amount, uint64 count) private {
        vm.expectCall(address(token), abi.encodeCall(IERC20.transfer, (to, amount)), count);
    }
}
