// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrowErrors} from "../../contracts/IEscrowErrors.sol";
import {IEscrowEvents} from "../../contracts/IEscrowEvents.sol";
import {PayeeAuthorizationTest} from "./support/PayeeAuthorizationTest.sol";

contract SettleWithAuthorizationTest is PayeeAuthorizationTest {
    function typeString() internal pure override returns (string memory own, string memory other) {
        return (SETTLE_TYPE, CLOSE_TYPE);
    }

    function submit(
        Authorization memory a,
        bytes memory payeeSignature,
        bytes memory voucherSignature
    ) internal override {
        vm.prank(stranger);
        escrow.settleWithAuthorization(
            a.channelId,
            a.cumulativeAmount,
            a.nonce,
            a.deadline,
            payeeSignature,
            voucherSignature
        );
    }

    function settleUnder(uint256 nonce, uint128 amount) private {
        submit(Authorization(channelId, amount, nonce, DEADLINE));
    }

    function expectUsed(Authorization memory authorization) private {
        bytes memory payeeSignature = signed(authorization);
        bytes memory voucherSignature = signVoucher(PAYER_KEY, channelId, authorization.cumulativeAmount);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrowErrors.NonceAlreadyUsed.selector, channelId, authorization.nonce)
        );
        submit(authorization, payeeSignature, voucherSignature);
    }

    function test_ItSettlesAsThePayeeItselfWould() public {
        settle(channelId, 40);
        vm.expectEmit(address(escrow));
        emit IEscrowEvents.Settled(channelId, payer, payee, AMOUNT, AMOUNT - 40);
        submit(authorized());

        assertBalances(DEPOSIT - AMOUNT, AMOUNT, "after settling");
        vm.assertFalse(channelOf(channelId).finalized, "still open");
    }

    function test_I4_AnAuthorizationSettlesOnce() public {
        submit(authorized());
        expectUsed(authorized());
    }

    function test_I4_AUsedNonceIsRefusedForAnotherAmountToo() public {
        settleUnder(NONCE, AMOUNT);
        expectUsed(Authorization(channelId, AMOUNT + 1, NONCE, DEADLINE));
    }

    function test_NoncesNeedNoOrderAndAreApart() public {
        uint256[5] memory nonces = [uint256(256), 0, type(uint256).max, 255, 257];
        for (uint256 i = 0; i < nonces.length; i++) {
            vm.assertFalse(escrow.isNonceUsed(channelId, nonces[i]), "not used by its neighbours");
            settleUnder(nonces[i], uint128(10 * (i + 1)));
            vm.assertTrue(escrow.isNonceUsed(channelId, nonces[i]), "used");
            expectUsed(Authorization(channelId, 1000, nonces[i], DEADLINE));
        }
        vm.assertFalse(escrow.isNonceUsed(channelId, 1), "1");
        vm.assertFalse(escrow.isNonceUsed(channelId, type(uint256).max - 1), "the last but one");
        assertBalances(DEPOSIT - 50, 50, "after five settlements");
    }

    function test_TheSameNonceInAnotherChannelIsAnother() public {
        submit(authorized());
        bytes32 first = channelId;
        channelId = openChannel(DEPOSIT, keccak256("other"), address(0));
        vm.assertFalse(escrow.isNonceUsed(channelId, NONCE), "unused in the other channel");
        submit(authorized());
        vm.assertTrue(escrow.isNonceUsed(first, NONCE) && escrow.isNonceUsed(channelId, NONCE), "used in both");
    }

    function test_AFinalizedChannelHasNoUnusedNonces() public {
        vm.assertFalse(escrow.isNonceUsed(channelId, NONCE), "before");
        close(channelId, 10);
        vm.assertTrue(escrow.isNonceUsed(channelId, NONCE), "after close");
        vm.assertTrue(escrow.isNonceUsed(channelId, type(uint256).max), "any nonce");
        vm.assertFalse(escrow.isNonceUsed(SALT, NONCE), "a channel that does not exist has used none");
    }

    function test_AWithdrawnChannelHasNoUnusedNonces() public {
        requestClose(channelId);
        vm.warp(NOW + GRACE);
        withdraw(channelId);
        vm.assertTrue(escrow.isNonceUsed(channelId, NONCE), "after withdraw");
    }

    function test_I2_AnAmountThatWasSettledInTheMeantimeIsRefusedAndTheNonceStaysUnused() public {
        settle(channelId, AMOUNT);
        Authorization memory authorization = authorized();
        bytes memory payeeSignature = signed(authorization);
        bytes memory voucherSignature = voucher();
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.AmountNotIncreasing.selector, channelId, AMOUNT, AMOUNT));
        submit(authorization, payeeSignature, voucherSignature);
        vm.assertFalse(escrow.isNonceUsed(channelId, NONCE), "unused");
    }

    function test_ThePayeesOwnSettlementsUseNoNonce() public {
        settle(channelId, AMOUNT);
        for (uint256 nonce = 0; nonce < 300; nonce++) {
            vm.assertFalse(escrow.isNonceUsed(channelId, nonce), "unused");
        }
    }

    function test_TheExpiryIsToldBeforeTheUsedNonce() public {
        submit(authorized());
        Authorization memory authorization = authorized();
        bytes memory payeeSignature = signed(authorization);
        vm.warp(DEADLINE + 1);
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.AuthorizationExpired.selector, DEADLINE));
        submit(authorization, payeeSignature, NO_SIGNATURE);
    }

    function test_AnAuthorizationWithoutEndIsPossible() public {
        submit(Authorization(channelId, AMOUNT, NONCE, type(uint256).max));
        assertBalances(DEPOSIT - AMOUNT, AMOUNT, "after settling");
    }
}
