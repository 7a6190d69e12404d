// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {IEscrowErrors} from "../../contracts/IEscrowErrors.sol";
import {IEscrowEvents} from "../../contracts/IEscrowEvents.sol";
import {IPaymentChannelEscrow} from "../../contracts/IPaymentChannelEscrow.sol";
import {InexactToken} from "../../contracts/test/InexactToken.sol";
import {EscrowTest} from "./support/EscrowTest.sol";

contract OpenTest is EscrowTest {
    function test_OpenRecordsTheChannelAndTakesTheDeposit() public {
        bytes32 expectedId = keccak256(abi.encode(payer, payee, address(token), SALT, signer, address(escrow), chain));

        bytes32 channelId = openChannel(DEPOSIT, SALT, signer);

        vm.assertEq(channelId, expectedId, "id");
        vm.assertEq(escrow.computeChannelId(payer, payee, address(token), SALT, signer), expectedId, "computed id");
        IPaymentChannelEscrow.Channel memory channel = channelOf(channelId);
        vm.assertEq(channel.payer, payer, "payer");
        vm.assertEq(channel.payee, payee, "payee");
        vm.assertEq(channel.token, address(token), "token");
        vm.assertEq(channel.authorizedSigner, signer, "authorizedSigner");
        vm.assertEq(channel.deposit, DEPOSIT, "deposit");
        vm.assertEq(channel.settled, 0, "settled");
        vm.assertEq(channel.closeRequestedAt, 0, "closeRequestedAt");
        vm.assertFalse(channel.finalized, "finalized");
        assertBalances(DEPOSIT, 0, "after open");
    }

    function test_OpenAnnouncesEverythingAWatcherNeeds() public {
        bytes32 channelId = escrow.computeChannelId(payer, payee, address(token), SALT, signer);
        vm.expectEmit(address(escrow));
        emit IEscrowEvents.ChannelOpened(channelId, payer, payee, address(token), signer, SALT, DEPOSIT);
        openChannel(DEPOSIT, SALT, signer);
    }

    function test_OpenWithoutASignerAndWithThePayerAsSignerAreTwoChannels() public {
        bytes32 unnamed = openChannel(DEPOSIT, SALT, address(0));
        bytes32 named = openChannel(DEPOSIT, SALT, payer);

        vm.assertTrue(unnamed != named, "ids differ");
        vm.assertEq(channelOf(unnamed).authorizedSigner, address(0), "as given: nobody");
        vm.assertEq(channelOf(named).authorizedSigner, payer, "as given: the payer");
        settle(unnamed, 1);
        settle(named, 1);
    }

    function test_OpenTakesTheLargestDeposit() public {
        bytes32 channelId = openChannel(type(uint128).max, SALT, address(0));
        vm.assertEq(channelOf(channelId).deposit, type(uint128).max, "deposit");
    }

    function test_OpenWithUsedParametersIsRefused() public {
        bytes32 channelId = openChannel();
        expectRevert(IEscrowErrors.ChannelAlreadyExists.selector, channelId);
        openChannel();
    }

    function test_I12_OpenAfterCloseIsRefusedSoOldVouchersStayDead() public {
        bytes32 channelId = openChannel();
        close(channelId, 10);
        expectRevert(IEscrowErrors.ChannelAlreadyExists.selector, channelId);
        openChannel();
    }

    function test_I12_OpenAfterWithdrawIsRefusedSoOldVouchersStayDead() public {
        bytes32 channelId = openChannel();
        requestClose(channelId);
        vm.warp(NOW + GRACE);
        withdraw(channelId);
        expectRevert(IEscrowErrors.ChannelAlreadyExists.selector, channelId);
        openChannel();
    }

    function test_OpenOfNothingIsRefused() public {
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.ZeroDeposit.selector));
        openChannel(0, SALT, address(0));
    }

    function test_OpenForNobodyIsRefused() public {
        payee = address(0);
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.InvalidPayee.selector, address(0)));
        openChannel();
    }

    function test_OpenInATokenThatIsNoContractIsRefused() public {
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.InvalidToken.selector, stranger));
        vm.prank(payer);
        escrow.open(payee, stranger, DEPOSIT, SALT, address(0));
    }

    function test_OpenWithoutAllowanceIsRefusedAndLeavesNoChannel() public {
        vm.prank(payer);
        token.approve(address(escrow), DEPOSIT - 1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IERC20Errors.ERC20InsufficientAllowance.selector,
                address(escrow),
                DEPOSIT - 1,
                DEPOSIT
            )
        );
        openChannel();

        bytes32 channelId = escrow.computeChannelId(payer, payee, address(token), SALT, address(0));
        vm.assertEq(channelOf(channelId).payer, address(0), "no channel");
    }

    function test_OpenWithATokenThatTakesAFeeIsRefused() public {
        expectInexactOpenRefused(-1);
    }

    function test_OpenWithATokenThatDeliversMoreIsRefused() public {
        expectInexactOpenRefused(1);
    }

    function expectInexactOpenRefused(int256 skew) private {
        useToken(InexactToken(deploy("InexactToken", abi.encode(int256(skew)))));
        token.mint(address(escrow), 100); // others' money, which must not count as this deposit
        vm.expectRevert(
            abi.encodeWithSelector(
                IEscrowErrors.DepositNotExact.selector,
                address(token),
                100 + DEPOSIT,
                uint256(int256(uint256(100 + DEPOSIT)) + skew)
            )
        );
        openChannel();
    }

    function test_ConstructorRefusesAGracePeriodUnderTenMinutes() public {
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.GracePeriodTooShort.selector, 10 minutes - 1, 10 minutes));
        deployEscrow(10 minutes - 1);

        vm.assertEq(deployEscrow(10 minutes).CLOSE_GRACE_PERIOD(), 10 minutes, "ten is enough");
    }

    function test_ConstantsAreWhatTheConstructorWasGiven() public view {
        vm.assertEq(escrow.CLOSE_GRACE_PERIOD(), GRACE, "grace");
        vm.assertEq(escrow.PERMIT2(), PERMIT2, "permit2");
    }

    function test_AnUnknownChannelReadsAsAllZeros() public view {
        vm.assertEq(
            keccak256(abi.encode(channelOf(keccak256("unknown")))),
            keccak256(new bytes(8 * 32)),
            "eight zero words"
        );
    }

    function test_ChannelIdsAreOfTheChainTheyAreOn() public {
        bytes32 here = openChannel();
        goToChain(31338);
        bytes32 there = openChannel();
        vm.assertTrue(here != there, "another chain, another channel");
    }
}
