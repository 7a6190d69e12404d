// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {IEscrowErrors} from "../../contracts/IEscrowErrors.sol";
import {IEscrowEvents} from "../../contracts/IEscrowEvents.sol";
import {InexactToken} from "../../contracts/test/InexactToken.sol";
import {EscrowTest} from "./support/EscrowTest.sol";

contract OpenWithAuthorizationTest is EscrowTest {
    uint256 private constant FOR_EVER = type(uint256).max;

    /// @dev What a front-runner sees in the mempool: the payer's signature for `payee` and `SALT`.
    bytes32 private nonce;
    bytes private signature;

    function setUp() public override {
        super.setUp();
        vm.prank(payer);
        token.approve(address(escrow), 0); // only the signature moves money here
        nonce = openNonce(payer, payee, SALT, signer);
        signature = signReceive(PAYER_KEY, DEPOSIT, FOR_EVER, nonce);
    }

    function submit(address payee_, uint128 deposit, bytes32 salt, address delegate) private returns (bytes32) {
        return submit(payee_, deposit, salt, delegate, payer, nonce);
    }

    function submit(
        address payee_,
        uint128 deposit,
        bytes32 salt,
        address delegate,
        address from,
        bytes32 nonce_
    ) private returns (bytes32) {
        vm.prank(stranger);
        return
            escrow.openWithAuthorization(
                payee_,
                address(token),
                deposit,
                salt,
                delegate,
                from,
                0,
                FOR_EVER,
                nonce_,
                signature
            );
    }

    function expectNonceMismatch(bytes32 expected) private {
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.NonceMismatch.selector, expected, nonce));
    }

    function test_AnyoneMayOpenForThePayerWhoSigned() public {
        bytes32 expectedId = escrow.computeChannelId(payer, payee, address(token), SALT, signer);
        vm.expectEmit(address(escrow));
        emit IEscrowEvents.ChannelOpened(expectedId, payer, payee, address(token), signer, SALT, DEPOSIT);

        bytes32 channelId = submit(payee, DEPOSIT, SALT, signer);

        vm.assertEq(channelId, expectedId, "id");
        vm.assertEq(channelOf(channelId).payer, payer, "the payer is who signed, not who submitted");
        vm.assertEq(channelOf(channelId).deposit, DEPOSIT, "deposit");
        vm.assertTrue(token.authorizationState(payer, nonce), "authorization used");
        assertBalances(DEPOSIT, 0, "after open");
    }

    function test_FrontRunningWithAnotherPayeeIsRefused() public {
        expectNonceMismatch(openNonce(payer, stranger, SALT, signer));
        submit(stranger, DEPOSIT, SALT, signer);
    }

    function test_FrontRunningWithAnotherSaltIsRefused() public {
        expectNonceMismatch(openNonce(payer, payee, keccak256("other"), signer));
        submit(payee, DEPOSIT, keccak256("other"), signer);
    }

    function test_FrontRunningWithAnotherSignerIsRefused() public {
        expectNonceMismatch(openNonce(payer, payee, SALT, stranger));
        submit(payee, DEPOSIT, SALT, stranger);
    }

    function test_FrontRunningInTheNameOfAnotherPayerIsRefused() public {
        expectNonceMismatch(openNonce(stranger, payee, SALT, signer));
        submit(payee, DEPOSIT, SALT, signer, stranger, nonce);
    }

    function test_FrontRunningWithAMatchingNonceFailsOnTheTokensSignature() public {
        bytes32 forged = openNonce(payer, stranger, SALT, signer);
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009InvalidSignature.selector));
        submit(stranger, DEPOSIT, SALT, signer, payer, forged);
    }

    function test_AnotherDepositThanTheOneSignedIsRefused() public {
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009InvalidSignature.selector));
        submit(payee, DEPOSIT + 1, SALT, signer);
    }

    function test_TheSignatureIsOfNoUseToAnyoneButTheEscrow() public {
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InvalidReceiver.selector, address(escrow)));
        vm.prank(stranger);
        token.receiveWithAuthorization(payer, address(escrow), DEPOSIT, 0, FOR_EVER, nonce, signature);
        // and is still good afterwards
        submit(payee, DEPOSIT, SALT, signer);
    }

    /// @dev A griefer may be first: what it opens is the channel the payer meant.
    function test_I4_AnAuthorizationOpensOnce() public {
        bytes32 channelId = submit(payee, DEPOSIT, SALT, signer);
        expectRevert(IEscrowErrors.ChannelAlreadyExists.selector, channelId);
        submit(payee, DEPOSIT, SALT, signer);
    }

    function test_AnExpiredAuthorizationIsRefusedByTheToken() public {
        signature = signReceive(PAYER_KEY, DEPOSIT, NOW, nonce);
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009InvalidAuthorizationTime.selector, 0, NOW));
        escrow.openWithAuthorization(payee, address(token), DEPOSIT, SALT, signer, payer, 0, NOW, nonce, signature);
    }

    function test_OpenInTheNameOfTheZeroAddressIsRefusedBeforeTheTokenIsAsked() public {
        bytes32 zeroNonce = openNonce(address(0), payee, SALT, signer);
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.InvalidPayer.selector, address(0)));
        submit(payee, DEPOSIT, SALT, signer, address(0), zeroNonce);
    }

    function test_AuthorizedDepositOfNothingIsRefused() public {
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.ZeroDeposit.selector));
        submit(payee, 0, SALT, signer);
    }

    function test_AuthorizedDepositThatDoesNotArriveInFullIsRefused() public {
        useToken(InexactToken(deploy("InexactToken", abi.encode(int256(-1)))));
        nonce = openNonce(payer, payee, SALT, signer);
        signature = signReceive(PAYER_KEY, DEPOSIT, FOR_EVER, nonce);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrowErrors.DepositNotExact.selector, address(token), DEPOSIT, DEPOSIT - 1)
        );
        submit(payee, DEPOSIT, SALT, signer);
    }
}
