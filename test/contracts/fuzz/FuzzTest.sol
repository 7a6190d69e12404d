// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {PayeeSigner} from "../support/PayeeSigner.sol";

/// @dev What the properties share: numbers forced into a range, and calls that may fail.
abstract contract FuzzTest is PayeeSigner {
    uint256 private constant SECP256K1_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    /// @dev A number from `min` to `max`. One from outside becomes each of the ends one time in eight: mistakes are there.
    function bound(uint256 value, uint256 min, uint256 max) internal pure returns (uint256) {
        if (value >= min && value <= max) return value;
        uint256 how = uint256(keccak256(abi.encode(value)));
        if (how % 8 == 0) return min;
        if (how % 8 == 1) return max;
        if (max - min == type(uint256).max) return how;
        return min + (how % (max - min + 1));
    }

    function bound128(uint256 value, uint256 min, uint256 max) internal pure returns (uint128) {
        return uint128(bound(value, min, max));
    }

    function toKey(uint256 seed) internal pure returns (uint256) {
        return bound(seed, 1, SECP256K1_N - 1);
    }

    function isKey(uint256 key) internal pure returns (bool) {
        return key > 0 && key < SECP256K1_N;
    }

    function flip(bytes memory data, uint256 bit) internal pure returns (bytes memory) {
        bit %= data.length * 8;
        data[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        return data;
    }

    function tryCall(address sender, bytes memory data) internal returns (bool ok, bytes memory answer) {
        vm.prank(sender);
        return address(escrow).call(data);
    }

    function assertRefused(address sender, bytes memory data, bytes memory reason, string memory what) internal {
        vm.assertEq(revertOf(sender, data), reason, what);
    }
}
