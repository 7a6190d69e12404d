// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrowErrors} from "../../../contracts/IEscrowErrors.sol";
import {IRelayedProfile} from "../../../contracts/IRelayedProfile.sol";
import {FuzzTest} from "./FuzzTest.sol";

/// The names that parties work out for themselves: channelId and the nonces derived from a channel's parameters.
contract IdentifiersFuzzTest is FuzzTest {
    struct Parameters {
        address payer;
        address payee;
        address token;
        bytes32 salt;
        address authorizedSigner;
    }

    function idOf(Parameters memory p) private view returns (bytes32) {
        return escrow.computeChannelId(p.payer, p.payee, p.token, p.salt, p.authorizedSigner);
    }

    function testFuzz_I12_TheChannelIdIsTheDrafts(Parameters memory p, uint64 anyChain) public {
        goToChain(anyChain == 0 ? 1 : anyChain);
        bytes32 expected = keccak256(
            abi.encode(p.payer, p.payee, p.token, p.salt, p.authorizedSigner, address(escrow), chain)
        );
        vm.assertEq(idOf(p), expected, "channelId");
    }

    function testFuzz_I12_AnyFlippedBitOfTheParametersMakesAnotherChannel(Parameters memory p, uint256 bit) public {
        bytes32 id = idOf(p);
        address mask = address(uint160(1 << (bit % 160)));
        uint256 which = (bit >> 8) % 7;
        if (which == 0) p.payer = xor(p.payer, mask);
        else if (which == 1) p.payee = xor(p.payee, mask);
        else if (which == 2) p.token = xor(p.token, mask);
        else if (which == 3) p.salt ^= bytes32(1 << (bit % 256));
        else if (which == 4) p.authorizedSigner = xor(p.authorizedSigner, mask);
        else if (which == 5) goToChain(31337 ^ (1 << (bit % 63)));
        else escrow = deployEscrow(GRACE);
        vm.assertTrue(idOf(p) != id, "another channelId");
    }

    function testFuzz_I12_TwoSetsOfParametersNeverShareAChannel(Parameters memory p, Parameters memory q) public view {
        bool same = keccak256(abi.encode(p)) == keccak256(abi.encode(q));
        vm.assertTrue((idOf(p) == idOf(q)) == same, "one channelId for one set of parameters");
        (p.payer, p.payee) = (q.payee, q.payer);
        same = keccak256(abi.encode(p)) == keccak256(abi.encode(q));
        vm.assertTrue((idOf(p) == idOf(q)) == same, "also when fields change places");
    }

    function testFuzz_I12_AChannelIsWhatItWasOpenedWith(
        address to,
        bytes32 salt,
        address delegate,
        uint128 deposit
    ) public {
        if (to == address(0)) to = payee;
        deposit = bound128(deposit, 1, type(uint128).max);
        payee = to;
        bytes32 id = openChannel(deposit, salt, delegate);
        vm.assertEq(id, idOf(Parameters(payer, to, address(token), salt, delegate)), "id");
        vm.assertEq(channelOf(id).payer, payer, "payer");
        vm.assertEq(channelOf(id).payee, to, "payee");
        vm.assertEq(channelOf(id).token, address(token), "token");
        vm.assertEq(channelOf(id).authorizedSigner, delegate, "signer");
        vm.assertEq(channelOf(id).deposit, deposit, "deposit");
    }

    // ---------------------------------------------------------------- derived nonces

    function openCall(Parameters memory p, uint128 amount, bytes32 nonce) private view returns (bytes memory) {
        bytes memory signature = signReceive(PAYER_KEY, amount, NOW + 1, nonce);
        return
            abi.encodeCall(
                IRelayedProfile.openWithAuthorization,
                (p.payee, p.token, amount, p.salt, p.authorizedSigner, p.payer, 0, NOW + 1, nonce, signature)
            );
    }

    function mismatch(bytes32 expected, bytes32 supplied) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IEscrowErrors.NonceMismatch.selector, expected, supplied);
    }

    function testFuzz_I4_AnOpeningTakesItsOwnNonceAndNoOther(
        address to,
        bytes32 salt,
        address delegate,
        uint128 amount,
        uint256 bit
    ) public {
        Parameters memory p = Parameters(payer, to == address(0) ? payee : to, address(token), salt, delegate);
        amount = bound128(amount, 1, type(uint128).max);
        bytes32 nonce = keccak256(abi.encode(p.payer, p.payee, p.token, p.salt, p.authorizedSigner));
        bytes32 other = nonce ^ bytes32(1 << (bit % 256));
        assertRefused(stranger, openCall(p, amount, other), mismatch(nonce, other), "another nonce");

        (bool ok, bytes memory answer) = tryCall(stranger, openCall(p, amount, nonce));
        vm.assertTrue(ok, "the derived nonce");
        vm.assertEq(abi.decode(answer, (bytes32)), idOf(p), "and the channel it names");
        vm.assertEq(channelOf(idOf(p)).deposit, amount, "deposit");
    }

    function topUpCall(bytes32 id, uint128 amount, bytes32 salt, bytes32 nonce) private view returns (bytes memory) {
        bytes memory signature = signReceive(PAYER_KEY, amount, NOW + 1, nonce);
        return
            abi.encodeCall(
                IRelayedProfile.topUpWithAuthorization,
                (id, amount, payer, salt, 0, NOW + 1, nonce, signature)
            );
    }

    function testFuzz_I4_ATopUpTakesItsOwnNonceAndNoOtherAndTakesItOnce(
        uint128 amount,
        bytes32 salt,
        uint256 bit
    ) public {
        bytes32 id = openChannel();
        amount = bound128(amount, 1, type(uint128).max / 2);
        bytes32 nonce = keccak256(abi.encode(id, amount, payer, salt));
        bytes32 other = nonce ^ bytes32(1 << (bit % 256));
        assertRefused(stranger, topUpCall(id, amount, salt, other), mismatch(nonce, other), "another nonce");

        (bool ok, ) = tryCall(stranger, topUpCall(id, amount, salt, nonce));
        vm.assertTrue(ok, "the derived nonce");
        (ok, ) = tryCall(stranger, topUpCall(id, amount, salt, nonce));
        vm.assertFalse(ok, "once");
        vm.assertEq(channelOf(id).deposit, uint256(DEPOSIT) + amount, "deposit");
    }

    function xor(address a, address b) private pure returns (address) {
        return address(uint160(a) ^ uint160(b));
    }
}
