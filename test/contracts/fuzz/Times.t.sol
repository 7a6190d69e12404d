// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrowErrors} from "../../../contracts/IEscrowErrors.sol";
import {IPaymentChannelEscrow} from "../../../contracts/IPaymentChannelEscrow.sol";
import {IRelayedProfile} from "../../../contracts/IRelayedProfile.sol";
import {FuzzTest} from "./FuzzTest.sol";

/// Every time limit, one second before it, in it, and one second after it.
contract TimesFuzzTest is FuzzTest {
    uint256 private constant YEAR_3000 = 32_503_680_000;

    function withdrawCall(bytes32 id) private pure returns (bytes memory) {
        return abi.encodeCall(IPaymentChannelEscrow.withdraw, (id));
    }

    function notReady(bytes32 id, uint256 readyAt) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IEscrowErrors.CloseNotReady.selector, id, readyAt);
    }

    /// @dev An escrow whose grace period is anything from the draft's ten minutes to a thousand years.
    function useGrace(uint256 seed) private returns (uint64 grace) {
        grace = uint64(bound(seed, 10 minutes, 365_000 days));
        escrow = deployEscrow(grace);
        vm.prank(payer);
        token.approve(address(escrow), type(uint256).max);
    }

    function testFuzz_I11_WithdrawIsRefusedUntilTheGracePeriodIsOverAndTakenFromThenOn(
        uint256 requestedAt,
        uint256 grace
    ) public {
        grace = useGrace(grace);
        requestedAt = bound(requestedAt, 1, YEAR_3000);
        vm.warp(requestedAt);
        bytes32 atOnce = openChannel(DEPOSIT, "at once", address(0));
        bytes32 later = openChannel(DEPOSIT, "later", address(0));
        requestClose(atOnce);
        requestClose(later);
        vm.assertEq(channelOf(atOnce).closeRequestedAt, requestedAt, "closeRequestedAt");

        uint256 readyAt = requestedAt + grace;
        assertRefused(payer, withdrawCall(atOnce), notReady(atOnce, readyAt), "in the second of the request");
        vm.warp(readyAt - 1);
        assertRefused(payer, withdrawCall(atOnce), notReady(atOnce, readyAt), "one second before");
        vm.warp(readyAt);
        withdraw(atOnce);
        vm.assertTrue(channelOf(atOnce).finalized, "in the second it is over");
        vm.warp(readyAt + 1);
        withdraw(later);
        vm.assertTrue(channelOf(later).finalized, "one second after");
    }

    /// @dev Whatever else is called while the clock runs, only the payer's own top-up stops it.
    function testFuzz_I11_NobodyElseMovesTheClock(uint256 waits, uint128 amount, uint256 when) public {
        waits = bound(waits, 0, GRACE - 1);
        amount = bound128(amount, 1, DEPOSIT);
        bytes32 id = openChannel();
        requestClose(id);
        vm.warp(NOW + waits);
        requestClose(id);
        settle(id, amount);
        topUpByAStranger(id, amount, NOW + waits + 1);
        vm.assertEq(channelOf(id).closeRequestedAt, NOW, "closeRequestedAt");

        when = bound(when, NOW, NOW + 2 * GRACE);
        vm.warp(when);
        (bool ok, ) = tryCall(payer, withdrawCall(id));
        vm.assertTrue(ok == (when >= NOW + GRACE), "withdrawn exactly from when it was first requested");
    }

    function topUpByAStranger(bytes32 id, uint128 amount, uint256 before) private {
        token.mint(stranger, amount);
        bytes32 nonce = keccak256(abi.encode(id, amount, stranger, SALT));
        bytes memory signature = signReceive(STRANGER_KEY, amount, before, nonce);
        escrow.topUpWithAuthorization(id, amount, stranger, SALT, 0, before, nonce, signature);
    }

    function testFuzz_APayeesAuthorizationIsGoodUpToItsDeadline(uint256 deadline, bool closes, uint8 late) public {
        deadline = bound(deadline, 1, YEAR_3000);
        bytes32 id = openChannel();
        uint256 time = deadline - 1 + (late % 3);
        vm.warp(time);
        Authorization memory a = Authorization(id, 100, 0, deadline);
        bytes32 digest = digestOf(domainOf(address(escrow)), closes ? CLOSE_TYPE : SETTLE_TYPE, a);
        bytes memory call = abi.encodeWithSelector(
            closes ? IRelayedProfile.closeWithAuthorization.selector : IRelayedProfile.settleWithAuthorization.selector,
            id,
            uint128(100),
            0,
            deadline,
            signDigest(PAYEE_KEY, digest),
            signVoucher(PAYER_KEY, id, 100)
        );
        (bool ok, bytes memory answer) = tryCall(stranger, call);
        vm.assertTrue(ok == (time <= deadline), "up to and including the deadline");
        bytes memory reason = abi.encodeWithSelector(IEscrowErrors.AuthorizationExpired.selector, deadline);
        if (!ok) vm.assertEq(answer, reason, "the reason");
    }

    function testFuzz_ADepositBySignatureIsGoodBeforeItsEnd(uint256 validBefore, uint128 amount, uint8 late) public {
        validBefore = bound(validBefore, 3, YEAR_3000);
        amount = bound128(amount, 1, type(uint128).max);
        uint256 time = validBefore - 2 + (late % 4);
        vm.warp(time);
        (bool ok, ) = tryCall(stranger, openCall(amount, validBefore));
        vm.assertTrue(ok == (time < validBefore), "before the end, and not in its second");
        vm.assertEq(token.balanceOf(address(escrow)), ok ? amount : 0, "in escrow");
    }

    function openCall(uint128 amount, uint256 validBefore) private view returns (bytes memory) {
        bytes32 nonce = openNonce(payer, payee, SALT, address(0));
        bytes memory signature = signReceive(PAYER_KEY, amount, validBefore, nonce);
        return
            abi.encodeCall(
                IRelayedProfile.openWithAuthorization,
                (payee, address(token), amount, SALT, address(0), payer, 0, validBefore, nonce, signature)
            );
    }
}
