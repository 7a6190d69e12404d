// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrowErrors} from "../../../contracts/IEscrowErrors.sol";
import {IPaymentChannelEscrow} from "../../../contracts/IPaymentChannelEscrow.sol";
import {TestUSDC} from "../../../contracts/test/TestUSDC.sol";
import {FuzzTest} from "./FuzzTest.sol";

/// Whatever the amounts and whatever their order, every unit is accounted for.
contract MoneyFuzzTest is FuzzTest {
    function testFuzz_I12_VouchersSplitTheDepositExactly(
        uint128 deposit,
        uint128 additional,
        uint128 first,
        uint128 second
    ) public {
        deposit = bound128(deposit, 1, type(uint128).max - 1);
        additional = bound128(additional, 1, type(uint128).max - deposit);
        first = bound128(first, 1, deposit);
        second = bound128(second, 0, deposit + additional);

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

    function testFuzz_I2_OfAnyVouchersInAnyOrderOnlyTheRisingOnesPay(
        uint128 deposit,
        uint128[5] memory amounts
    ) public {
        deposit = bound128(deposit, 1, type(uint128).max - 1);
        bytes32 channelId = openChannel(deposit, SALT, address(0));
        uint128 highest = 0;
        for (uint256 i = 0; i < amounts.length; i++) {
            uint128 amount = bound128(amounts[i], 0, uint256(deposit) + 1);
            bytes memory call = abi.encodeCall(
                IPaymentChannelEscrow.settle,
                (channelId, amount, signVoucher(PAYER_KEY, channelId, amount))
            );
            (bool paid, bytes memory answer) = tryCall(payee, call);
            vm.assertEq(answer, reasonAgainst(channelId, amount, highest, deposit), "taken if it rises and is covered");
            if (paid) highest = amount;
            vm.assertEq(token.balanceOf(payee), highest, "the highest voucher is paid, and nothing else");
        }
        close(channelId, 0);
        assertBalances(0, highest, "closed");
    }

    /// @dev Nothing, or what `settle` has to revert with.
    function reasonAgainst(
        bytes32 id,
        uint128 amount,
        uint128 settled,
        uint128 deposit
    ) private pure returns (bytes memory) {
        if (amount <= settled)
            return abi.encodeWithSelector(IEscrowErrors.AmountNotIncreasing.selector, id, amount, settled);
        if (amount > deposit)
            return abi.encodeWithSelector(IEscrowErrors.AmountExceedsDeposit.selector, id, amount, deposit);
        return "";
    }

    function testFuzz_I1_AnyDepositIsTakenWholeAndComesBackWhole(uint128 deposit) public {
        bytes memory call = abi.encodeCall(IPaymentChannelEscrow.open, (payee, address(token), deposit, SALT, signer));
        (bool opened, bytes memory answer) = tryCall(payer, call);
        if (deposit == 0) {
            vm.assertEq(answer, abi.encodeWithSelector(IEscrowErrors.ZeroDeposit.selector), "nothing is no deposit");
            return;
        }
        vm.assertTrue(opened, "any other is");
        bytes32 channelId = abi.decode(answer, (bytes32));
        vm.assertEq(channelOf(channelId).deposit, deposit, "deposit");
        assertBalances(deposit, 0, "opened");
        requestClose(channelId);
        vm.warp(NOW + GRACE);
        withdraw(channelId);
        assertBalances(0, 0, "withdrawn");
    }

    function testFuzz_I1_TopUpsFillTheDepositAndNeverOverflowIt(uint128 deposit, uint128[4] memory more) public {
        deposit = bound128(deposit, 1, type(uint128).max);
        token.mint(payer, type(uint128).max);
        bytes32 channelId = openChannel(deposit, SALT, address(0));
        for (uint256 i = 0; i < more.length; i++) {
            uint128 room = type(uint128).max - deposit;
            uint128 amount = i % 2 == 0 ? more[i] : bound128(more[i], 0, room);
            bytes memory reason = "";
            if (amount == 0) reason = abi.encodeWithSelector(IEscrowErrors.ZeroDeposit.selector);
            if (amount > room) reason = abi.encodeWithSelector(IEscrowErrors.DepositOverflow.selector, deposit, amount);
            (bool added, bytes memory answer) = tryCall(
                payer,
                abi.encodeCall(IPaymentChannelEscrow.topUp, (channelId, amount))
            );
            vm.assertEq(answer, reason, "taken if there is room for it");
            if (added) deposit += amount;
            vm.assertEq(channelOf(channelId).deposit, deposit, "deposit");
            vm.assertEq(token.balanceOf(address(escrow)), deposit, "in escrow");
        }
    }

    /// @dev The books say what was asked for, so that nothing else may arrive: not less, and not more.
    function testFuzz_I12_ATokenThatMovesAnyOtherAmountIsRefused(uint128 deposit, int128 skew) public {
        deposit = bound128(deposit, 1, type(uint128).max);
        // a fee of up to everything, or a little too much
        uint256 size = uint256(uint128(skew));
        int256 difference = skew < 0 ? -int256(bound(size, 0, deposit)) : int256(bound(size, 0, 1000));
        useToken(TestUSDC(deploy("InexactToken", abi.encode(difference))));
        bytes memory call = abi.encodeCall(IPaymentChannelEscrow.open, (payee, address(token), deposit, SALT, signer));
        (bool opened, ) = tryCall(payer, call);
        vm.assertTrue(opened == (difference == 0), "taken if exactly the deposit arrives");
    }

    /// @dev Three channels in one pool, and eight steps that may each fail. The invariants do this at length.
    function testFuzz_I12_AnyOrderOfStepsKeepsTheBooks(uint256[8] memory steps) public {
        bytes32[3] memory ids;
        uint128[3] memory settledBefore;
        bool[3] memory finalizedBefore;
        for (uint256 i = 0; i < 3; i++) ids[i] = openChannel(uint128(1000 * (i + 1)), bytes32(i), address(0));

        uint256 time = NOW;
        for (uint256 n = 0; n < steps.length; n++) {
            uint256 dice = uint256(keccak256(abi.encode(steps[n], n)));
            time += (dice >> 160) % GRACE;
            vm.warp(time);
            step(ids[(dice >> 8) % 3], dice % 6, uint128((dice >> 16) % 4000));

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
        if (kind == 0) tryCall(payer, abi.encodeCall(IPaymentChannelEscrow.topUp, (channelId, amount)));
        else if (kind == 1) tryCall(payer, abi.encodeCall(IPaymentChannelEscrow.requestClose, (channelId)));
        else if (kind == 2) tryCall(payer, abi.encodeCall(IPaymentChannelEscrow.withdraw, (channelId)));
        else redeem(channelId, kind == 3 && amount % 2 == 0, amount); // closes end a channel, and are rarer
    }

    function redeem(bytes32 channelId, bool closes, uint128 amount) private {
        bytes memory signature = signVoucher(PAYER_KEY, channelId, amount);
        bytes memory arguments = abi.encode(channelId, amount, signature);
        bytes4 selector = closes ? IPaymentChannelEscrow.close.selector : IPaymentChannelEscrow.settle.selector;
        tryCall(payee, bytes.concat(selector, arguments));
    }
}
