// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchSettlement} from "../../../contracts/IBatchSettlement.sol";
import {IEscrowErrors} from "../../../contracts/IEscrowErrors.sol";
import {IPaymentChannelEscrow} from "../../../contracts/IPaymentChannelEscrow.sol";
import {FuzzTest} from "./FuzzTest.sol";

/// A voucher is good for exactly what was signed, by exactly the one who signs for the channel. Draft section "Signature
/// Verification".
contract VoucherSignaturesFuzzTest is FuzzTest {
    function settleCall(bytes32 id, uint128 amount, bytes memory signature) private pure returns (bytes memory) {
        return abi.encodeCall(IPaymentChannelEscrow.settle, (id, amount, signature));
    }

    /// @dev For a channel whose signer is delegated or, one time in two, the payer itself.
    function openFor(uint256 key) private returns (bytes32 channelId, uint256 signingKey) {
        if (key % 2 == 0) return (openChannel(), PAYER_KEY);
        signingKey = toKey(key);
        channelId = openChannel(DEPOSIT, SALT, vm.addr(signingKey));
    }

    function assertNoVoucher(bytes32 id, uint256 key, uint128 amount, bytes memory signature) private {
        bytes memory reason = abi.encodeWithSelector(IEscrowErrors.InvalidSignature.selector, id, vm.addr(key));
        assertRefused(payee, settleCall(id, amount, signature), reason, "refused as no voucher of the signer's");
        assertBalances(DEPOSIT, 0, "nothing was paid");
    }

    function testFuzz_I3_AnyFlippedBitOfASignatureIsRefused(uint256 key, uint128 amount, uint256 bit) public {
        (bytes32 id, uint256 signingKey) = openFor(key);
        amount = bound128(amount, 1, DEPOSIT);
        bytes memory signature = signVoucher(signingKey, id, amount);
        assertNoVoucher(id, signingKey, amount, flip(signature, bit));
        (bool ok, ) = tryCall(payee, settleCall(id, amount, flip(signature, bit))); // flipped back
        vm.assertTrue(ok, "and as it was signed it is good");
    }

    function testFuzz_I3_AnyFlippedBitOfTheAmountIsRefused(uint256 key, uint128 amount, uint256 bit) public {
        (bytes32 id, uint256 signingKey) = openFor(key);
        amount = bound128(amount, 1, DEPOSIT);
        uint128 signedFor = amount ^ uint128(1 << (bit % 128));
        assertNoVoucher(id, signingKey, amount, signVoucher(signingKey, id, signedFor));
    }

    function testFuzz_I3_AnyFlippedBitOfTheChannelIsRefused(uint256 key, uint128 amount, uint256 bit) public {
        (bytes32 id, uint256 signingKey) = openFor(key);
        amount = bound128(amount, 1, DEPOSIT);
        bytes32 signedFor = id ^ bytes32(1 << (bit % 256));
        assertNoVoucher(id, signingKey, amount, signVoucher(signingKey, signedFor, amount));
    }

    function testFuzz_I3_AnyFlippedBitOfTheKeyIsRefused(uint256 key, uint128 amount, uint256 bit) public {
        (bytes32 id, uint256 signingKey) = openFor(key);
        amount = bound128(amount, 1, DEPOSIT);
        uint256 otherKey = signingKey ^ (1 << (bit % 256));
        if (isKey(otherKey)) assertNoVoucher(id, signingKey, amount, signVoucher(otherKey, id, amount));
    }

    function testFuzz_I3_OnlyTheSignersVoucherIsTaken(uint256 key, uint256 other, uint128 amount) public {
        (bytes32 id, uint256 signingKey) = openFor(key);
        (amount, other) = (bound128(amount, 1, DEPOSIT), toKey(other));
        if (other != signingKey) assertNoVoucher(id, signingKey, amount, signVoucher(other, id, amount));
        (bool ok, ) = tryCall(payee, settleCall(id, amount, signVoucher(signingKey, id, amount)));
        vm.assertTrue(ok, "the signer's is");
        assertBalances(DEPOSIT - amount, amount, "paid");
    }

    function testFuzz_I3_TheMalleableTwinOfAnySignatureIsRefused(uint256 key, uint128 amount) public {
        (bytes32 id, uint256 signingKey) = openFor(key);
        amount = bound128(amount, 1, DEPOSIT);
        assertNoVoucher(id, signingKey, amount, highS(signingKey, voucherDigest(id, amount)));
    }

    function testFuzz_I3_AnyBytesAreNoVoucher(bytes memory anything, uint128 amount) public {
        bytes32 id = openChannel();
        assertNoVoucher(id, PAYER_KEY, bound128(amount, 1, DEPOSIT), anything);
    }

    function testFuzz_I3_AVoucherOfAnotherChainOrEscrowIsRefused(
        uint64 otherChain,
        address other,
        uint128 amount
    ) public {
        bytes32 id = openChannel();
        amount = bound128(amount, 1, DEPOSIT);
        bytes32 domain = domainOf(other);
        if (other != address(escrow)) {
            assertNoVoucher(id, PAYER_KEY, amount, signDigest(PAYER_KEY, voucherDigest(domain, id, amount)));
        }
        if (otherChain == 0 || otherChain == chain) return;
        bytes memory signature = signVoucher(PAYER_KEY, id, amount);
        goToChain(otherChain);
        assertNoVoucher(id, PAYER_KEY, amount, signature);
    }

    // ---------------------------------------------------------------- in a batch

    function compact(uint256 key, bytes32 digest) private pure returns (bytes32 r, bytes32 vs) {
        uint8 v;
        bytes32 s;
        (v, r, s) = vm.sign(key, digest);
        vs = bytes32(uint256(s) | (uint256(v - 27) << 255));
    }

    /// @dev What one row paid.
    function settleRow(bytes32 id, uint128 amount, bytes32 r, bytes32 vs) private returns (uint256 paid) {
        IBatchSettlement.SignedVoucher[] memory rows = new IBatchSettlement.SignedVoucher[](1);
        rows[0] = IBatchSettlement.SignedVoucher(id, amount, r, vs);
        uint256 before = token.balanceOf(payee);
        vm.prank(payee);
        escrow.settleMany(rows);
        return token.balanceOf(payee) - before;
    }

    function testFuzz_I3_ACompactSignatureIsWorthItsLongForm(uint256 key, uint128 amount, bool compactFirst) public {
        (bytes32 id, uint256 signingKey) = openFor(key);
        amount = bound128(amount, 1, DEPOSIT);
        (bytes32 r, bytes32 vs) = compact(signingKey, voucherDigest(id, amount));
        bytes memory long = abi.encodePacked(r, vs & ~bytes32(uint256(1) << 255), uint8(27 + (uint256(vs) >> 255)));
        vm.assertEq(long, signVoucher(signingKey, id, amount), "it is the same signature");

        if (compactFirst) vm.assertEq(settleRow(id, amount, r, vs), amount, "the compact form is good");
        (bool ok, ) = tryCall(payee, settleCall(id, amount, long));
        vm.assertTrue(ok != compactFirst, "the long form is good, unless the compact one has been used");
        if (!compactFirst) vm.assertEq(settleRow(id, amount, r, vs), 0, "and the other way round");
        assertBalances(DEPOSIT - amount, amount, "paid once");
    }

    function testFuzz_I3_AnyFlippedBitOfACompactSignatureIsSkipped(uint256 key, uint128 amount, uint256 bit) public {
        (bytes32 id, uint256 signingKey) = openFor(key);
        amount = bound128(amount, 1, DEPOSIT);
        (bytes32 r, bytes32 vs) = compact(signingKey, voucherDigest(id, amount));
        bytes32 mask = bytes32(1 << (bit % 256));
        uint256 paid = bit % 512 < 256 ? settleRow(id, amount, r ^ mask, vs) : settleRow(id, amount, r, vs ^ mask);
        vm.assertEq(paid, 0, "skipped");
        assertBalances(DEPOSIT, 0, "nothing was paid");
    }
}
