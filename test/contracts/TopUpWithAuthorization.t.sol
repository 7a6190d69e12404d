// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {IEscrowErrors} from "../../contracts/IEscrowErrors.sol";
import {IRelayedProfile} from "../../contracts/IRelayedProfile.sol";
import {RelayedTopUpTest} from "./support/RelayedTopUpTest.sol";

contract TopUpWithAuthorizationTest is RelayedTopUpTest {
    function prepare(address from) internal override {
        // The signature is all it takes.
    }

    /// @dev Draft section "Front-Running Protection": four words, one after the other.
    function nonceOf(Funding memory f) private pure returns (bytes32) {
        return
            keccak256(
                bytes.concat(
                    f.channelId,
                    bytes32(uint256(f.amount)),
                    bytes32(uint256(uint160(f.from))),
                    bytes32(f.unique)
                )
            );
    }

    function digestOf(Funding memory f) internal view override returns (bytes32) {
        return receiveDigest(f.from, f.amount, f.expiry, nonceOf(f));
    }

    function callOf(Funding memory f, bytes memory signature) internal pure override returns (bytes memory) {
        return callOf(f, nonceOf(f), signature);
    }

    function callOf(Funding memory f, bytes32 nonce, bytes memory signature) private pure returns (bytes memory) {
        return
            abi.encodeCall(
                IRelayedProfile.topUpWithAuthorization,
                (f.channelId, f.amount, f.from, bytes32(f.unique), 0, f.expiry, nonce, signature)
            );
    }

    function notSigned() internal pure override returns (bytes memory) {
        return abi.encodeWithSelector(ERC3009.ERC3009InvalidSignature.selector);
    }

    function alreadyUsed(Funding memory f) internal pure override returns (bytes memory) {
        return abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, f.from, nonceOf(f));
    }

    /// @dev What a front-runner can send: the signed nonce and signature, with something else changed.
    function expectNonceMismatch(Funding memory changed) private {
        bytes32 nonce = nonceOf(fundingBy(payer));
        bytes memory signature = signDigest(PAYER_KEY, digestOf(fundingBy(payer)));
        expectRefused(
            callOf(changed, nonce, signature),
            abi.encodeWithSelector(IEscrowErrors.NonceMismatch.selector, nonceOf(changed), nonce)
        );
    }

    function test_FrontRunningIntoAnotherChannelIsRefused() public {
        Funding memory changed = fundingBy(payer);
        changed.channelId = openChannel(DEPOSIT, keccak256("other"), address(0));
        expectNonceMismatch(changed);
    }

    function test_FrontRunningWithAnotherAmountIsRefused() public {
        Funding memory changed = fundingBy(payer);
        changed.amount = AMOUNT - 1;
        expectNonceMismatch(changed);
    }

    function test_FrontRunningInTheNameOfAnotherFunderIsRefused() public {
        Funding memory changed = fundingBy(payer);
        changed.from = funder;
        expectNonceMismatch(changed);
    }

    function test_FrontRunningWithAnotherSaltIsRefused() public {
        Funding memory changed = fundingBy(payer);
        changed.unique += 1;
        expectNonceMismatch(changed);
    }

    function test_ANonceThatWasNotDerivedIsRefusedThoughItIsSigned() public {
        Funding memory funding = fundingBy(payer);
        bytes32 nonce = keccak256("any");
        bytes memory signature = signReceive(PAYER_KEY, AMOUNT, EXPIRY, nonce);
        expectRefused(
            callOf(funding, nonce, signature),
            abi.encodeWithSelector(IEscrowErrors.NonceMismatch.selector, nonceOf(funding), nonce)
        );
    }

    function test_AnOpenAuthorizationTopsUpNothing() public {
        Funding memory funding = fundingBy(payer);
        bytes32 nonce = openNonce(payer, payee, SALT, address(0));
        bytes memory signature = signReceive(PAYER_KEY, AMOUNT, EXPIRY, nonce);
        expectRefused(
            callOf(funding, nonce, signature),
            abi.encodeWithSelector(IEscrowErrors.NonceMismatch.selector, nonceOf(funding), nonce)
        );
        expectRefused(callOf(funding, signature), notSigned());
    }

    function test_ATopUpAuthorizationOpensNothing() public {
        Funding memory funding = fundingBy(payer);
        bytes memory signature = signDigest(PAYER_KEY, digestOf(funding));
        bytes32 salt = keccak256("new");
        bytes32 expected = openNonce(payer, payee, salt, address(0));
        bytes memory call = abi.encodeCall(
            IRelayedProfile.openWithAuthorization,
            (payee, address(token), AMOUNT, salt, address(0), payer, 0, EXPIRY, nonceOf(funding), signature)
        );
        expectRefused(call, abi.encodeWithSelector(IEscrowErrors.NonceMismatch.selector, expected, nonceOf(funding)));
    }

    function test_TwoEqualTopUpsNeedTwoSalts() public {
        submit(signedCall(PAYER_KEY, fundingBy(payer)));
        Funding memory second = fundingBy(payer);
        second.unique += 1;
        submit(signedCall(PAYER_KEY, second));
        vm.assertEq(channelOf(channelId).deposit, DEPOSIT + 2 * AMOUNT, "deposit");
    }

    function test_AnAuthorizationIsGoodBeforeItsExpiryAndNotInThatSecond() public {
        vm.warp(EXPIRY);
        expectRefused(
            signedCall(PAYER_KEY, fundingBy(payer)),
            abi.encodeWithSelector(ERC3009.ERC3009InvalidAuthorizationTime.selector, 0, EXPIRY)
        );
        vm.warp(EXPIRY - 1);
        submit(signedCall(PAYER_KEY, fundingBy(payer)));
    }
}
