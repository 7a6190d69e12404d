// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrowErrors} from "../../../contracts/IEscrowErrors.sol";
import {IEscrowEvents} from "../../../contracts/IEscrowEvents.sol";
import {InexactToken} from "../../../contracts/test/InexactToken.sol";
import {EscrowTest} from "./EscrowTest.sol";
import {Vm} from "./Vm.sol";

/**
 * @dev What holds for both ways of topping up by signature. The contracts that inherit from this say what is signed and
 * how it is submitted.
 */
abstract contract RelayedTopUpTest is EscrowTest {
    /// @dev A top-up as its funder means it. `unique` is the nonce of one way and the salt of the other.
    struct Funding {
        bytes32 channelId;
        uint128 amount;
        address from;
        uint256 unique;
        uint256 expiry;
    }

    uint256 internal constant FUNDER_KEY = 0xF00D;
    uint128 internal constant AMOUNT = 700;
    uint256 internal constant EXPIRY = NOW + 60;

    address internal funder = vm.addr(FUNDER_KEY);
    bytes32 internal channelId;

    function setUp() public virtual override {
        super.setUp();
        channelId = openChannel();
        prepare(payer);
        endow(funder);
    }

    /// @dev What the funder has to do once, before it signs.
    function prepare(address from) internal virtual;

    function digestOf(Funding memory funding) internal view virtual returns (bytes32);

    function callOf(Funding memory funding, bytes memory signature) internal view virtual returns (bytes memory);

    /// @dev What is answered to a signature that is not the funder's, and to one that was used.
    function notSigned() internal view virtual returns (bytes memory);

    function alreadyUsed(Funding memory funding) internal view virtual returns (bytes memory);

    // Steps

    function endow(address from) internal {
        token.mint(from, 1_000_000);
        prepare(from);
    }

    function fundingBy(address from) internal view returns (Funding memory) {
        return Funding(channelId, AMOUNT, from, 1, EXPIRY);
    }

    function signedCall(uint256 key, Funding memory funding) internal view returns (bytes memory) {
        return callOf(funding, signDigest(key, digestOf(funding)));
    }

    function submit(bytes memory call) internal {
        vm.prank(stranger);
        (bool success, ) = address(escrow).call(call);
        vm.assertTrue(success, "topped up");
    }

    function expectRefused(bytes memory call, bytes memory why) internal {
        bytes32 before = keccak256(abi.encode(channelOf(channelId)));
        vm.assertEq(revertOf(stranger, call), why, "why");
        vm.assertEq(keccak256(abi.encode(channelOf(channelId))), before, "the channel is as it was");
    }

    // Whose funds, and whose refund

    function test_AnyoneMaySubmitThePayersTopUp() public {
        bytes memory call = signedCall(PAYER_KEY, fundingBy(payer));
        vm.expectEmit(address(escrow));
        emit IEscrowEvents.ToppedUp(channelId, payer, AMOUNT, DEPOSIT + AMOUNT);
        submit(call);
        vm.assertEq(channelOf(channelId).deposit, DEPOSIT + AMOUNT, "deposit");
        assertBalances(DEPOSIT + AMOUNT, 0, "after top-up");
    }

    function test_AThirdPartysFundsAreAddedAndTheRefundIsThePayersAlone() public {
        bytes memory call = signedCall(FUNDER_KEY, fundingBy(funder));
        vm.expectEmit(address(escrow));
        emit IEscrowEvents.ToppedUp(channelId, funder, AMOUNT, DEPOSIT + AMOUNT);
        submit(call);
        close(channelId, 100);
        vm.assertEq(token.balanceOf(payer), type(uint128).max + uint256(AMOUNT) - 100, "payer");
        vm.assertEq(token.balanceOf(funder), 1_000_000 - AMOUNT, "funder");
        vm.assertEq(token.balanceOf(address(escrow)), 0, "in escrow");
    }

    function test_D15_AThirdPartysTopUpDoesNotCancelTheCloseRequest() public {
        requestClose(channelId);
        bytes memory call = signedCall(FUNDER_KEY, fundingBy(funder));
        vm.recordLogs();
        submit(call);

        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; i++) {
            vm.assertTrue(logs[i].topics[0] != IEscrowEvents.CloseRequestCancelled.selector, "cancelled");
        }
        vm.assertEq(channelOf(channelId).closeRequestedAt, NOW, "still pending");
        vm.warp(NOW + GRACE);
        withdraw(channelId);
        vm.assertEq(token.balanceOf(payer), type(uint128).max + uint256(AMOUNT), "the payer gets that too");
    }

    function test_D15_APayeeCannotHoldTheDepositWithDust() public {
        payee = funder;
        channelId = openChannel();
        requestClose(channelId);
        for (uint256 i = 0; i < 3; i++) {
            vm.warp(NOW + GRACE - 3 + i);
            submit(signedCall(FUNDER_KEY, Funding(channelId, 1, funder, i, NOW + GRACE)));
        }
        vm.warp(NOW + GRACE);
        withdraw(channelId);
        vm.assertTrue(channelOf(channelId).finalized, "finalized");
    }

    function test_D15_ThePayersOwnTopUpCancelsItsCloseRequestWhoeverSubmitsIt() public {
        requestClose(channelId);
        bytes memory call = signedCall(PAYER_KEY, fundingBy(payer));
        vm.expectEmit(address(escrow));
        emit IEscrowEvents.CloseRequestCancelled(channelId, payer);
        submit(call);
        vm.assertEq(channelOf(channelId).closeRequestedAt, 0, "no request");
    }

    /// @dev Why its expiry should be near: a top-up that the payer signed earlier is the payer's own.
    function test_ATopUpThatARelayerKeptBackCancelsALaterCloseRequestOnce() public {
        bytes memory keptBack = signedCall(PAYER_KEY, fundingBy(payer));
        requestClose(channelId);
        submit(keptBack);
        vm.assertEq(channelOf(channelId).closeRequestedAt, 0, "cancelled");

        requestClose(channelId);
        expectRefused(keptBack, alreadyUsed(fundingBy(payer)));
        vm.assertEq(channelOf(channelId).closeRequestedAt, NOW, "not again");
    }

    // Signatures

    function test_I4_ATopUpIsCreditedOnce() public {
        bytes memory call = signedCall(FUNDER_KEY, fundingBy(funder));
        submit(call);
        expectRefused(call, alreadyUsed(fundingBy(funder)));
    }

    function test_ASignatureByAnyoneButTheFunderIsRefused() public {
        expectRefused(signedCall(STRANGER_KEY, fundingBy(funder)), notSigned());
        expectRefused(signedCall(PAYER_KEY, fundingBy(funder)), notSigned());
    }

    function test_ASignatureForAnotherAmountIsRefused() public {
        Funding memory changed = fundingBy(payer);
        changed.amount = AMOUNT + 1;
        expectRefused(callOf(changed, signDigest(PAYER_KEY, digestOf(fundingBy(payer)))), notSigned());
    }

    function test_ASignatureForAnotherChannelIsRefused() public {
        Funding memory changed = fundingBy(payer);
        changed.channelId = openChannel(DEPOSIT, keccak256("other"), address(0));
        expectRefused(callOf(changed, signDigest(PAYER_KEY, digestOf(fundingBy(payer)))), notSigned());
    }

    function test_ASignatureWithALaterExpiryIsRefused() public {
        Funding memory changed = fundingBy(payer);
        changed.expiry = EXPIRY + 1;
        expectRefused(callOf(changed, signDigest(PAYER_KEY, digestOf(fundingBy(payer)))), notSigned());
    }

    function test_ASignatureForAnotherChainIsRefused() public {
        bytes memory call = signedCall(PAYER_KEY, fundingBy(payer));
        goToChain(31338);
        expectRefused(call, notSigned());
    }

    function test_AContractFunderSignsByERC1271() public {
        address wallet = deploy("ERC1271Wallet", abi.encode(signer));
        endow(wallet);
        bytes32 digest = digestOf(fundingBy(wallet));
        submit(callOf(fundingBy(wallet), abi.encodePacked(uint8(0), signDigest(SIGNER_KEY, digest))));
        vm.assertEq(channelOf(channelId).deposit, DEPOSIT + AMOUNT, "deposit");
    }

    function test_D15_AContractPayersTopUpCancelsItsCloseRequest() public {
        payer = deploy("ERC1271Wallet", abi.encode(signer));
        token.mint(payer, DEPOSIT);
        vm.prank(payer);
        token.approve(address(escrow), DEPOSIT);
        channelId = openChannel();
        endow(payer);
        requestClose(channelId);
        bytes32 digest = digestOf(fundingBy(payer));
        submit(callOf(fundingBy(payer), abi.encodePacked(uint8(0), signDigest(SIGNER_KEY, digest))));
        vm.assertEq(channelOf(channelId).closeRequestedAt, 0, "no request");
    }

    // What any way of topping up refuses

    function test_TopUpOfAnUnknownChannelIsRefused() public {
        Funding memory funding = fundingBy(payer);
        funding.channelId = SALT;
        expectRefused(
            signedCall(PAYER_KEY, funding),
            abi.encodeWithSelector(IEscrowErrors.ChannelNotFound.selector, SALT)
        );
    }

    function test_I12_TopUpOfAFinalizedChannelIsRefused() public {
        close(channelId, 10);
        expectRefused(
            signedCall(PAYER_KEY, fundingBy(payer)),
            abi.encodeWithSelector(IEscrowErrors.ChannelFinalized.selector, channelId)
        );
    }

    function test_TopUpOfNothingIsRefused() public {
        Funding memory funding = fundingBy(payer);
        funding.amount = 0;
        expectRefused(signedCall(PAYER_KEY, funding), abi.encodeWithSelector(IEscrowErrors.ZeroDeposit.selector));
    }

    function test_I1_TopUpBeyond128BitsIsRefusedUpToTheLastUnit() public {
        uint128 most = type(uint128).max - DEPOSIT - AMOUNT;
        channelId = openChannel(most, keccak256("almost all"), address(0));
        token.mint(funder, DEPOSIT + 2 * AMOUNT);

        Funding memory tooMuch = fundingBy(funder);
        tooMuch.amount = DEPOSIT + AMOUNT + 1;
        expectRefused(
            signedCall(FUNDER_KEY, tooMuch),
            abi.encodeWithSelector(IEscrowErrors.DepositOverflow.selector, most, tooMuch.amount)
        );
        tooMuch.amount -= 1;
        submit(signedCall(FUNDER_KEY, tooMuch));
        vm.assertEq(channelOf(channelId).deposit, type(uint128).max, "deposit");
    }

    function test_TopUpThatDoesNotArriveInFullIsRefused() public {
        InexactToken fair = InexactToken(deploy("InexactToken", abi.encode(int256(0))));
        InexactToken greedy = InexactToken(deploy("InexactToken", abi.encode(int256(-1))));
        useToken(fair);
        channelId = openChannel();
        prepare(payer);
        vm.etch(address(fair), address(greedy).code); // a token that starts to take a fee

        expectRefused(
            signedCall(PAYER_KEY, fundingBy(payer)),
            abi.encodeWithSelector(
                IEscrowErrors.DepositNotExact.selector,
                address(token),
                DEPOSIT + AMOUNT,
                DEPOSIT + AMOUNT - 1
            )
        );
    }
}
