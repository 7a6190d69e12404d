// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchSettlement} from "../../contracts/IBatchSettlement.sol";
import {IEscrowErrors} from "../../contracts/IEscrowErrors.sol";
import {IPaymentChannelEscrow} from "../../contracts/IPaymentChannelEscrow.sol";
import {IRelayedProfile} from "../../contracts/IRelayedProfile.sol";
import {Permit2Test} from "./support/Permit2Test.sol";

/// The contract's face is the draft's, whose signatures are written out here as they stand there.
contract AbiTest is Permit2Test {
    string private constant OPEN = "open(address,address,uint128,bytes32,address)";
    string private constant OPEN_WITH_AUTHORIZATION =
        "openWithAuthorization(address,address,uint128,bytes32,address,address,uint256,uint256,bytes32,bytes)";
    string private constant OPEN_WITH_PERMIT2 =
        "openWithPermit2(address,address,uint128,bytes32,address,address,uint256,uint256,bytes)";
    string private constant SETTLE = "settle(bytes32,uint128,bytes)";
    string private constant TOP_UP = "topUp(bytes32,uint128)";
    string private constant TOP_UP_WITH_AUTHORIZATION =
        "topUpWithAuthorization(bytes32,uint128,address,bytes32,uint256,uint256,bytes32,bytes)";
    string private constant TOP_UP_WITH_PERMIT2 = "topUpWithPermit2(bytes32,uint128,address,uint256,uint256,bytes)";
    string private constant CLOSE = "close(bytes32,uint128,bytes)";
    string private constant REQUEST_CLOSE = "requestClose(bytes32)";
    string private constant WITHDRAW = "withdraw(bytes32)";
    string private constant SETTLE_WITH_AUTHORIZATION =
        "settleWithAuthorization(bytes32,uint128,uint256,uint256,bytes,bytes)";
    string private constant CLOSE_WITH_AUTHORIZATION =
        "closeWithAuthorization(bytes32,uint128,uint256,uint256,bytes,bytes)";

    function selector(string memory signature) private pure returns (bytes4) {
        return bytes4(keccak256(bytes(signature)));
    }

    function assertSelector(bytes4 actual, string memory signature) private pure {
        vm.assertEq(bytes32(actual), bytes32(selector(signature)), signature);
    }

    function test_TheCoreFunctionsAreTheDrafts() public pure {
        assertSelector(IPaymentChannelEscrow.open.selector, OPEN);
        assertSelector(IPaymentChannelEscrow.settle.selector, SETTLE);
        assertSelector(IPaymentChannelEscrow.topUp.selector, TOP_UP);
        assertSelector(IPaymentChannelEscrow.close.selector, CLOSE);
        assertSelector(IPaymentChannelEscrow.requestClose.selector, REQUEST_CLOSE);
        assertSelector(IPaymentChannelEscrow.withdraw.selector, WITHDRAW);
    }

    function test_TheRelayedFunctionsAreTheDrafts() public pure {
        assertSelector(IRelayedProfile.openWithAuthorization.selector, OPEN_WITH_AUTHORIZATION);
        assertSelector(IRelayedProfile.openWithPermit2.selector, OPEN_WITH_PERMIT2);
        assertSelector(IRelayedProfile.topUpWithAuthorization.selector, TOP_UP_WITH_AUTHORIZATION);
        assertSelector(IRelayedProfile.topUpWithPermit2.selector, TOP_UP_WITH_PERMIT2);
        assertSelector(IRelayedProfile.settleWithAuthorization.selector, SETTLE_WITH_AUTHORIZATION);
        assertSelector(IRelayedProfile.closeWithAuthorization.selector, CLOSE_WITH_AUTHORIZATION);
    }

    function test_TheBatchesTakeARowOfFourStaticWords() public pure {
        assertSelector(IBatchSettlement.settleMany.selector, "settleMany((bytes32,uint128,bytes32,bytes32)[])");
        assertSelector(IBatchSettlement.closeMany.selector, "closeMany((bytes32,uint128,bytes32,bytes32)[])");
    }

    /// @dev Each answers nothing but zeros with an error of its own: it is there, and it decodes these arguments.
    function test_TheContractHasEveryFunctionOfTheDraft() public {
        bytes memory zeros = new bytes(11 * 32);
        bytes memory notFound = abi.encodeWithSelector(IEscrowErrors.ChannelNotFound.selector, bytes32(0));
        string[9] memory ofAChannel = [
            SETTLE,
            TOP_UP,
            TOP_UP_WITH_PERMIT2,
            CLOSE,
            REQUEST_CLOSE,
            WITHDRAW,
            SETTLE_WITH_AUTHORIZATION,
            CLOSE_WITH_AUTHORIZATION,
            TOP_UP_WITH_AUTHORIZATION
        ];
        for (uint256 i = 0; i < 8; i++) assertAnswer(ofAChannel[i], zeros, notFound);

        bytes32 nonce = keccak256(new bytes(4 * 32));
        assertAnswer(ofAChannel[8], zeros, abi.encodeWithSelector(IEscrowErrors.NonceMismatch.selector, nonce, 0));
        nonce = keccak256(new bytes(5 * 32));
        assertAnswer(
            OPEN_WITH_AUTHORIZATION,
            zeros,
            abi.encodeWithSelector(IEscrowErrors.NonceMismatch.selector, nonce, 0)
        );
        bytes memory nobody = abi.encodeWithSelector(IEscrowErrors.InvalidPayer.selector, 0);
        assertAnswer(OPEN_WITH_PERMIT2, zeros, nobody);
        assertAnswer(OPEN, zeros, abi.encodeWithSelector(IEscrowErrors.InvalidPayee.selector, 0));
    }

    function assertAnswer(string memory signature, bytes memory arguments, bytes memory answer) private {
        vm.assertEq(revertOf(stranger, abi.encodePacked(selector(signature), arguments)), answer, signature);
    }

    function test_TheErrorsHaveTheNamesTheDraftSuggests() public pure {
        assertSelector(IEscrowErrors.ChannelAlreadyExists.selector, "ChannelAlreadyExists(bytes32)");
        assertSelector(IEscrowErrors.ChannelNotFound.selector, "ChannelNotFound(bytes32)");
        assertSelector(IEscrowErrors.ChannelFinalized.selector, "ChannelFinalized(bytes32)");
        assertSelector(IEscrowErrors.NotPayee.selector, "NotPayee(bytes32,address)");
        assertSelector(IEscrowErrors.NotPayer.selector, "NotPayer(bytes32,address)");
        assertSelector(IEscrowErrors.AmountNotIncreasing.selector, "AmountNotIncreasing(bytes32,uint128,uint128)");
        assertSelector(IEscrowErrors.AmountExceedsDeposit.selector, "AmountExceedsDeposit(bytes32,uint128,uint128)");
        assertSelector(IEscrowErrors.InvalidSignature.selector, "InvalidSignature(bytes32,address)");
        assertSelector(IEscrowErrors.NonceMismatch.selector, "NonceMismatch(bytes32,bytes32)");
        assertSelector(IEscrowErrors.NonceAlreadyUsed.selector, "NonceAlreadyUsed(bytes32,uint256)");
        assertSelector(IEscrowErrors.AuthorizationExpired.selector, "AuthorizationExpired(uint256)");
        assertSelector(IEscrowErrors.CloseNotReady.selector, "CloseNotReady(bytes32,uint256)");
        assertSelector(IEscrowErrors.ZeroDeposit.selector, "ZeroDeposit()");
        assertSelector(IEscrowErrors.DepositOverflow.selector, "DepositOverflow(uint128,uint128)");
    }

    function test_ProfileFunctionsAreAllSixWherePermit2Is() public view {
        bytes4[] memory found = escrow.profileFunctions();
        vm.assertEq(found.length, 6, "how many");
        assertWithoutPermit2(found);
        assertSelector(found[4], OPEN_WITH_PERMIT2);
        assertSelector(found[5], TOP_UP_WITH_PERMIT2);
    }

    function test_ProfileFunctionsAreFourWherePermit2IsNot() public {
        vm.etch(PERMIT2, "");
        bytes4[] memory found = escrow.profileFunctions();
        vm.assertEq(found.length, 4, "how many");
        assertWithoutPermit2(found);
    }

    function assertWithoutPermit2(bytes4[] memory found) private pure {
        assertSelector(found[0], OPEN_WITH_AUTHORIZATION);
        assertSelector(found[1], TOP_UP_WITH_AUTHORIZATION);
        assertSelector(found[2], SETTLE_WITH_AUTHORIZATION);
        assertSelector(found[3], CLOSE_WITH_AUTHORIZATION);
    }

    function test_TheEscrowTakesNoEtherAndAnswersNothingItDoesNotKnow() public {
        vm.assertEq(revertOf(stranger, ""), "", "no receive");
        vm.assertEq(revertOf(stranger, hex"01020304"), "", "no fallback");
    }
}
