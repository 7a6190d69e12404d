// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {Channels} from "./Channels.sol";
import {Funds, Terms} from "./ChannelWords.sol";
import {Tokens} from "./Tokens.sol";
import {IPaymentChannelEscrow} from "../IPaymentChannelEscrow.sol";
import {IPermit2} from "../IPermit2.sol";
import {IRelayedProfile} from "../IRelayedProfile.sol";

/**
 * @title Opening channels and adding to them
 * @dev Each function is one way for the money to come: out of an allowance, by EIP-3009, by Permit2. What the payer
 * meant is bound into what it signed, by EIP-3009's nonce or by Permit2's witness, so that whoever submits it can change
 * nothing (draft section "Front-Running Protection").
 */
abstract contract Funding is Channels, Tokens, ReentrancyGuardTransient {
    string private constant TOKEN_PERMISSIONS_TYPE = "TokenPermissions(address token,uint256 amount)";
    string private constant OPEN_WITNESS_TYPE =
        "ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)";
    string private constant TOP_UP_WITNESS_TYPE = "ChannelTopUpWitness(bytes32 channelId)";

    /// @inheritdoc IPaymentChannelEscrow
    function open(
        address payee,
        address token,
        uint128 deposit,
        bytes32 salt,
        address authorizedSigner
    ) external nonReentrant returns (bytes32 channelId) {
        // Checks and effects
        channelId = _create(msg.sender, payee, token, deposit, salt, authorizedSigner);

        // Interactions
        _pull(token, msg.sender, deposit);
    }

    /// @inheritdoc IRelayedProfile
    function openWithAuthorization(
        address payee,
        address token,
        uint128 deposit,
        bytes32 salt,
        address authorizedSigner,
        address from,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external nonReentrant returns (bytes32 channelId) {
        // Checks: the payer signed only the nonce, so the nonce has to name the channel.
        _requireNonce(keccak256(abi.encode(from, payee, token, salt, authorizedSigner)), nonce);

        // Checks and effects
        channelId = _create(from, payee, token, deposit, salt, authorizedSigner);

        // Interactions
        _pullWithAuthorization(token, from, deposit, validAfter, validBefore, nonce, signature);
    }

    /// @inheritdoc IRelayedProfile
    function openWithPermit2(
        address payee,
        address token,
        uint128 deposit,
        bytes32 salt,
        address authorizedSigner,
        address from,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external nonReentrant returns (bytes32 channelId) {
        // Checks and effects
        channelId = _create(from, payee, token, deposit, salt, authorizedSigner);

        // Interactions
        _pullWithPermit2(
            _permit(token, deposit, nonce, deadline),
            from,
            keccak256(abi.encode(keccak256(bytes(OPEN_WITNESS_TYPE)), payee, salt, authorizedSigner)),
            string.concat("ChannelOpenWitness witness)", OPEN_WITNESS_TYPE, TOKEN_PERMISSIONS_TYPE),
            signature
        );
    }

    /// @inheritdoc IPaymentChannelEscrow
    function topUp(bytes32 channelId, uint128 additionalDeposit) external nonReentrant {
        // Checks
        (ChannelRecord storage channel, Terms terms) = _requireOpen(channelId);
        require(msg.sender == terms.payer(), NotPayer(channelId, msg.sender));

        // Checks and effects
        address token = _add(channelId, channel, terms, msg.sender, additionalDeposit);

        // Interactions
        _pull(token, msg.sender, additionalDeposit);
    }

    /// @inheritdoc IRelayedProfile
    function topUpWithAuthorization(
        bytes32 channelId,
        uint128 additionalDeposit,
        address from,
        bytes32 topUpSalt,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external nonReentrant {
        // Checks
        _requireNonce(keccak256(abi.encode(channelId, additionalDeposit, from, topUpSalt)), nonce);
        (ChannelRecord storage channel, Terms terms) = _requireOpen(channelId);

        // Checks and effects
        address token = _add(channelId, channel, terms, from, additionalDeposit);

        // Interactions
        _pullWithAuthorization(token, from, additionalDeposit, validAfter, validBefore, nonce, signature);
    }

    /// @inheritdoc IRelayedProfile
    function topUpWithPermit2(
        bytes32 channelId,
        uint128 additionalDeposit,
        address from,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external nonReentrant {
        // Checks
        (ChannelRecord storage channel, Terms terms) = _requireOpen(channelId);

        // Checks and effects
        address token = _add(channelId, channel, terms, from, additionalDeposit);

        // Interactions
        _pullWithPermit2(
            _permit(token, additionalDeposit, nonce, deadline),
            from,
            keccak256(abi.encode(keccak256(bytes(TOP_UP_WITNESS_TYPE)), channelId)),
            string.concat("ChannelTopUpWitness witness)", TOP_UP_WITNESS_TYPE, TOKEN_PERMISSIONS_TYPE),
            signature
        );
    }

    /// @dev Checks and effects of adding funds. They are recorded as if they had arrived: pull them next.
    function _add(
        bytes32 channelId,
        ChannelRecord storage channel,
        Terms terms,
        address funder,
        uint128 additionalDeposit
    ) private returns (address token) {
        // Checks
        require(additionalDeposit != 0, ZeroDeposit());
        Funds funds = channel.funds;
        require(additionalDeposit <= funds.room(), DepositOverflow(funds.deposit(), additionalDeposit));

        // Effects
        funds = funds.plusDeposit(additionalDeposit);
        channel.funds = funds;
        emit ToppedUp(channelId, funder, additionalDeposit, funds.deposit());
        // Only the payer's own funds cancel its request: otherwise a payee could hold the deposit for ever, with dust.
        if (terms.closeRequestedAt() != 0 && funder == terms.payer()) {
            channel.terms = terms.withCloseRequestedAt(0);
            emit CloseRequestCancelled(channelId, funder);
        }
        token = _routes[terms.routeId()].token;
    }

    function _requireNonce(bytes32 expected, bytes32 supplied) private pure {
        require(supplied == expected, NonceMismatch(expected, supplied));
    }

    function _permit(
        address token,
        uint256 amount,
        uint256 nonce,
        uint256 deadline
    ) private pure returns (IPermit2.PermitTransferFrom memory) {
        IPermit2.TokenPermissions memory permitted = IPermit2.TokenPermissions({token: token, amount: amount});
        return IPermit2.PermitTransferFrom({permitted: permitted, nonce: nonce, deadline: deadline});
    }
}
