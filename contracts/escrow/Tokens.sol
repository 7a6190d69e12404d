// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {IERC3009Token} from "../IERC3009Token.sol";
import {IPaymentChannelEscrow} from "../IPaymentChannelEscrow.sol";
import {IPermit2} from "../IPermit2.sol";

/**
 * @title Tokens in and out
 * @dev The only code that talks to tokens. All channels of a token share one balance; what belongs to a channel is
 * `deposit - settled` while it is open, and nothing afterwards.
 */
abstract contract Tokens is IPaymentChannelEscrow {
    using SafeERC20 for IERC20;

    /**
     * @dev What a refund within a batch may cost. Many times what a transfer takes; it bounds what a token, or a payer
     * that is called by its token, can burn of the gas that the rest of the batch needs.
     */
    uint256 private constant REFUND_GAS_LIMIT = 300_000;

    /// @inheritdoc IPaymentChannelEscrow
    address public immutable PERMIT2;

    constructor(address permit2) {
        PERMIT2 = permit2;
    }

    /// @dev Takes a deposit out of an allowance.
    function _pull(address token, address from, uint128 amount) internal {
        uint256 balanceBefore = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransferFrom(from, address(this), amount);
        _requireArrived(token, balanceBefore, amount);
    }

    /// @dev Takes a deposit by EIP-3009. `receive`, not `transfer`: nobody but this contract can use the signature.
    function _pullWithAuthorization(
        address token,
        address from,
        uint128 amount,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) internal {
        uint256 balanceBefore = IERC20(token).balanceOf(address(this));
        IERC3009Token(token).receiveWithAuthorization(
            from,
            address(this),
            amount,
            validAfter,
            validBefore,
            nonce,
            signature
        );
        _requireArrived(token, balanceBefore, amount);
    }

    /// @dev Takes a deposit by Permit2, which lets nobody but this contract, the signed spender, use the signature.
    function _pullWithPermit2(
        IPermit2.PermitTransferFrom memory permit,
        address from,
        bytes32 witness,
        string memory witnessTypeString,
        bytes calldata signature
    ) internal {
        address token = permit.permitted.token;
        uint256 amount = permit.permitted.amount;
        uint256 balanceBefore = IERC20(token).balanceOf(address(this));
        IPermit2(PERMIT2).permitWitnessTransferFrom(
            permit,
            IPermit2.SignatureTransferDetails({to: address(this), requestedAmount: amount}),
            from,
            witness,
            witnessTypeString,
            signature
        );
        _requireArrived(token, balanceBefore, amount);
    }

    /// @dev Exactly, not at least: a token that moves anything else than what it was asked to has no place here.
    function _requireArrived(address token, uint256 balanceBefore, uint256 amount) private view {
        uint256 expected = balanceBefore + amount;
        uint256 actual = IERC20(token).balanceOf(address(this));
        require(actual == expected, DepositNotExact(token, expected, actual));
    }

    /// @dev Pays out; a payment of nothing does not trouble the token.
    function _pay(address token, address to, uint256 amount) internal {
        if (amount != 0) IERC20(token).safeTransfer(to, amount);
    }

    /**
     * @dev Pays out if the token lets it, within {REFUND_GAS_LIMIT}, and never reverts. It is at least as strict
     * as {SafeERC20}: success is a whole word of true, or nothing at all from an address with code. Of an answer only the first word is
     * taken, so a long one costs nothing.
     */
    function _tryPay(address token, address to, uint256 amount) internal returns (bool paid) {
        if (amount == 0) return true;
        bytes memory data = abi.encodeCall(IERC20.transfer, (to, amount));
        uint256 gasLimit = REFUND_GAS_LIMIT;
        assembly ("memory-safe") {
            paid := call(gasLimit, token, 0, add(data, 0x20), mload(data), 0x00, 0x20)
            if paid {
                switch returndatasize()
                case 0 {
                    paid := gt(extcodesize(token), 0)
                }
                default {
                    paid := and(gt(returndatasize(), 0x1f), eq(mload(0x00), 1))
                }
            }
        }
    }
}
