// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IPaymentChannelEscrow} from "../../contracts/IPaymentChannelEscrow.sol";
import {IRelayedProfile} from "../../contracts/IRelayedProfile.sol";
import {ReentrantToken} from "../../contracts/test/ReentrantToken.sol";
import {EscrowTest} from "./support/EscrowTest.sol";

/// A token that calls back in the middle of a transfer gets nowhere, whichever way in it tries.
contract ReentrancyTest is EscrowTest {
    ReentrantToken private hostile;
    bytes32 private channelId;

    function setUp() public override {
        super.setUp();
        hostile = ReentrantToken(deploy("ReentrantToken", ""));
        useToken(hostile);
        channelId = openChannel();
    }

    /// @dev All functions that change state, as the hostile token would call them.
    function waysIn() private view returns (bytes[] memory calls) {
        calls = new bytes[](7);
        address money = address(token);
        calls[0] = abi.encodeCall(IPaymentChannelEscrow.open, (payee, money, 1, SALT, address(0)));
        calls[1] = abi.encodeCall(
            IRelayedProfile.openWithAuthorization,
            (payee, money, 1, SALT, address(0), payer, 0, 1, bytes32(0), NO_SIGNATURE)
        );
        calls[2] = abi.encodeCall(IPaymentChannelEscrow.topUp, (channelId, 1));
        calls[3] = abi.encodeCall(IPaymentChannelEscrow.settle, (channelId, 1, NO_SIGNATURE));
        calls[4] = abi.encodeCall(IPaymentChannelEscrow.close, (channelId, 0, NO_SIGNATURE));
        calls[5] = abi.encodeCall(IPaymentChannelEscrow.requestClose, (channelId));
        calls[6] = abi.encodeCall(IPaymentChannelEscrow.withdraw, (channelId));
    }

    function armed(bytes memory call) private {
        hostile.arm(address(escrow), call);
        vm.expectRevert(abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector));
    }

    function test_NothingCanBeReenteredFromAPayout() public {
        bytes[] memory calls = waysIn();
        for (uint256 i = 0; i < calls.length; i++) {
            bytes memory signature = signVoucher(PAYER_KEY, channelId, 100);
            armed(calls[i]);
            vm.prank(payee);
            escrow.settle(channelId, 100, signature);
        }
    }

    function test_NothingCanBeReenteredFromADeposit() public {
        bytes[] memory calls = waysIn();
        for (uint256 i = 0; i < calls.length; i++) {
            armed(calls[i]);
            topUp(channelId, 1);
        }
    }

    function test_TheGuardIsReleasedAfterEachCall() public {
        settle(channelId, 100);
        settle(channelId, 200);
        topUp(channelId, 1);
        requestClose(channelId);
        requestClose(channelId);
        close(channelId, 300);
        assertBalances(0, 300, "after close");
    }
}
