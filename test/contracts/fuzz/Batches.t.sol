// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchSettlement} from "../../../contracts/IBatchSettlement.sol";
import {IEscrowErrors} from "../../../contracts/IEscrowErrors.sol";
import {IEscrowEvents} from "../../../contracts/IEscrowEvents.sol";
import {IPaymentChannelEscrow} from "../../../contracts/IPaymentChannelEscrow.sol";
import {BlocklistToken} from "../../../contracts/test/BlocklistToken.sol";
import {TestUSDC} from "../../../contracts/test/TestUSDC.sol";
import {Vm} from "../support/Vm.sol";
import {FuzzTest} from "./FuzzTest.sol";

/**
 * A batch does what its rows would do one by one, and nothing else. The rows are sent as a batch, the world is turned
 * back, and they are sent again as single calls of which those that fail are ignored: the channels, the balances and the
 * reasons must come out the same.
 */
contract BatchesFuzzTest is FuzzTest {
    uint256 private constant ROWS = 5;
    uint256 private constant CHANNELS = 7;

    bytes32[] private ids;
    BlocklistToken private blocklist;
    TestUSDC private dollars;
    address private poor = vm.addr(SIGNER_KEY);

    /// @dev What came of it.
    struct Outcome {
        bytes32 channels;
        bytes32 balances;
        bytes[] reasons;
    }

    /// @dev Two payers, two payees, two tokens; a delegated signer, a channel that is closed, one that never was.
    function setUp() public override {
        super.setUp();
        dollars = token;
        ids.push(openChannel(1000, "plain", address(0)));
        ids.push(openChannel(1000, "delegated", stranger));
        ids.push(openChannel(1000, "settled", address(0)));
        ids.push(openChannel(1000, "finalized", address(0)));
        settle(ids[2], 400);
        close(ids[3], 300);
        (address us, address them) = (payee, vm.addr(STRANGER_KEY));
        payee = them;
        ids.push(openChannel(1000, "another payee's", address(0)));
        payee = us;

        blocklist = BlocklistToken(deploy("BlocklistToken", ""));
        useToken(blocklist);
        ids.push(openChannel(1000, "may be blocked", address(0)));
        blocklist.mint(poor, 1000);
        vm.prank(poor);
        blocklist.approve(address(escrow), 1000);
        vm.prank(poor);
        ids.push(escrow.open(payee, address(blocklist), 1000, "may be blocked", address(0)));
    }

    function testFuzz_I12_SettleManyDoesWhatSettleDoesRowByRow(uint256[5] memory seeds, uint256 blocks) public {
        IBatchSettlement.SignedVoucher[] memory rows = rowsFrom(seeds);
        block_(blocks);
        compare(rows, false);
    }

    function testFuzz_I12_CloseManyDoesWhatCloseDoesRowByRow(uint256[5] memory seeds, uint256 blocks) public {
        IBatchSettlement.SignedVoucher[] memory rows = rowsFrom(seeds);
        block_(blocks);
        compare(rows, true);
    }

    /// @dev The one thing that fails a whole batch: a token that does not pay the payee. Then nothing has happened.
    function testFuzz_I12_ABatchWhosePayeeIsBlockedChangesNothingOrOwesNothing(
        uint256[5] memory seeds,
        bool closes
    ) public {
        IBatchSettlement.SignedVoucher[] memory rows = rowsFrom(seeds);
        blocklist.setBlocked(payee, true);
        (bytes32 channels, bytes32 balances) = state();
        (bool ok, bytes memory answer) = tryCall(payee, batchCall(rows, closes));
        if (ok) return; // no row paid in that token
        vm.assertEq(answer, abi.encodeWithSelector(BlocklistToken.Blocked.selector, payee), "the token's own error");
        (bytes32 channelsAfter, bytes32 balancesAfter) = state();
        vm.assertTrue(channels == channelsAfter && balances == balancesAfter, "nothing has happened");
    }

    // ---------------------------------------------------------------- rows

    function block_(uint256 blocks) private {
        if (blocks % 2 == 1) blocklist.setBlocked(payer, true);
        if (blocks % 8 > 5) blocklist.setBlocked(poor, true);
    }

    /// @dev Good and bad ones, some twice, some of a channel that does not exist.
    function rowsFrom(uint256[5] memory seeds) private view returns (IBatchSettlement.SignedVoucher[] memory rows) {
        rows = new IBatchSettlement.SignedVoucher[](uint256(keccak256(abi.encode(seeds))) % (ROWS + 1));
        for (uint256 i = 0; i < rows.length; i++) {
            uint256 seed = uint256(keccak256(abi.encode(seeds[i])));
            rows[i] = i != 0 && seed % 8 == 0 ? rows[(seed >> 8) % i] : rowFrom(seed >> 16);
        }
    }

    function rowFrom(uint256 seed) private view returns (IBatchSettlement.SignedVoucher memory row) {
        uint256 which = seed % (CHANNELS + 1);
        bytes32 id = which < CHANNELS ? ids[which] : bytes32(seed);
        uint128 amount = uint128((seed >> 8) % 1100);
        uint256 key =
            which == 1
                ? STRANGER_KEY
                : which == 6
                    ? SIGNER_KEY
                    : PAYER_KEY;
        uint256 flaw = (seed >> 32) % 12;
        if (flaw < 2) key = [PAYER_KEY, PAYEE_KEY, SIGNER_KEY, STRANGER_KEY][(seed >> 64) % 4]; // anyone's
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, voucherDigest(id, flaw == 2 ? amount + 1 : amount));
        row = IBatchSettlement.SignedVoucher(id, amount, r, s | bytes32(uint256(v - 27) << 255));
        if (flaw == 3) (row.r, row.vs) = (0, 0);
        if (flaw == 4) row.vs ^= bytes32(1 << ((seed >> 64) % 256));
    }

    function batchCall(IBatchSettlement.SignedVoucher[] memory rows, bool closes) private pure returns (bytes memory) {
        return
            closes
                ? abi.encodeCall(IBatchSettlement.closeMany, (rows))
                : abi.encodeCall(IBatchSettlement.settleMany, (rows));
    }

    // ---------------------------------------------------------------- the two ways

    function compare(IBatchSettlement.SignedVoucher[] memory rows, bool closes) private {
        uint256 start = vm.snapshotState();
        Outcome memory batch = inABatch(rows, closes);
        vm.revertToState(start);
        Outcome memory single = oneByOne(rows, closes);

        vm.assertEq(batch.channels, single.channels, "channels");
        vm.assertEq(batch.balances, single.balances, "balances");
        vm.assertEq(batch.reasons.length, single.reasons.length, "how many rows were left out");
        for (uint256 i = 0; i < batch.reasons.length; i++) {
            vm.assertEq(batch.reasons[i], single.reasons[i], "why not");
        }
    }

    function inABatch(IBatchSettlement.SignedVoucher[] memory rows, bool closes) private returns (Outcome memory o) {
        vm.recordLogs();
        (bool ok, ) = tryCall(payee, batchCall(rows, closes));
        vm.assertTrue(ok, "a batch takes bad rows");
        Vm.Log[] memory logs = vm.getRecordedLogs();
        bytes[] memory reasons = new bytes[](rows.length);
        uint256 skipped = 0;
        for (uint256 i = 0; i < logs.length; i++) {
            if (logs[i].topics[0] != IEscrowEvents.SettlementSkipped.selector) continue;
            reasons[skipped++] = abi.encodePacked(logs[i].topics[1], abi.decode(logs[i].data, (bytes)));
        }
        o.reasons = first(reasons, skipped);
        (o.channels, o.balances) = state();
    }

    function oneByOne(IBatchSettlement.SignedVoucher[] memory rows, bool closes) private returns (Outcome memory o) {
        bytes[] memory reasons = new bytes[](rows.length);
        uint256 skipped = 0;
        for (uint256 i = 0; i < rows.length; i++) {
            (bool ok, bytes memory answer) = tryCall(payee, singleCall(rows[i], closes));
            if (ok) continue;
            if (closes && bytes4(answer) == BlocklistToken.Blocked.selector) answer = refused(rows[i], answer);
            reasons[skipped++] = abi.encodePacked(rows[i].channelId, answer);
        }
        o.reasons = first(reasons, skipped);
        (o.channels, o.balances) = state();
    }

    /// @dev Where a close fails on the refund alone, a batch redeems the voucher, and names the reason in its own words.
    function refused(
        IBatchSettlement.SignedVoucher memory row,
        bytes memory answer
    ) private returns (bytes memory reason) {
        address blocked = channelOf(row.channelId).payer;
        vm.assertEq(answer, abi.encodeWithSelector(BlocklistToken.Blocked.selector, blocked), "it is the payer");
        tryCall(payee, singleCall(row, false));
        return abi.encodeWithSelector(IEscrowErrors.RefundRefused.selector, row.channelId, blocked);
    }

    function singleCall(IBatchSettlement.SignedVoucher memory row, bool closes) private pure returns (bytes memory) {
        bytes32 s = row.vs & ~bytes32(uint256(1) << 255);
        bytes memory signature = abi.encodePacked(row.r, s, uint8(27 + (uint256(row.vs) >> 255)));
        return
            closes
                ? abi.encodeCall(IPaymentChannelEscrow.close, (row.channelId, row.cumulativeAmount, signature))
                : abi.encodeCall(IPaymentChannelEscrow.settle, (row.channelId, row.cumulativeAmount, signature));
    }

    function state() private view returns (bytes32 channels, bytes32 balances) {
        for (uint256 i = 0; i < ids.length; i++) channels = keccak256(abi.encode(channels, channelOf(ids[i])));
        address[5] memory accounts = [address(escrow), payer, payee, poor, stranger];
        for (uint256 i = 0; i < accounts.length; i++) {
            uint256 ofBlocklist = blocklist.balanceOf(accounts[i]);
            balances = keccak256(abi.encode(balances, dollars.balanceOf(accounts[i]), ofBlocklist));
        }
    }

    function first(bytes[] memory list, uint256 count) private pure returns (bytes[] memory some) {
        some = new bytes[](count);
        for (uint256 i = 0; i < count; i++) some[i] = list[i];
    }
}
