// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IPaymentChannelEscrow} from "../../contracts/IPaymentChannelEscrow.sol";
import {EscrowTest} from "./support/EscrowTest.sol";

/// Fuzzed arithmetic of money: whatever the order of events, every unit is accounted for.
contract AccountingTest is EscrowTest {
    function testFuzz_I12_VouchersSplitTheDepositExactly(
        uint128 deposit,
        uint128 additional,
        uint128 first,
        uint128 second
    ) public {
        deposit = uint128(bound(deposit, 2, type(uint128).max - 1));
        additional = uint128(bound(additional, 1, type(uint128).max - deposit));
        first = uint128(bound(first, 1, deposit));
        second = uint128(bound(second, 0, deposit + additional));

        bytes32 channelId = openChannel(deposit, SALT, address(0));
        settle(channelId, first);
        assertBalances(deposit - first, first, "settled");
        topUp(channelId, additional);
        assertBalances(deposit + additional - first, first, "topped up");
        close(channelId, second);

        uint128 settled = second > first ? second : first;
        vm.assertEq(channelOf(channelId).settled, settled, "I2: settled never decreases");
        assertBalances(0, settled, "closed");
    }

    /// @dev Three channels in one pool, and thirty-two steps that may each fail.
    function testFuzz_I12_TheEscrowHoldsWhatOpenChannelsAreOwed(uint256[32] memory steps) public {
        bytes32[3] memory ids;
        uint128[3] memory settledBefore;
        bool[3] memory finalizedBefore;
        for (uint256 i = 0; i < 3; i++) ids[i] = openChannel(uint128(1000 * (i + 1)), bytes32(i), address(0));

        uint256 time = NOW;
        for (uint256 n = 0; n < steps.length; n++) {
            time += (steps[n] >> 160) % GRACE;
            vm.warp(time);
            step(ids[(steps[n] >> 8) % 3], steps[n] % 6, uint128((steps[n] >> 16) % 4000));

            uint256 owed = 0;
            for (uint256 i = 0; i < 3; i++) {
                IPaymentChannelEscrow.Channel memory channel = channelOf(ids[i]);
                vm.assertTrue(channel.settled <= channel.deposit, "I1: settled <= deposit");
                vm.assertTrue(channel.settled >= settledBefore[i], "I2: settled never decreases");
                vm.assertTrue(channel.finalized || !finalizedBefore[i], "I12: finalized is for ever");
                settledBefore[i] = channel.settled;
                finalizedBefore[i] = channel.finalized;
                if (!channel.finalized) owed += channel.deposit - channel.settled;
            }
            vm.assertEq(token.balanceOf(address(escrow)), owed, "I12: nothing missing, nothing left over");
        }
    }

    function step(bytes32 channelId, uint256 kind, uint128 amount) private {
        bytes memory signature = signVoucher(PAYER_KEY, channelId, amount);
        if (kind == 0) {
            vm.prank(payer);
            try escrow.topUp(channelId, amount) {} catch {}
        } else if (kind < 3) {
            vm.prank(payee);
            try escrow.settle(channelId, amount, signature) {} catch {}
        } else if (kind == 3) {
            vm.prank(payer);
            try escrow.requestClose(channelId) {} catch {}
        } else if (kind == 4) {
            vm.prank(payer);
            try escrow.withdraw(channelId) {} catch {}
        } else if (amount % 4 == 0) {
            // closes end a channel, so that they are rarer than the rest
            vm.prank(payee);
            try escrow.close(channelId, amount, signature) {} catch {}
        }
    }

    function bound(uint256 value, uint256 min, uint256 max) private pure returns (uint256) {
        return min + (value % (max - min + 1));
    }
}
