// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrowErrors} from "../../contracts/IEscrowErrors.sol";
import {IEscrowEvents} from "../../contracts/IEscrowEvents.sol";
import {BlocklistToken} from "../../contracts/test/BlocklistToken.sol";
import {PayeeAuthorizationTest} from "./support/PayeeAuthorizationTest.sol";

contract CloseWithAuthorizationTest is PayeeAuthorizationTest {
    function typeString() internal pure override returns (string memory own, string memory other) {
        return (CLOSE_TYPE, SETTLE_TYPE);
    }

    function submit(
        Authorization memory a,
        bytes memory payeeSignature,
        bytes memory voucherSignature
    ) internal override {
        vm.prank(stranger);
        escrow.closeWithAuthorization(
            a.channelId,
            a.cumulativeAmount,
            a.nonce,
            a.deadline,
            payeeSignature,
            voucherSignature
        );
    }

    function settleUnder(uint256 nonce, uint128 amount) private {
        Authorization memory a = Authorization(channelId, amount, nonce, DEADLINE);
        bytes memory payeeSignature = signDigest(PAYEE_KEY, digestOf(domainOf(address(escrow)), SETTLE_TYPE, a));
        escrow.settleWithAuthorization(
            channelId,
            amount,
            nonce,
            DEADLINE,
            payeeSignature,
            signVoucher(PAYER_KEY, channelId, amount)
        );
    }

    function test_ItClosesAsThePayeeItselfWould() public {
        settle(channelId, 40);
        vm.expectEmit(address(escrow));
        emit IEscrowEvents.ChannelClosed(channelId, payer, payee, AMOUNT, AMOUNT - 40, DEPOSIT - AMOUNT);
        submit(authorized());

        assertBalances(0, AMOUNT, "after closing");
        vm.assertTrue(channelOf(channelId).finalized, "finalized");
        vm.assertTrue(escrow.isNonceUsed(channelId, NONCE), "nonce used");
    }

    function test_I4_ANonceThatSettledIsRefused() public {
        settleUnder(NONCE, 40);
        Authorization memory authorization = authorized();
        bytes memory payeeSignature = signed(authorization);
        bytes memory voucherSignature = voucher();
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.NonceAlreadyUsed.selector, channelId, NONCE));
        submit(authorization, payeeSignature, voucherSignature);
    }

    function test_I12_AnAuthorizationClosesOnce() public {
        Authorization memory authorization = authorized();
        bytes memory payeeSignature = signed(authorization);
        bytes memory voucherSignature = voucher();
        submit(authorization);
        expectRevert(IEscrowErrors.ChannelFinalized.selector, channelId);
        submit(authorization, payeeSignature, voucherSignature);
    }

    function test_ClosingAtOrBelowSettledNeedsNoVoucherSignature() public {
        settle(channelId, AMOUNT + 1);
        Authorization memory authorization = authorized();
        vm.expectEmit(address(escrow));
        emit IEscrowEvents.ChannelClosed(channelId, payer, payee, AMOUNT + 1, 0, DEPOSIT - AMOUNT - 1);
        submit(authorization, signed(authorization), NO_SIGNATURE);
        assertBalances(0, AMOUNT + 1, "after closing");
    }

    function test_ClosingForNothingStillNeedsThePayeesSignature() public {
        expectInvalidSignature(channelId, payee);
        submit(Authorization(channelId, 0, NONCE, DEADLINE), NO_SIGNATURE, NO_SIGNATURE);

        Authorization memory forfeit = Authorization(channelId, 0, NONCE, DEADLINE);
        submit(forfeit, signed(forfeit), NO_SIGNATURE);
        assertBalances(0, 0, "all of it went back");
    }

    /// @dev Why the deadline should be short: the relayer chooses the moment, and the payer may be the relayer.
    function test_ACloseAuthorizationThatARelayerKeptBackClosesAtWhatWasSettledSince() public {
        Authorization memory keptBack = authorized();
        bytes memory payeeSignature = signed(keptBack);
        settle(channelId, AMOUNT + 50); // and a voucher for more is on its way

        submit(keptBack, payeeSignature, NO_SIGNATURE);
        assertBalances(0, AMOUNT + 50, "never less than what was settled");
    }

    /// @dev The payee's way to take a close authorization back: to use its nonce for something else.
    function test_ACloseAuthorizationIsRevokedBySettlingUnderItsNonce() public {
        Authorization memory keptBack = authorized();
        bytes memory payeeSignature = signed(keptBack);
        settleUnder(NONCE, 1);

        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.NonceAlreadyUsed.selector, channelId, NONCE));
        submit(keptBack, payeeSignature, NO_SIGNATURE);
    }

    function test_ATokenThatRefusesThePayerFailsTheCloseAndTheNonceStaysUnused() public {
        BlocklistToken blocklist = BlocklistToken(deploy("BlocklistToken", ""));
        useToken(blocklist);
        channelId = openChannel();
        blocklist.setBlocked(payer, true);
        Authorization memory authorization = authorized();
        bytes memory payeeSignature = signed(authorization);
        bytes memory voucherSignature = voucher();
        vm.expectRevert(abi.encodeWithSelector(BlocklistToken.Blocked.selector, payer));
        submit(authorization, payeeSignature, voucherSignature);

        vm.assertFalse(channelOf(channelId).finalized, "still open");
        vm.assertFalse(escrow.isNonceUsed(channelId, NONCE), "unused");
        settleUnder(NONCE, AMOUNT);
        assertBalances(DEPOSIT - AMOUNT, AMOUNT, "the payee is paid all the same");
    }
}
