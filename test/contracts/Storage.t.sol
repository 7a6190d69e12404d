// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {EscrowTest} from "./support/EscrowTest.sol";

/// The layout is what makes channels cheap, so it is held fast here.
contract StorageTest is EscrowTest {
    function setUp() public override {
        super.setUp();
        openChannel(1, keccak256("first use of this payee and token"), address(0));
    }

    function slotsWrittenOpening(address authorizedSigner) private returns (bytes32[] memory slots) {
        vm.record();
        openChannel(DEPOSIT, SALT, authorizedSigner);
        (, bytes32[] memory writes) = vm.accesses(address(escrow));
        return distinct(writes);
    }

    function test_OpenOnAKnownRouteWritesTwoSlots() public {
        bytes32[] memory slots = slotsWrittenOpening(address(0));
        vm.assertEq(slots.length, 2, "slots");

        bytes32 low = uint256(slots[0]) < uint256(slots[1]) ? slots[0] : slots[1];
        bytes32 high = low == slots[0] ? slots[1] : slots[0];
        vm.assertEq(uint256(high), uint256(low) + 1, "the two are neighbours");
        vm.assertEq(vm.load(address(escrow), low), packed(0, 0), "payer | closeRequestedAt | routeId | flags");
        vm.assertEq(uint256(vm.load(address(escrow), high)), DEPOSIT, "deposit | settled");

        bytes32 channelId = escrow.computeChannelId(payer, payee, address(token), SALT, address(0));
        requestClose(channelId);
        vm.assertEq(vm.load(address(escrow), low), packed(NOW, 0), "close requested");
        settle(channelId, 100);
        vm.assertEq(uint256(vm.load(address(escrow), high)), DEPOSIT | (uint256(100) << 128), "settled");
        close(channelId, 0);
        vm.assertEq(vm.load(address(escrow), low), packed(NOW, 1), "finalized");
    }

    function test_OpenWithADelegatedSignerWritesThreeSlots() public {
        vm.assertEq(slotsWrittenOpening(signer).length, 3, "slots");
    }

    function test_SettleWritesOneSlot() public {
        bytes32 channelId = openChannel();
        vm.record();
        settle(channelId, 100);
        (, bytes32[] memory writes) = vm.accesses(address(escrow));
        vm.assertEq(distinct(writes).length, 1, "slots");
    }

    /// @dev Slot 0 of a channel on the first route.
    function packed(uint256 closeRequestedAt, uint256 flags) private view returns (bytes32) {
        return bytes32(uint256(uint160(payer)) | (closeRequestedAt << 160) | (1 << 200) | (flags << 248));
    }

    /// @dev Slots in which something was stored, each once.
    function distinct(bytes32[] memory slots) private pure returns (bytes32[] memory found) {
        found = new bytes32[](slots.length);
        uint256 count = 0;
        for (uint256 i = 0; i < slots.length; i++) {
            bool known = false;
            for (uint256 j = 0; j < count; j++) known = known || found[j] == slots[i];
            if (!known) found[count++] = slots[i];
        }
        assembly ("memory-safe") {
            mstore(found, count)
        }
    }
}
