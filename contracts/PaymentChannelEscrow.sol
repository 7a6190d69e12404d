// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IERC3009Token} from "./IERC3009Token.sol";
import {IPaymentChannelEscrow} from "./IPaymentChannelEscrow.sol";

/**
 * @title Escrow for unidirectional payment channels
 * @dev See {IPaymentChannelEscrow} for what it does. No owner, no proxy, no pause, no upgrade.
 *
 * Every function that changes state is guarded against reentrancy, and each goes through checks, effects and
 * interactions in that order. All tokens lie in one balance; what belongs to a channel is `deposit - settled` while it
 * is open, and nothing afterwards.
 */
contract PaymentChannelEscrow is IPaymentChannelEscrow, EIP712, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @dev Who is paid, in what. Many channels share one, so it is stored once and named by a number.
    struct Route {
        address payee;
        address token;
    }

    /// @dev A channel at rest. Records are never deleted.
    struct ChannelRecord {
        // Slot 0: who, and where it stands.
        address payer; // never zero in a record that exists
        uint40 closeRequestedAt; // Unix seconds, enough until the year 36812
        uint48 routeId; // never zero in a record that exists
        uint8 flags; // see below
        // Slot 1: the money.
        uint128 deposit;
        uint128 settled;
    }

    /// @dev Set when the channel is closed, never cleared.
    uint8 private constant FLAG_FINALIZED = 1;
    /// @dev Set when `_delegates` names the signer; saves looking there for the many channels without one.
    uint8 private constant FLAG_DELEGATED = 2;

    /// @dev The draft's lower bound, section "Forced Close".
    uint64 private constant MIN_CLOSE_GRACE_PERIOD = 10 minutes;

    bytes32 private constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 channelId,uint128 cumulativeAmount)");

    /// @inheritdoc IPaymentChannelEscrow
    uint64 public immutable CLOSE_GRACE_PERIOD;

    /// @inheritdoc IPaymentChannelEscrow
    address public immutable PERMIT2;

    mapping(bytes32 channelId => ChannelRecord) private _channels;

    /// @dev Signers other than "the payer", as given when the channel was opened.
    mapping(bytes32 channelId => address) private _delegates;

    mapping(uint48 routeId => Route) private _routes;
    mapping(address payee => mapping(address token => uint48 routeId)) private _routeIds;

    /// @dev Routes are numbered from 1; 0 is no route.
    uint48 private _lastRouteId;

    /**
     * @param closeGracePeriodSeconds Time between {requestClose} and {withdraw}: at least 600, 900 for reference.
     * @param permit2 The chain's Permit2 contract.
     */
    constructor(uint64 closeGracePeriodSeconds, address permit2) EIP712("EVM Payment Channel", "1") {
        require(
            closeGracePeriodSeconds >= MIN_CLOSE_GRACE_PERIOD,
            GracePeriodTooShort(closeGracePeriodSeconds, MIN_CLOSE_GRACE_PERIOD)
        );
        CLOSE_GRACE_PERIOD = closeGracePeriodSeconds;
        PERMIT2 = permit2;
    }

    // ---------------------------------------------------------------- opening and funding

    /// @inheritdoc IPaymentChannelEscrow
    function open(
        address payee,
        address token,
        uint128 deposit,
        bytes32 salt,
        address authorizedSigner
    ) external nonReentrant returns (bytes32 channelId) {
        // Checks and effects
        channelId = _open(msg.sender, payee, token, deposit, salt, authorizedSigner);

        // Interactions
        _pull(token, msg.sender, deposit);
    }

    /// @inheritdoc IPaymentChannelEscrow
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
        bytes32 expectedNonce = keccak256(abi.encode(from, payee, token, salt, authorizedSigner));
        require(nonce == expectedNonce, NonceMismatch(expectedNonce, nonce));

        // Checks and effects
        channelId = _open(from, payee, token, deposit, salt, authorizedSigner);

        // Interactions
        _pullWithAuthorization(token, from, deposit, validAfter, validBefore, nonce, signature);
    }

    /// @inheritdoc IPaymentChannelEscrow
    function topUp(bytes32 channelId, uint128 additionalDeposit) external nonReentrant {
        // Checks
        ChannelRecord storage channel = _requireOpen(channelId);
        require(msg.sender == channel.payer, NotPayer(channelId, msg.sender));

        // Checks and effects
        Route memory route = _topUp(channelId, channel, msg.sender, additionalDeposit);

        // Interactions
        _pull(route.token, msg.sender, additionalDeposit);
    }

    // ---------------------------------------------------------------- the payee's side

    /// @inheritdoc IPaymentChannelEscrow
    function settle(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external nonReentrant {
        // Checks
        ChannelRecord storage channel = _requireOpen(channelId);
        Route memory route = _routes[channel.routeId];
        require(msg.sender == route.payee, NotPayee(channelId, msg.sender));

        // Checks, effects, interactions
        _settle(channelId, channel, route, cumulativeAmount, signature);
    }

    /// @inheritdoc IPaymentChannelEscrow
    function close(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external nonReentrant {
        // Checks
        ChannelRecord storage channel = _requireOpen(channelId);
        Route memory route = _routes[channel.routeId];
        require(msg.sender == route.payee, NotPayee(channelId, msg.sender));

        // Checks, effects, interactions
        _close(channelId, channel, route, cumulativeAmount, signature);
    }

    // ---------------------------------------------------------------- the payer's way out

    /// @inheritdoc IPaymentChannelEscrow
    function requestClose(bytes32 channelId) external nonReentrant {
        // Checks
        ChannelRecord storage channel = _requireOpen(channelId);
        require(msg.sender == channel.payer, NotPayer(channelId, msg.sender));
        if (channel.closeRequestedAt != 0) return; // the clock is running, and is not restarted

        // Effects
        channel.closeRequestedAt = uint40(block.timestamp);
        emit CloseRequested(
            channelId,
            msg.sender,
            _routes[channel.routeId].payee,
            uint64(block.timestamp),
            block.timestamp + CLOSE_GRACE_PERIOD
        );
    }

    /// @inheritdoc IPaymentChannelEscrow
    function withdraw(bytes32 channelId) external nonReentrant {
        // Checks
        ChannelRecord storage channel = _requireOpen(channelId);
        require(msg.sender == channel.payer, NotPayer(channelId, msg.sender));
        // Without a request the grace period would seem to have passed since 1970.
        uint256 requestedAt = channel.closeRequestedAt;
        require(requestedAt != 0, CloseNotReady(channelId, 0));
        uint256 readyAt = requestedAt + CLOSE_GRACE_PERIOD;
        require(block.timestamp >= readyAt, CloseNotReady(channelId, readyAt));

        // Effects
        channel.flags |= FLAG_FINALIZED;
        uint128 settled = channel.settled;
        uint128 refund = channel.deposit - settled;
        Route memory route = _routes[channel.routeId];
        emit Withdrawn(channelId, msg.sender, route.payee, settled, refund);

        // Interactions
        _pay(route.token, msg.sender, refund);
    }

    // ---------------------------------------------------------------- reading

    /// @inheritdoc IPaymentChannelEscrow
    function getChannel(bytes32 channelId) external view returns (Channel memory channel) {
        ChannelRecord memory record = _channels[channelId];
        Route memory route = _routes[record.routeId];
        channel = Channel({
            payer: record.payer,
            payee: route.payee,
            token: route.token,
            authorizedSigner: _delegates[channelId],
            deposit: record.deposit,
            settled: record.settled,
            closeRequestedAt: record.closeRequestedAt,
            finalized: record.flags & FLAG_FINALIZED != 0
        });
    }

    /// @inheritdoc IPaymentChannelEscrow
    function computeChannelId(
        address payer,
        address payee,
        address token,
        bytes32 salt,
        address authorizedSigner
    ) public view returns (bytes32 channelId) {
        return keccak256(abi.encode(payer, payee, token, salt, authorizedSigner, address(this), block.chainid));
    }

    /// @inheritdoc IPaymentChannelEscrow
    // solhint-disable-next-line func-name-mixedcase
    function DOMAIN_SEPARATOR() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    // ---------------------------------------------------------------- steps shared by the ways to open, fund, settle, close

    /// @dev Checks and effects of opening. The deposit is recorded as if it had arrived: pull it next.
    function _open(
        address payer,
        address payee,
        address token,
        uint128 deposit,
        bytes32 salt,
        address authorizedSigner
    ) private returns (bytes32 channelId) {
        // Checks
        require(payer != address(0), InvalidPayer(payer)); // a stored payer is what makes a channel exist
        require(payee != address(0), InvalidPayee(payee));
        require(token.code.length != 0, InvalidToken(token));
        require(deposit != 0, ZeroDeposit());
        channelId = computeChannelId(payer, payee, token, salt, authorizedSigner);
        ChannelRecord storage channel = _channels[channelId];
        require(channel.payer == address(0), ChannelAlreadyExists(channelId));

        // Effects
        uint8 flags = 0;
        if (authorizedSigner != address(0)) {
            flags = FLAG_DELEGATED;
            _delegates[channelId] = authorizedSigner;
        }
        _channels[channelId] = ChannelRecord({
            payer: payer,
            closeRequestedAt: 0,
            routeId: _internRoute(payee, token),
            flags: flags,
            deposit: deposit,
            settled: 0
        });
        emit ChannelOpened(channelId, payer, payee, token, authorizedSigner, salt, deposit);
    }

    /// @dev Checks and effects of adding funds. They are recorded as if they had arrived: pull them next.
    function _topUp(
        bytes32 channelId,
        ChannelRecord storage channel,
        address funder,
        uint128 additionalDeposit
    ) private returns (Route memory route) {
        // Checks
        require(additionalDeposit != 0, ZeroDeposit());
        uint128 deposit = channel.deposit;
        require(additionalDeposit <= type(uint128).max - deposit, DepositOverflow(deposit, additionalDeposit));

        // Effects
        deposit += additionalDeposit;
        channel.deposit = deposit;
        address payer = channel.payer;
        route = _routes[channel.routeId];
        emit ToppedUp(channelId, payer, route.payee, funder, additionalDeposit, deposit);
        // Only the payer's own funds cancel its request: otherwise a payee could hold the deposit for ever, with dust.
        if (funder == payer && channel.closeRequestedAt != 0) {
            channel.closeRequestedAt = 0;
            emit CloseRequestCancelled(channelId, payer, route.payee);
        }
    }

    /// @dev Redeems a voucher. The caller has made sure that the payee wants it.
    function _settle(
        bytes32 channelId,
        ChannelRecord storage channel,
        Route memory route,
        uint128 cumulativeAmount,
        bytes calldata signature
    ) private {
        // Checks
        uint128 settled = channel.settled;
        require(cumulativeAmount > settled, AmountNotIncreasing(channelId, cumulativeAmount, settled));
        _requireVoucher(channelId, channel, cumulativeAmount, signature);

        // Effects
        channel.settled = cumulativeAmount;
        uint128 delta = cumulativeAmount - settled;
        emit Settled(channelId, channel.payer, route.payee, cumulativeAmount, delta);

        // Interactions: the payer has no part in it, so a token that has blocked the payer still pays the payee.
        _pay(route.token, route.payee, delta);
    }

    /// @dev Closes for good. The caller has made sure that the payee wants it.
    function _close(
        bytes32 channelId,
        ChannelRecord storage channel,
        Route memory route,
        uint128 cumulativeAmount,
        bytes calldata signature
    ) private {
        // Checks: up to what was settled the payee only waives, and needs nobody's signature for that.
        uint128 settled = channel.settled;
        uint128 delta = 0;
        if (cumulativeAmount > settled) {
            _requireVoucher(channelId, channel, cumulativeAmount, signature);
            delta = cumulativeAmount - settled;
            settled = cumulativeAmount;
        }

        // Effects
        address payer = channel.payer;
        uint128 refund = channel.deposit - settled;
        channel.flags |= FLAG_FINALIZED;
        if (delta != 0) channel.settled = settled;
        emit ChannelClosed(channelId, payer, route.payee, settled, delta, refund);

        // Interactions
        _pay(route.token, route.payee, delta);
        _pay(route.token, payer, refund);
    }

    /// @dev The number of a route, given to it the first time it is seen.
    function _internRoute(address payee, address token) private returns (uint48 routeId) {
        routeId = _routeIds[payee][token];
        if (routeId == 0) {
            routeId = ++_lastRouteId;
            _routeIds[payee][token] = routeId;
            _routes[routeId] = Route({payee: payee, token: token});
        }
    }

    // ---------------------------------------------------------------- checks

    /// @dev The channel, which exists and is not finalized. Existence is told by the payer: routes and money may be zero.
    function _requireOpen(bytes32 channelId) private view returns (ChannelRecord storage channel) {
        channel = _channels[channelId];
        require(channel.payer != address(0), ChannelNotFound(channelId));
        require(channel.flags & FLAG_FINALIZED == 0, ChannelFinalized(channelId));
    }

    /// @dev A voucher within the deposit, signed by the one who signs for this channel.
    function _requireVoucher(
        bytes32 channelId,
        ChannelRecord storage channel,
        uint128 cumulativeAmount,
        bytes calldata signature
    ) private view {
        uint128 deposit = channel.deposit;
        require(cumulativeAmount <= deposit, AmountExceedsDeposit(channelId, cumulativeAmount, deposit));

        address signer = channel.flags & FLAG_DELEGATED == 0 ? channel.payer : _delegates[channelId];
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(VOUCHER_TYPEHASH, channelId, cumulativeAmount)));
        require(_isSignedBy(signer, digest, signature), InvalidSignature(channelId, signer));
    }

    /**
     * @dev ECDSA first: an account with EIP-7702 code still signs with its key. OpenZeppelin's recovery refuses a high
     * s, any length but 65 and a recovered zero address. A high s is not put to ERC-1271 either, where lax code could
     * let it pass.
     */
    function _isSignedBy(address signer, bytes32 digest, bytes calldata signature) private view returns (bool) {
        (address recovered, ECDSA.RecoverError failure, ) = ECDSA.tryRecoverCalldata(digest, signature);
        if (failure == ECDSA.RecoverError.NoError && recovered == signer) return true;
        if (failure == ECDSA.RecoverError.InvalidSignatureS) return false;
        return
            signer.code.length != 0 && SignatureChecker.isValidERC1271SignatureNowCalldata(signer, digest, signature);
    }

    // ---------------------------------------------------------------- tokens in and out

    /// @dev Takes a deposit out of an allowance.
    function _pull(address token, address from, uint128 amount) private {
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
    ) private {
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

    /// @dev Exactly, not at least: a token that moves anything else than what it was asked to has no place here.
    function _requireArrived(address token, uint256 balanceBefore, uint128 amount) private view {
        uint256 expected = balanceBefore + amount;
        uint256 actual = IERC20(token).balanceOf(address(this));
        require(actual == expected, DepositNotExact(token, expected, actual));
    }

    /// @dev Pays out; a payment of nothing does not trouble the token.
    function _pay(address token, address to, uint128 amount) private {
        if (amount != 0) IERC20(token).safeTransfer(to, amount);
    }
}
