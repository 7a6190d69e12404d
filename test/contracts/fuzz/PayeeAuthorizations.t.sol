// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrowErrors} from "../../../contracts/IEscrowErrors.sol";
import {IRelayedProfile} from "../../../contracts/IRelayedProfile.sol";
import {FuzzTest} from "./FuzzTest.sol";

/// A payee's authorization is good for exactly what was signed, once, in time. Draft section "Payee-initiated functions".
contract PayeeAuthorizationsFuzzTest is FuzzTest {
    bytes32 private id;

    function setUp() public override {
        super.setUp();
        id = openChannel();
    }

    /// @dev Submitted by a stranger, with the voucher that belongs to it.
    function callOf(bool closes, Authorization memory a, bytes memory signature) private view returns (bytes memory) {
        return
            abi.encodeWithSelector(
                closes
                    ? IRelayedProfile.closeWithAuthorization.selector
                    : IRelayedProfile.settleWithAuthorization.selector,
                a.channelId,
                a.cumulativeAmount,
                a.nonce,
                a.deadline,
                signature,
                signVoucher(PAYER_KEY, a.channelId, a.cumulativeAmount)
            );
    }

    function sign(bool closes, Authorization memory a) private view returns (bytes memory) {
        return signDigest(PAYEE_KEY, digestOf(domainOf(address(escrow)), closes ? CLOSE_TYPE : SETTLE_TYPE, a));
    }

    function any(uint128 amount, uint256 nonce, uint256 deadline) private view returns (Authorization memory) {
        return Authorization(id, bound128(amount, 1, DEPOSIT), nonce, bound(deadline, NOW, type(uint256).max));
    }

    function assertNotAuthorized(bool closes, Authorization memory a, bytes memory signature) private {
        bytes memory reason = abi.encodeWithSelector(IEscrowErrors.InvalidSignature.selector, a.channelId, payee);
        assertRefused(stranger, callOf(closes, a, signature), reason, "refused as no authorization of the payee's");
    }

    function assertTaken(bool closes, Authorization memory a, bytes memory signature) private {
        (bool ok, ) = tryCall(stranger, callOf(closes, a, signature));
        vm.assertTrue(ok, "as it was signed it is good");
        vm.assertEq(token.balanceOf(payee), a.cumulativeAmount, "payee");
        vm.assertEq(token.balanceOf(stranger), 0, "who submitted it");
        vm.assertTrue(channelOf(id).finalized == closes, "finalized by a close, and only by one");
    }

    function testFuzz_I3_AnyChangedFieldIsRefused(
        bool closes,
        uint128 amount,
        uint256 nonce,
        uint256 deadline,
        uint256 which
    ) public {
        Authorization memory signed = any(amount, nonce, deadline);
        bytes memory signature = sign(closes, signed);
        Authorization memory changed = any(amount, nonce, deadline);
        uint256 bit = which >> 8;
        if (which % 4 == 0) {
            changed.channelId = openChannel(DEPOSIT, bytes32(bit), signer); // another, between the same parties
        } else if (which % 4 == 1) {
            changed.cumulativeAmount ^= uint128(1 << (bit % 22));
            if (changed.cumulativeAmount == 0 || changed.cumulativeAmount > DEPOSIT) return;
        } else if (which % 4 == 2) {
            changed.nonce ^= 1 << (bit % 256);
        } else {
            changed.deadline ^= 1 << (bit % 256);
            if (changed.deadline < NOW) return;
        }
        assertNotAuthorized(closes, changed, signature);
        assertTaken(closes, signed, signature);
    }

    function testFuzz_I3_AnyFlippedBitOfTheSignatureIsRefused(
        bool closes,
        uint128 amount,
        uint256 nonce,
        uint256 bit
    ) public {
        Authorization memory a = any(amount, nonce, NOW);
        bytes memory signature = sign(closes, a);
        assertNotAuthorized(closes, a, flip(signature, bit));
        assertTaken(closes, a, flip(signature, bit)); // flipped back
    }

    function testFuzz_I3_OnlyThePayeesSignatureIsTakenAndOnlyForItsFunction(
        bool closes,
        uint128 amount,
        uint256 nonce,
        uint256 key
    ) public {
        Authorization memory a = any(amount, nonce, NOW);
        bytes32 digest = digestOf(domainOf(address(escrow)), closes ? CLOSE_TYPE : SETTLE_TYPE, a);
        key = toKey(key);
        if (vm.addr(key) != payee) assertNotAuthorized(closes, a, signDigest(key, digest));
        assertNotAuthorized(closes, a, signDigest(PAYER_KEY, digest));
        assertNotAuthorized(closes, a, highS(PAYEE_KEY, digest));
        assertNotAuthorized(!closes, a, sign(closes, a));
        assertTaken(closes, a, sign(closes, a));
    }

    /// @dev Five nonces, some of them equal, in the order they come in; every voucher is a new one.
    function testFuzz_I4_NoncesAreTakenInAnyOrderAndEachOnce(uint256[5] memory nonces, uint256 repeats) public {
        for (uint256 i = 0; i < nonces.length; i++) {
            if ((repeats >> i) % 2 == 1) nonces[i] = nonces[(repeats >> (8 + 8 * i)) % nonces.length];
            Authorization memory a = Authorization(id, uint128(i + 1), nonces[i], NOW);
            bool isNew = true;
            for (uint256 k = 0; k < i; k++) isNew = isNew && nonces[k] != nonces[i];

            vm.assertTrue(escrow.isNonceUsed(id, nonces[i]) != isNew, "what isNonceUsed says beforehand");
            (bool ok, bytes memory answer) = tryCall(stranger, callOf(false, a, sign(false, a)));
            vm.assertTrue(ok == isNew, "each nonce is taken once");
            bytes memory used = abi.encodeWithSelector(IEscrowErrors.NonceAlreadyUsed.selector, id, nonces[i]);
            if (!ok) vm.assertEq(answer, used, "the reason");
            vm.assertTrue(escrow.isNonceUsed(id, nonces[i]), "what isNonceUsed says afterwards");
        }
    }

    function testFuzz_I4_SettlingAndClosingShareTheirNonces(uint256 nonce, uint256 other, uint128 amount) public {
        Authorization memory a = Authorization(id, 1, nonce, NOW);
        (bool ok, ) = tryCall(stranger, callOf(false, a, sign(false, a)));
        vm.assertTrue(ok, "settled");
        a.cumulativeAmount = bound128(amount, 2, DEPOSIT);
        bytes memory used = abi.encodeWithSelector(IEscrowErrors.NonceAlreadyUsed.selector, id, nonce);
        assertRefused(stranger, callOf(true, a, sign(true, a)), used, "the settlement used it up for the close");
        vm.assertTrue(escrow.isNonceUsed(id, other) == (other == nonce), "no other nonce is used up");

        bytes32 second = openChannel(DEPOSIT, bytes32(nonce), signer);
        vm.assertFalse(escrow.isNonceUsed(second, nonce), "nor that of another channel");
    }
}
