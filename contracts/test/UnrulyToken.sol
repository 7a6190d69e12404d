// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {TestUSDC} from "./TestUSDC.sol";

/// @notice A token whose transfers go wrong, in a way that is chosen for each receiver.
contract UnrulyToken is TestUSDC {
    enum Manner {
        Proper,
        ReturnsNothing, // as USDT does; all the rest is proper
        ReturnsFalse,
        ReturnsTwo,
        ReturnsOneByte,
        ReturnsThirtyOneZeros,
        Reverts,
        BurnsAllGas,
        ReturnsTooMuch,
        RevertsWithTooMuch,
        ReturnsTrueAndMovesNothing,
        MovesAndReturnsFalse,
        MovesAndReturnsTwo
    }

    error Unruly(address receiver);

    /// @dev About as much, in bytes, as can be returned for the gas of a refund within a batch.
    uint256 private constant TOO_MUCH = 350_000;

    mapping(address receiver => Manner) private _manners;

    function setManner(address receiver, Manner manner) external {
        _manners[receiver] = manner;
    }

    function transfer(address to, uint256 value) public override returns (bool) {
        if (_moves(to)) super.transfer(to, value);
        return _answer(to);
    }

    function transferFrom(address from, address to, uint256 value) public override returns (bool) {
        if (_moves(to)) super.transferFrom(from, to, value);
        return _answer(to);
    }

    function _moves(address receiver) private view returns (bool) {
        Manner manner = _manners[receiver];
        return manner <= Manner.ReturnsNothing || manner >= Manner.MovesAndReturnsFalse;
    }

    function _answer(address receiver) private view returns (bool) {
        Manner manner = _manners[receiver];
        if (manner == Manner.Proper || manner == Manner.ReturnsTrueAndMovesNothing) return true;
        if (manner == Manner.Reverts) revert Unruly(receiver);
        if (manner == Manner.ReturnsNothing) _return(0, 0);
        if (manner == Manner.ReturnsTwo || manner == Manner.MovesAndReturnsTwo) _return(32, 2);
        if (manner == Manner.ReturnsOneByte) _return(1, type(uint256).max);
        if (manner == Manner.ReturnsThirtyOneZeros) _return(31, 0);
        if (manner == Manner.ReturnsTooMuch) _return(TOO_MUCH, 0);
        if (manner == Manner.BurnsAllGas) {
            assembly ("memory-safe") {
                invalid()
            }
        }
        if (manner == Manner.RevertsWithTooMuch) {
            assembly ("memory-safe") {
                revert(0, TOO_MUCH)
            }
        }
        return false;
    }

    function _return(uint256 length, uint256 word) private pure {
        assembly ("memory-safe") {
            mstore(0, word)
            return(0, length)
        }
    }
}
