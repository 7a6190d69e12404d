// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @notice A contract account for which one key signs. Its signatures are the key's, with one byte in front.
contract ERC1271Wallet is IERC1271 {
    address private immutable OWNER;

    constructor(address owner) {
        OWNER = owner;
    }

    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        if (signature.length == 0) return 0xffffffff;
        (address recovered, , ) = ECDSA.tryRecoverCalldata(hash, signature[1:]);
        return recovered == OWNER ? IERC1271.isValidSignature.selector : bytes4(0xffffffff);
    }
}
