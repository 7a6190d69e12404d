// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {EscrowTest} from "./EscrowTest.sol";

/// @dev A payee with a key, and what it signs for its relayers: draft section "Payee-initiated functions".
abstract contract PayeeSigner is EscrowTest {
    /// @dev What the payee signs; the two functions' types differ only in the name.
    struct Authorization {
        bytes32 channelId;
        uint128 cumulativeAmount;
        uint256 nonce;
        uint256 deadline;
    }

    uint256 internal constant PAYEE_KEY = 0xBEEF;

    string internal constant SETTLE_TYPE =
        "SettleAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)";
    string internal constant CLOSE_TYPE =
        "CloseAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)";

    function setUp() public virtual override {
        super.setUp();
        payee = vm.addr(PAYEE_KEY);
    }

    function digestOf(
        bytes32 domain,
        string memory type_,
        Authorization memory authorization
    ) internal pure returns (bytes32) {
        bytes32 structHash = keccak256(abi.encode(keccak256(bytes(type_)), authorization));
        return keccak256(abi.encodePacked("\x19\x01", domain, structHash));
    }
}
