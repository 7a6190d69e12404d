// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/**
 * @dev The draft's rules and the tokens' balances, written a second time, as simply as possible: no signatures (the
 * caller says whether one is genuine), no layout, no real tokens. It is called by the same senders, with the same
 * meaning, as the escrow, and must revert exactly where the escrow does.
 */
contract EscrowModel {
    struct Terms {
        address payer;
        address payee;
        address token;
        bytes32 salt;
        address authorizedSigner;
    }

    struct Channel {
        Terms terms;
        uint256 deposit; // zero: there is no such channel
        uint256 settled;
        uint256 requestedAt;
        bool closed;
    }

    /// @dev What a deposit by signature says: a nonce good once, a time in which it is good, and who really signed.
    struct Funding {
        bytes32 once;
        uint256 firstSecond;
        uint256 lastSecond;
        bool genuine;
    }

    struct Row {
        bytes32 channelId;
        uint256 amount;
        bool genuine;
    }

    error Refused(string rule);

    address private immutable ESCROW;
    uint256 private immutable CHAIN;
    uint256 private immutable GRACE;

    mapping(address token => mapping(address account => uint256)) public balanceOf;
    mapping(address token => mapping(address account => bool)) public blocked;
    mapping(bytes32 id => Channel) private _channels;
    mapping(bytes32 nonce => bool) private _used;

    constructor(address escrow, uint256 chain, uint256 grace) {
        (ESCROW, CHAIN, GRACE) = (escrow, chain, grace);
    }

    function channelOf(bytes32 id) external view returns (Channel memory) {
        return _channels[id];
    }

    function channelsOf(bytes32[] calldata ids) external view returns (Channel[] memory channels) {
        channels = new Channel[](ids.length);
        for (uint256 i = 0; i < ids.length; i++) channels[i] = _channels[ids[i]];
    }

    function balancesOf(address token, address[] calldata accounts) external view returns (uint256[] memory balances) {
        balances = new uint256[](accounts.length);
        for (uint256 i = 0; i < accounts.length; i++) balances[i] = balanceOf[token][accounts[i]];
    }

    // ---------------------------------------------------------------- the world around the escrow

    function mint(address token, address to, uint256 amount) external {
        balanceOf[token][to] += amount;
    }

    function setBlocked(address token, address account, bool isBlocked) external {
        blocked[token][account] = isBlocked;
    }

    function transfer(address token, address to, uint256 amount) external {
        _move(token, msg.sender, to, amount);
    }

    // ---------------------------------------------------------------- funding

    function open(Terms memory terms, uint256 amount) external returns (bytes32 id) {
        terms.payer = msg.sender;
        return _open(terms, amount);
    }

    function openFor(Terms memory terms, uint256 amount, Funding memory funding) external returns (bytes32 id) {
        _use(funding);
        return _open(terms, amount);
    }

    function topUp(bytes32 id, uint256 amount) external {
        _rule(msg.sender == _channels[id].terms.payer, "only the payer");
        _topUp(id, msg.sender, amount);
    }

    function topUpFor(bytes32 id, address funder, uint256 amount, Funding memory funding) external {
        _use(funding);
        _topUp(id, funder, amount);
    }

    function _open(Terms memory terms, uint256 amount) private returns (bytes32 id) {
        _rule(terms.payer != address(0) && terms.payee != address(0), "two parties");
        _rule(amount != 0, "some deposit");
        id = keccak256(
            abi.encode(terms.payer, terms.payee, terms.token, terms.salt, terms.authorizedSigner, ESCROW, CHAIN)
        );
        _rule(_channels[id].deposit == 0, "an id is used once");
        _move(terms.token, terms.payer, ESCROW, amount);
        (_channels[id].terms, _channels[id].deposit) = (terms, amount);
    }

    function _topUp(bytes32 id, address funder, uint256 amount) private {
        Channel storage channel = _requireOpen(id);
        _rule(amount != 0, "some deposit");
        _rule(channel.deposit + amount < 2 ** 128, "deposits fit in 128 bits");
        _move(channel.terms.token, funder, ESCROW, amount);
        channel.deposit += amount;
        if (funder == channel.terms.payer) channel.requestedAt = 0;
    }

    function _use(Funding memory funding) private {
        _rule(funding.genuine, "a genuine funding signature");
        _rule(!_used[funding.once], "a signature is used once");
        _rule(block.timestamp >= funding.firstSecond && block.timestamp <= funding.lastSecond, "in time");
        _used[funding.once] = true;
    }

    // ---------------------------------------------------------------- the payee's side

    function settle(bytes32 id, uint256 amount, bool genuine) external {
        _rule(msg.sender == _channels[id].terms.payee, "only the payee");
        _settle(id, amount, genuine);
    }

    function close(bytes32 id, uint256 amount, bool genuine) external {
        _rule(msg.sender == _channels[id].terms.payee, "only the payee");
        _close(id, amount, genuine);
    }

    function settleFor(bytes32 id, uint256 amount, bool genuine, Funding memory consent) external {
        _use(consent);
        _settle(id, amount, genuine);
    }

    function closeFor(bytes32 id, uint256 amount, bool genuine, Funding memory consent) external {
        _use(consent);
        _close(id, amount, genuine);
    }

    /// @dev Row by row, as if each were a call that may fail; only a payee who cannot be paid fails the batch.
    function settleMany(Row[] calldata rows) external {
        for (uint256 i = 0; i < rows.length; i++) {
            Channel storage channel = _channels[rows[i].channelId];
            if (!_isRedeemable(channel, rows[i])) continue;
            _settle(rows[i].channelId, rows[i].amount, true);
        }
    }

    function closeMany(Row[] calldata rows) external {
        for (uint256 i = 0; i < rows.length; i++) {
            Channel storage channel = _channels[rows[i].channelId];
            bool forfeits = rows[i].amount <= channel.settled;
            if (channel.closed || channel.terms.payee != msg.sender) continue;
            if (!forfeits && !_isRedeemable(channel, rows[i])) continue;

            if (!forfeits) _settle(rows[i].channelId, rows[i].amount, true);
            bool refundable =
                channel.deposit == channel.settled || _canMove(channel.terms.token, ESCROW, channel.terms.payer);
            if (!refundable) continue; // redeemed, and left open
            _close(rows[i].channelId, 0, true);
        }
    }

    function _isRedeemable(Channel storage channel, Row calldata row) private view returns (bool) {
        return
            row.genuine &&
            !channel.closed &&
            channel.terms.payee == msg.sender &&
            row.amount > channel.settled &&
            row.amount <= channel.deposit;
    }

    function _settle(bytes32 id, uint256 amount, bool genuine) private {
        Channel storage channel = _requireOpen(id);
        _rule(amount > channel.settled, "vouchers grow");
        _rule(amount <= channel.deposit, "vouchers are covered");
        _rule(genuine, "a genuine voucher");
        _move(channel.terms.token, ESCROW, channel.terms.payee, amount - channel.settled);
        channel.settled = amount;
    }

    function _close(bytes32 id, uint256 amount, bool genuine) private {
        Channel storage channel = _requireOpen(id);
        if (amount > channel.settled) _settle(id, amount, genuine);
        _finish(channel);
    }

    // ---------------------------------------------------------------- the payer's way out

    function requestClose(bytes32 id) external {
        Channel storage channel = _requireOpen(id);
        _rule(msg.sender == channel.terms.payer, "only the payer");
        if (channel.requestedAt == 0) channel.requestedAt = block.timestamp;
    }

    function withdraw(bytes32 id) external {
        Channel storage channel = _requireOpen(id);
        _rule(msg.sender == channel.terms.payer, "only the payer");
        _rule(channel.requestedAt != 0 && block.timestamp - channel.requestedAt >= GRACE, "after the grace period");
        _finish(channel);
    }

    // ---------------------------------------------------------------- shared

    function _requireOpen(bytes32 id) private view returns (Channel storage channel) {
        channel = _channels[id];
        _rule(channel.deposit != 0, "a channel that exists");
        _rule(!channel.closed, "finalized is for ever");
    }

    function _finish(Channel storage channel) private {
        channel.closed = true;
        _move(channel.terms.token, ESCROW, channel.terms.payer, channel.deposit - channel.settled);
    }

    function _move(address token, address from, address to, uint256 amount) private {
        if (amount == 0) return;
        _rule(_canMove(token, from, to), "not blocked by the token");
        _rule(balanceOf[token][from] >= amount, "money that is there");
        balanceOf[token][from] -= amount;
        balanceOf[token][to] += amount;
    }

    function _canMove(address token, address from, address to) private view returns (bool) {
        return !blocked[token][from] && !blocked[token][to];
    }

    function _rule(bool kept, string memory rule) private pure {
        require(kept, Refused(rule));
    }
}
