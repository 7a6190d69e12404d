// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {IEscrowErrors} from "../../contracts/IEscrowErrors.sol";
import {IPaymentChannelEscrow} from "../../contracts/IPaymentChannelEscrow.sol";
import {IRelayedProfile} from "../../contracts/IRelayedProfile.sol";
import {BlocklistToken} from "../../contracts/test/BlocklistToken.sol";
import {InexactToken} from "../../contracts/test/InexactToken.sol";
import {RebasingToken} from "../../contracts/test/RebasingToken.sol";
import {TestUSDC} from "../../contracts/test/TestUSDC.sol";
import {UnrulyToken} from "../../contracts/test/UnrulyToken.sol";
import {BatchTest} from "./support/BatchTest.sol";
import {EscrowTest} from "./support/EscrowTest.sol";
import {Permit2Test} from "./support/Permit2Test.sol";

/// What a token can do to its own channels, and that it can do nothing to those of others. See also Reentrancy.t.sol,
/// and CloseManyRefunds.t.sol for refunds in batches.
contract HostileTokensTest is Permit2Test, BatchTest {
    TestUSDC private honest;
    bytes32 private honestChannel;
    bytes32 private honestState;

    function setUp() public override(Permit2Test, EscrowTest) {
        super.setUp();
        honest = token;
        honestChannel = openChannel();
        settle(honestChannel, 40);
        honestState = keccak256(abi.encode(channelOf(honestChannel)));
    }

    /// @dev After the test, a channel in an honest token is as it was, and can be closed.
    modifier othersUntouched() {
        _;
        vm.assertEq(keccak256(abi.encode(channelOf(honestChannel))), honestState, "the honest channel");
        vm.assertEq(honest.balanceOf(address(escrow)), DEPOSIT - 40, "the honest token in escrow");
        closeMany(rows(row(honestChannel, 50)));
        vm.assertEq(honest.balanceOf(address(escrow)), 0, "the honest token after its close");
    }

    function useUnruly() private returns (UnrulyToken unruly) {
        unruly = UnrulyToken(deploy("UnrulyToken", ""));
        useToken(unruly);
    }

    function callToOpen() private view returns (bytes memory) {
        return callToOpen(address(token));
    }

    function callToOpen(address money) private view returns (bytes memory) {
        return abi.encodeCall(IPaymentChannelEscrow.open, (payee, money, DEPOSIT, SALT, address(0)));
    }

    function callToSettle(bytes32 channelId, uint128 amount) private view returns (bytes memory) {
        bytes memory signature = signVoucher(PAYER_KEY, channelId, amount);
        return abi.encodeCall(IPaymentChannelEscrow.settle, (channelId, amount, signature));
    }

    function callToClose(bytes32 channelId, uint128 amount) private view returns (bytes memory) {
        bytes memory signature = signVoucher(PAYER_KEY, channelId, amount);
        return abi.encodeCall(IPaymentChannelEscrow.close, (channelId, amount, signature));
    }

    function expectRefused(address sender, bytes memory call, bytes memory why) private {
        vm.assertEq(revertOf(sender, call), why, "why");
    }

    function failed() private view returns (bytes memory) {
        return abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(token));
    }

    function notExact(uint256 expected, uint256 actual) private view returns (bytes memory) {
        return abi.encodeWithSelector(IEscrowErrors.DepositNotExact.selector, address(token), expected, actual);
    }

    // What it returns, and what it moves

    function test_ATokenThatReturnsFalseTakesNoDeposit() public othersUntouched {
        UnrulyToken unruly = useUnruly();
        unruly.setManner(address(escrow), UnrulyToken.Manner.ReturnsFalse);
        expectRefused(payer, callToOpen(), failed());
        unruly.setManner(address(escrow), UnrulyToken.Manner.MovesAndReturnsFalse);
        expectRefused(payer, callToOpen(), failed());
        assertBalances(0, 0, "nothing moved");
    }

    function test_ATokenThatReturnsFalseFailsEveryPayoutAndNothingIsRecorded() public othersUntouched {
        UnrulyToken unruly = useUnruly();
        bytes32 channelId = openChannel();
        unruly.setManner(payee, UnrulyToken.Manner.ReturnsFalse);
        unruly.setManner(payer, UnrulyToken.Manner.MovesAndReturnsFalse);
        expectRefused(payee, callToSettle(channelId, 5), failed());
        expectRefused(payee, callToClose(channelId, 5), failed());
        expectRefused(payee, callToClose(channelId, 0), failed());
        requestClose(channelId);
        vm.warp(NOW + GRACE);
        expectRefused(payer, abi.encodeCall(IPaymentChannelEscrow.withdraw, (channelId)), failed());
        vm.assertEq(channelOf(channelId).settled, 0, "settled");
        vm.assertFalse(channelOf(channelId).finalized, "still open");
        assertBalances(DEPOSIT, 0, "nothing moved");
    }

    function test_ATokenThatReturnsNothingWorksAsUSDTDoes() public othersUntouched {
        UnrulyToken unruly = useUnruly();
        unruly.setManner(address(escrow), UnrulyToken.Manner.ReturnsNothing);
        unruly.setManner(payee, UnrulyToken.Manner.ReturnsNothing);
        unruly.setManner(payer, UnrulyToken.Manner.ReturnsNothing);
        bytes32 channelId = openChannel();
        topUp(channelId, 1);
        settle(channelId, 10);
        settleMany(rows(row(channelId, 20)));
        close(channelId, 30);
        assertBalances(0, 30, "after close");

        channelId = openNumber(2);
        requestClose(channelId);
        vm.warp(NOW + GRACE);
        withdraw(channelId);
        assertBalances(0, 30, "after withdraw");
    }

    function test_ATokenThatSaysItMovedAndDidNotOpensNothing() public othersUntouched {
        useUnruly().setManner(address(escrow), UnrulyToken.Manner.ReturnsTrueAndMovesNothing);
        expectRefused(payer, callToOpen(), notExact(DEPOSIT, 0));
    }

    function test_ATokenThatRevertsIsHeardWithItsOwnReason() public othersUntouched {
        UnrulyToken unruly = useUnruly();
        bytes32 channelId = openChannel();
        unruly.setManner(payee, UnrulyToken.Manner.Reverts);
        expectRefused(payee, callToSettle(channelId, 5), abi.encodeWithSelector(UnrulyToken.Unruly.selector, payee));
    }

    function test_ATokenThatTakesAFeeOrGivesABonusOpensNothing() public othersUntouched {
        useToken(InexactToken(deploy("InexactToken", abi.encode(int256(-7)))));
        expectRefused(payer, callToOpen(), notExact(DEPOSIT, DEPOSIT - 7));
        useToken(InexactToken(deploy("InexactToken", abi.encode(int256(7)))));
        expectRefused(payer, callToOpen(), notExact(DEPOSIT, DEPOSIT + 7));
    }

    function test_ATokenThatStartsToTakeAFeeShortsTheReceiversAndNotTheEscrow() public othersUntouched {
        useToken(TestUSDC(deploy("InexactToken", abi.encode(int256(0)))));
        bytes32 channelId = openChannel();
        bytes32 other = openNumber(2);
        vm.etch(address(token), deploy("InexactToken", abi.encode(int256(-7))).code);
        close(channelId, 100);
        vm.assertEq(token.balanceOf(payee), 100 - 7, "payee");
        vm.assertEq(token.balanceOf(address(escrow)), DEPOSIT, "what the other channel is owed");
        close(other, 100);
        vm.assertEq(token.balanceOf(address(escrow)), 0, "in escrow");
    }

    function test_ATokenWithoutCodeAnyMorePaysNobodyAndNothingIsRecorded() public othersUntouched {
        useUnruly();
        bytes32 channelId = openChannel();
        vm.etch(address(token), "");
        expectRefused(payee, callToSettle(channelId, 5), failed());
        expectRefused(payer, abi.encodeCall(IPaymentChannelEscrow.topUp, (channelId, 1)), "");
        expectRefused(
            payer,
            abi.encodeCall(IPaymentChannelEscrow.open, (payee, address(token), 1, keccak256("new"), address(0))),
            abi.encodeWithSelector(IEscrowErrors.InvalidToken.selector, address(token))
        );
        vm.assertEq(channelOf(channelId).settled, 0, "settled");
    }

    // Whom it blocks

    function useBlocklist() private returns (BlocklistToken blocklist) {
        blocklist = BlocklistToken(deploy("BlocklistToken", ""));
        useToken(blocklist);
    }

    function blocked(address account) private pure returns (bytes memory) {
        return abi.encodeWithSelector(BlocklistToken.Blocked.selector, account);
    }

    function test_APayerThatIsBlockedIsSettledAgainstAndWithdrawsWhenItNoLongerIs() public othersUntouched {
        BlocklistToken blocklist = useBlocklist();
        bytes32 channelId = openChannel();
        blocklist.setBlocked(payer, true);
        expectRefused(payer, abi.encodeCall(IPaymentChannelEscrow.topUp, (channelId, 1)), blocked(payer));
        settle(channelId, 100);
        requestClose(channelId);
        vm.warp(NOW + GRACE);
        expectRefused(payer, abi.encodeCall(IPaymentChannelEscrow.withdraw, (channelId)), blocked(payer));
        settle(channelId, 110);

        blocklist.setBlocked(payer, false);
        withdraw(channelId);
        assertBalances(0, 110, "after withdraw");
    }

    /// @dev The payee's risk, not the payer's: it cannot be paid, and the payer may leave.
    function test_APayeeThatIsBlockedIsNotPaidAndThePayerLeavesAfterTheGracePeriod() public othersUntouched {
        BlocklistToken blocklist = useBlocklist();
        bytes32 channelId = openChannel();
        blocklist.setBlocked(payee, true);
        expectRefused(payee, callToSettle(channelId, 100), blocked(payee));
        expectRefused(payee, callToClose(channelId, 100), blocked(payee));
        requestClose(channelId);
        vm.warp(NOW + GRACE);
        withdraw(channelId);
        assertBalances(0, 0, "after withdraw");
    }

    function test_AnEscrowThatIsBlockedKeepsItsStateUntilItNoLongerIs() public othersUntouched {
        BlocklistToken blocklist = useBlocklist();
        bytes32 channelId = openChannel();
        blocklist.setBlocked(address(escrow), true);
        expectRefused(payee, callToSettle(channelId, 5), blocked(address(escrow)));
        expectRefused(payee, callToClose(channelId, 0), blocked(address(escrow)));
        vm.assertEq(closeMany(rows(unsigned(channelId, 0))), 0, "nor in a batch");
        vm.assertFalse(channelOf(channelId).finalized, "still open");
        blocklist.setBlocked(address(escrow), false);
        close(channelId, 5);
        assertBalances(0, 5, "after close");
    }

    // What changes balances on its own

    function test_ARebaseUpwardsIsNobodysAndStays() public othersUntouched {
        useToken(TestUSDC(deploy("RebasingToken", "")));
        bytes32 channelId = openChannel();
        RebasingToken(address(token)).rebase(address(escrow), 3, 2);
        close(channelId, 100);
        vm.assertEq(token.balanceOf(payee), 100, "payee");
        vm.assertEq(token.balanceOf(address(escrow)), DEPOSIT / 2, "left over");
        openNumber(2); // what is left over counts as nobody's deposit
        vm.assertEq(token.balanceOf(address(escrow)), DEPOSIT / 2 + DEPOSIT, "in escrow");
    }

    /// @dev Why such a token must not be used: its channels share one balance.
    function test_ARebaseDownwardsLeavesTheLastOfItsOwnChannelsShort() public othersUntouched {
        useToken(TestUSDC(deploy("RebasingToken", "")));
        bytes32 quick = openChannel();
        bytes32 slow = openNumber(2);
        RebasingToken(address(token)).rebase(address(escrow), 3, 4);
        close(quick, DEPOSIT);
        expectRefused(
            payee,
            callToClose(slow, DEPOSIT),
            abi.encodeWithSelector(
                IERC20Errors.ERC20InsufficientBalance.selector,
                address(escrow),
                DEPOSIT / 2,
                DEPOSIT
            )
        );
        settle(slow, DEPOSIT / 2); // what is there can still be had
        vm.assertEq(token.balanceOf(payee), DEPOSIT + DEPOSIT / 2, "payee");
    }

    // What is no token, or not the kind that was meant

    function test_ATokenWhoseFallbackTakesTheAuthorizationForSomethingElseOpensAndTopsUpNothing()
        public
        othersUntouched
    {
        useToken(TestUSDC(deploy("FallbackToken", "")));
        bytes32 nonce = openNonce(payer, payee, SALT, address(0));
        bytes memory call = abi.encodeCall(
            IRelayedProfile.openWithAuthorization,
            (payee, address(token), DEPOSIT, SALT, address(0), payer, 0, NOW + 1, nonce, NO_SIGNATURE)
        );
        expectRefused(stranger, call, notExact(DEPOSIT, 0));

        bytes32 channelId = openChannel();
        nonce = keccak256(abi.encode(channelId, uint128(9), payer, SALT));
        call = abi.encodeCall(
            IRelayedProfile.topUpWithAuthorization,
            (channelId, 9, payer, SALT, 0, NOW + 1, nonce, NO_SIGNATURE)
        );
        expectRefused(stranger, call, notExact(DEPOSIT + 9, DEPOSIT));
    }

    function test_ATokenThatIsTheEscrowOrPermit2OpensNothingInAnyWay() public othersUntouched {
        address[2] memory nonTokens = [address(escrow), PERMIT2];
        for (uint256 i = 0; i < 2; i++) {
            address money = nonTokens[i];
            expectRefused(payer, callToOpen(money), "");
            bytes32 nonce = keccak256(abi.encode(payer, payee, money, SALT, address(0)));
            bytes memory call = abi.encodeCall(
                IRelayedProfile.openWithAuthorization,
                (payee, money, DEPOSIT, SALT, address(0), payer, 0, NOW + 1, nonce, NO_SIGNATURE)
            );
            expectRefused(stranger, call, "");
            Permit memory permit = Permit(money, DEPOSIT, address(escrow), 0, NOW);
            bytes memory signature = signDigest(PAYER_KEY, openPermitDigest(permit, payee, SALT, address(0)));
            call = abi.encodeCall(
                IRelayedProfile.openWithPermit2,
                (payee, money, DEPOSIT, SALT, address(0), payer, 0, NOW, signature)
            );
            expectRefused(stranger, call, "");
        }
    }

    function test_ATokenThatIsAnAccountWithoutCodeOpensNothing() public othersUntouched {
        expectRefused(
            payer,
            callToOpen(stranger),
            abi.encodeWithSelector(IEscrowErrors.InvalidToken.selector, stranger)
        );
    }

    function test_TokensSentToTheEscrowByMistakeAreNobodysAndDisturbNobody() public {
        vm.prank(payer);
        honest.transfer(address(escrow), 123);
        bytes32 channelId = openNumber(2);
        close(channelId, 100);
        closeMany(rows(row(honestChannel, 50)));
        vm.assertEq(honest.balanceOf(address(escrow)), 123, "stays");
    }
}
