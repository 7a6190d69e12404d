// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {IBatchSettlement} from "../../../contracts/IBatchSettlement.sol";
import {IEscrowErrors} from "../../../contracts/IEscrowErrors.sol";
import {IEscrowEvents} from "../../../contracts/IEscrowEvents.sol";
import {IPaymentChannelEscrow} from "../../../contracts/IPaymentChannelEscrow.sol";
import {TestUSDC} from "../../../contracts/test/TestUSDC.sol";
import {BatchTest} from "./BatchTest.sol";
import {Vm} from "./Vm.sol";

/// @dev What holds for the rows of both batches. The contracts that inherit from this say which batch it is.
abstract contract BatchRowsTest is BatchTest {
    uint128 internal constant AMOUNT = 100;
    uint256 private constant SECP256K1_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    bytes32 internal first;
    bytes32 internal last;
    uint256 private goodChannels;

    function setUp() public virtual override {
        super.setUp();
        first = openNumber(1001);
        last = openNumber(1002);
    }

    /// @dev Sends the batch as the payee.
    function send(IBatchSettlement.SignedVoucher[] memory vouchers) internal virtual returns (uint256 done);

    /// @dev The call that does for one row what the batch does for many.
    function singleCall(IBatchSettlement.SignedVoucher memory voucher) internal pure virtual returns (bytes memory);

    // Steps

    function expectGood(IBatchSettlement.SignedVoucher memory voucher) internal {
        uint256 before = token.balanceOf(payee);
        vm.assertEq(send(rows(voucher)), 1, "rows done");
        vm.assertEq(token.balanceOf(payee), before + voucher.cumulativeAmount, "payee");
    }

    function openGood() private returns (bytes32) {
        return openNumber(2000 + goodChannels++);
    }

    /// @dev Between two good rows, and with the very reason that the single call would have reverted with.
    function expectBad(IBatchSettlement.SignedVoucher memory bad, bytes memory reason) internal {
        vm.assertEq(revertOf(payee, singleCall(bad)), reason, "what the single call says");
        IPaymentChannelEscrow.Channel memory before = channelOf(bad.channelId);
        uint256 paid = token.balanceOf(payee);

        IBatchSettlement.SignedVoucher[] memory batch = rows(row(openGood(), AMOUNT), bad, row(openGood(), AMOUNT));
        expectSkipped(bad.channelId, before.payer, reason);
        vm.assertEq(send(batch), 2, "rows done");

        vm.assertEq(count(lastLogs(), IEscrowEvents.SettlementSkipped.selector), 1, "rows skipped");
        vm.assertEq(token.balanceOf(payee), paid + 2 * AMOUNT, "the others are paid");
        vm.assertEq(
            keccak256(abi.encode(channelOf(bad.channelId))),
            keccak256(abi.encode(before)),
            "the channel is as it was"
        );
    }

    function expectBadSignature(IBatchSettlement.SignedVoucher memory bad, address expectedSigner) internal {
        expectBad(bad, abi.encodeWithSelector(IEscrowErrors.InvalidSignature.selector, bad.channelId, expectedSigner));
    }

    // Rows that are skipped

    function test_ARowOfAnUnknownChannelIsSkipped() public {
        expectBad(row(SALT, AMOUNT), abi.encodeWithSelector(IEscrowErrors.ChannelNotFound.selector, SALT));
    }

    /// @dev An unknown channel has route 0, whose payee is the zero address.
    function test_ARowOfAnUnknownChannelIsSkippedForTheZeroAddressToo() public {
        payee = address(0);
        IBatchSettlement.SignedVoucher[] memory batch = rows(row(SALT, AMOUNT), unsigned(SALT, 0));
        expectSkipped(SALT, address(0), abi.encodeWithSelector(IEscrowErrors.ChannelNotFound.selector, SALT));
        vm.assertEq(send(batch), 0, "rows done");
    }

    function test_I12_ARowOfAFinalizedChannelIsSkipped() public {
        bytes32 channelId = openChannel();
        close(channelId, 10);
        expectBad(row(channelId, AMOUNT), abi.encodeWithSelector(IEscrowErrors.ChannelFinalized.selector, channelId));
    }

    function test_I12_ARowOfAWithdrawnChannelIsSkipped() public {
        bytes32 channelId = openChannel();
        requestClose(channelId);
        vm.warp(NOW + GRACE);
        withdraw(channelId);
        expectBad(row(channelId, AMOUNT), abi.encodeWithSelector(IEscrowErrors.ChannelFinalized.selector, channelId));
    }

    function test_ARowOfAnotherPayeesChannelIsSkipped() public {
        address ours = payee;
        payee = stranger;
        bytes32 channelId = openChannel();
        payee = ours;
        expectBad(row(channelId, AMOUNT), abi.encodeWithSelector(IEscrowErrors.NotPayee.selector, channelId, ours));
        expectBadForfeitOfAnotherPayee(channelId);
    }

    function expectBadForfeitOfAnotherPayee(bytes32 channelId) private {
        bytes memory reason = abi.encodeWithSelector(IEscrowErrors.NotPayee.selector, channelId, payee);
        IBatchSettlement.SignedVoucher[] memory batch = rows(unsigned(channelId, 0));
        expectSkipped(channelId, payer, reason);
        vm.assertEq(send(batch), 0, "rows done");
        vm.assertFalse(channelOf(channelId).finalized, "still open");
    }

    function test_I1_ARowAboveTheDepositIsSkipped() public {
        bytes32 channelId = openChannel();
        expectBad(
            row(channelId, DEPOSIT + 1),
            abi.encodeWithSelector(IEscrowErrors.AmountExceedsDeposit.selector, channelId, DEPOSIT + 1, DEPOSIT)
        );
    }

    function test_ARowSignedByAStrangerIsSkipped() public {
        bytes32 channelId = openChannel();
        expectBadSignature(row(STRANGER_KEY, channelId, AMOUNT), payer);
    }

    function test_ARowSignedForAnotherAmountOrChannelIsSkipped() public {
        bytes32 channelId = openChannel();
        IBatchSettlement.SignedVoucher memory bad = row(channelId, AMOUNT);
        bad.cumulativeAmount += 1;
        expectBadSignature(bad, payer);
    }

    function test_ARowWithoutSignatureRecoversToNobodyAndIsSkipped() public {
        expectBadSignature(unsigned(openChannel(), AMOUNT), payer);
    }

    function test_ARowWithTheOtherVBitIsSkipped() public {
        IBatchSettlement.SignedVoucher memory bad = row(openChannel(), AMOUNT);
        bad.vs ^= bytes32(uint256(1) << 255);
        expectBadSignature(bad, payer);
    }

    function test_ARowWithHighSIsSkipped() public {
        bytes32 channelId = openChannel();
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER_KEY, voucherDigest(channelId, AMOUNT));
        bytes32 twin = bytes32(SECP256K1_N - uint256(s)); // its highest bit is where v belongs
        expectBadSignature(packed(channelId, AMOUNT, 55 - v, r, twin), payer);
        // the smallest high s that fits beside the v bit
        bytes32 smallest = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A1;
        expectBadSignature(packed(channelId, AMOUNT, v, r, smallest), payer);
    }

    function test_ARowOfAContractSignerIsSkippedWithoutAskingIt() public {
        address wallet = deploy("ERC1271Wallet", abi.encode(signer));
        bytes32 channelId = openChannel(DEPOSIT, SALT, wallet);
        expectBadSignature(row(SIGNER_KEY, channelId, AMOUNT), wallet);

        bytes32 credulous = openChannel(DEPOSIT, SALT, deploy("CredulousWallet", ""));
        vm.expectCall(channelOf(credulous).authorizedSigner, abi.encodePacked(IERC1271.isValidSignature.selector), 0);
        vm.assertEq(send(rows(row(credulous, AMOUNT))), 0, "rows done");
    }

    function test_RowsFollowTheLiveChainId() public {
        IBatchSettlement.SignedVoucher memory before = row(first, AMOUNT);
        goToChain(31338);
        vm.assertEq(send(rows(before)), 0, "signed for the chain before the fork");
        vm.assertEq(send(rows(row(first, AMOUNT))), 1, "signed for this one");
    }

    // Rows that are good

    function test_ARowIsGoodWithEitherVBit() public {
        bool[2] memory seen;
        for (uint256 i = 0; !seen[0] || !seen[1]; i++) {
            vm.assertTrue(i < 64, "both within a few tries");
            IBatchSettlement.SignedVoucher memory voucher = row(openNumber(i), AMOUNT);
            seen[uint256(voucher.vs) >> 255] = true;
            expectGood(voucher);
        }
    }

    function test_ARowOfADelegatedSignerIsGoodAndThePayersOwnIsNot() public {
        bytes32 channelId = openChannel(DEPOSIT, SALT, signer);
        expectBadSignature(row(PAYER_KEY, channelId, AMOUNT), signer);
        expectGood(row(SIGNER_KEY, channelId, AMOUNT));
    }

    function test_ARowOfASignerWithEIP7702CodeIsGood() public {
        delegateCode(payer, deploy("ERC1271Wallet", abi.encode(stranger)));
        expectGood(row(first, AMOUNT));
    }

    function test_ARowIsGoodWhileACloseIsPending() public {
        requestClose(first);
        vm.warp(NOW + 10 * GRACE);
        expectGood(row(first, AMOUNT));
    }

    function test_ARowForTheWholeDepositIsGood() public {
        expectGood(row(first, DEPOSIT));
    }

    // Batches

    function test_AnEmptyBatchDoesNothing() public {
        vm.assertEq(send(new IBatchSettlement.SignedVoucher[](0)), 0, "rows done");
        vm.assertEq(lastLogs().length, 0, "events");
    }

    function test_ABatchOfNothingButBadRowsPaysNothing() public {
        IBatchSettlement.SignedVoucher[] memory batch = rows(row(SALT, 1), unsigned(first, 1), row(last, DEPOSIT + 1));
        expectOneTransfer(token, payee, 0);
        vm.assertEq(send(batch), 0, "rows done");
    }

    function test_ABatchPaysEachTokenOnceHoweverTheRowsAreMixed() public {
        TestUSDC[3] memory tokens = [token, anotherToken(), anotherToken()];
        IBatchSettlement.SignedVoucher[] memory batch = new IBatchSettlement.SignedVoucher[](9);
        for (uint256 i = 0; i < 9; i++) batch[i] = row(openIn(tokens[i % 3], i), uint128(1) << uint128(i));
        expectOneTransfer(tokens[0], payee, 1 + 8 + 64);
        expectOneTransfer(tokens[1], payee, 2 + 16 + 128);
        expectOneTransfer(tokens[2], payee, 4 + 32 + 256);
        vm.assertEq(send(batch), 9, "rows done");
    }

    function test_BadRowsOfOtherTokensAndPayeesBetweenGoodOnesMixNothingUp() public {
        TestUSDC other = anotherToken();
        bytes32 ofOtherToken = openIn(other, 1);
        address ours = payee;
        payee = stranger;
        bytes32 ofOtherPayee = openIn(other, 2);
        payee = ours;

        IBatchSettlement.SignedVoucher[] memory batch = new IBatchSettlement.SignedVoucher[](6);
        batch[0] = unsigned(ofOtherToken, 7);
        batch[1] = row(first, AMOUNT);
        batch[2] = row(ofOtherPayee, 7);
        batch[3] = row(last, AMOUNT);
        batch[4] = unsigned(ofOtherToken, 9);
        batch[5] = row(openGood(), AMOUNT);
        expectOneTransfer(token, payee, 3 * AMOUNT);
        expectOneTransfer(other, payee, 0);
        expectOneTransfer(other, stranger, 0);
        vm.assertEq(send(batch), 3, "rows done");
        vm.assertEq(other.balanceOf(address(escrow)), 2 * DEPOSIT, "the other token is all there");
    }

    /// @dev Whoever sends a batch is named in it: a watcher can tell a stranger's batch from its payee's.
    function test_AStrangersBatchTouchesNothingAndSaysWhoseItWas() public {
        IBatchSettlement.SignedVoucher[] memory batch = rows(row(first, AMOUNT));
        payee = stranger;
        expectSkipped(first, payer, abi.encodeWithSelector(IEscrowErrors.NotPayee.selector, first, stranger));
        vm.assertEq(send(batch), 0, "rows done");
        vm.assertEq(channelOf(first).settled, 0, "settled");
    }
}
