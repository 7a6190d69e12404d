// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IBatchSettlement} from "../../../contracts/IBatchSettlement.sol";
import {IEscrowEvents} from "../../../contracts/IEscrowEvents.sol";
import {TestUSDC} from "../../../contracts/test/TestUSDC.sol";
import {EscrowTest} from "./EscrowTest.sol";
import {Vm} from "./Vm.sol";

/// @dev Rows of batches: how they are made, sent and skipped.
abstract contract BatchTest is EscrowTest {
    bytes private _lastLogs;

    /// @dev A row of the payer's.
    function row(bytes32 channelId, uint128 amount) internal view returns (IBatchSettlement.SignedVoucher memory) {
        return row(PAYER_KEY, channelId, amount);
    }

    function row(
        uint256 key,
        bytes32 channelId,
        uint128 amount
    ) internal view returns (IBatchSettlement.SignedVoucher memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, voucherDigest(channelId, amount));
        return packed(channelId, amount, v, r, s);
    }

    function unsigned(bytes32 channelId, uint128 amount) internal pure returns (IBatchSettlement.SignedVoucher memory) {
        return IBatchSettlement.SignedVoucher(channelId, amount, 0, 0);
    }

    /// @dev ERC-2098: v - 27 in the highest bit, s below it.
    function packed(
        bytes32 channelId,
        uint128 amount,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) internal pure returns (IBatchSettlement.SignedVoucher memory) {
        bytes32 vs = bytes32(uint256(s) | (uint256(v - 27) << 255));
        return IBatchSettlement.SignedVoucher(channelId, amount, r, vs);
    }

    /// @dev The same signature as it goes into a single call, in 65 bytes.
    function signatureOf(IBatchSettlement.SignedVoucher memory voucher) internal pure returns (bytes memory) {
        uint8 v = uint8(uint256(voucher.vs) >> 255) + 27;
        return abi.encodePacked(voucher.r, (uint256(voucher.vs) << 1) >> 1, v);
    }

    function rows(
        IBatchSettlement.SignedVoucher memory only
    ) internal pure returns (IBatchSettlement.SignedVoucher[] memory all) {
        all = new IBatchSettlement.SignedVoucher[](1);
        all[0] = only;
    }

    function rows(
        IBatchSettlement.SignedVoucher memory first,
        IBatchSettlement.SignedVoucher memory second
    ) internal pure returns (IBatchSettlement.SignedVoucher[] memory all) {
        all = new IBatchSettlement.SignedVoucher[](2);
        (all[0], all[1]) = (first, second);
    }

    function rows(
        IBatchSettlement.SignedVoucher memory first,
        IBatchSettlement.SignedVoucher memory second,
        IBatchSettlement.SignedVoucher memory third
    ) internal pure returns (IBatchSettlement.SignedVoucher[] memory all) {
        all = new IBatchSettlement.SignedVoucher[](3);
        (all[0], all[1], all[2]) = (first, second, third);
    }

    /// @return done How many rows were not skipped.
    function settleMany(IBatchSettlement.SignedVoucher[] memory vouchers) internal returns (uint256 done) {
        vm.recordLogs();
        vm.prank(payee);
        escrow.settleMany(vouchers);
        return vouchers.length - readSkipped();
    }

    /// @return done How many rows were not skipped.
    function closeMany(IBatchSettlement.SignedVoucher[] memory vouchers) internal returns (uint256 done) {
        vm.recordLogs();
        vm.prank(payee);
        escrow.closeMany(vouchers);
        return vouchers.length - readSkipped();
    }

    function readSkipped() private returns (uint256) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        _lastLogs = abi.encode(logs);
        return count(logs, IEscrowEvents.SettlementSkipped.selector);
    }

    /// @dev What the latest batch logged.
    function lastLogs() internal view returns (Vm.Log[] memory) {
        return abi.decode(_lastLogs, (Vm.Log[]));
    }

    /// @dev One more channel of the payer with the payee, in the token of the moment.
    function openNumber(uint256 number) internal returns (bytes32) {
        return openChannel(DEPOSIT, bytes32(number), address(0));
    }

    /// @dev A token of its own, with the payer rich in it.
    function anotherToken() internal returns (TestUSDC another) {
        TestUSDC before = token;
        another = TestUSDC(deploy("TestUSDC", ""));
        useToken(another);
        token = before;
    }

    function openIn(TestUSDC money, uint256 number) internal returns (bytes32) {
        vm.prank(payer);
        return escrow.open(payee, address(money), DEPOSIT, bytes32(number), address(0));
    }

    function expectSkipped(bytes32 channelId, address ofPayer, bytes memory reason) internal {
        vm.expectEmit(address(escrow));
        emit IEscrowEvents.SettlementSkipped(channelId, ofPayer, payee, reason);
    }

    /// @dev Exactly one transfer of `money`, of `amount`, to `to`; with zero, none.
    function expectOneTransfer(TestUSDC money, address to, uint256 amount) internal {
        vm.expectCall(address(money), abi.encodeWithSelector(IERC20.transfer.selector, to), amount == 0 ? 0 : 1);
        if (amount != 0) vm.expectCall(address(money), abi.encodeCall(IERC20.transfer, (to, amount)), 1);
    }

    /// @dev How many of the recorded events are the escrow's and of this kind.
    function count(Vm.Log[] memory logs, bytes32 topic) internal view returns (uint256 found) {
        for (uint256 i = 0; i < logs.length; i++) {
            if (logs[i].emitter == address(escrow) && logs[i].topics[0] == topic) ++found;
        }
    }
}
