// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IPaymentChannelEscrow} from "../../../contracts/IPaymentChannelEscrow.sol";
import {BlocklistToken} from "../../../contracts/test/BlocklistToken.sol";
import {TestUSDC} from "../../../contracts/test/TestUSDC.sol";
import {EscrowTest} from "../support/EscrowTest.sol";
import {EscrowModel} from "./EscrowModel.sol";

/**
 * @dev Who plays, with what money, and how each of them signs. Three payers and three payees, of whom Bob is both; a
 * vault and a shop that are contracts and sign by ERC-1271; delegated signers, one of them a contract; Dora, who pays
 * into others' channels; a relayer; and Mallory, who deals with nobody but herself and calls everything.
 */
abstract contract Cast is EscrowTest {
    address internal alice;
    address internal bob;
    address internal carol;
    address internal vault;
    address internal shop;
    address internal dora;
    address internal relayer;
    address internal mallory;

    address[] internal payers;
    address[] internal payees;
    address[] internal delegates;
    /// @dev Everyone who has money. The last few are the bystanders: nobody pays them, so that they must never gain.
    address[] internal everyone;
    uint256 internal constant BYSTANDERS = 5;

    TestUSDC[] internal tokens;
    BlocklistToken internal blocklist;
    address internal permit2;
    EscrowModel internal model;

    /// @dev The test's time: a clock of our own, because the compiler may read the block's late.
    uint256 internal clock;

    /// @dev Enough for a few deposits of the largest size, but not for all: some attempts find a payer short.
    uint256 internal constant START_MONEY = 2 ** 130;

    mapping(address account => uint256) private _keyOf;
    mapping(address account => bool) private _isContract;

    constructor() {
        setUp();
    }

    function setUp() public override {
        goToChain(31337);
        _passTime(NOW);
        permit2 = _deployPermit2();
        escrow = IPaymentChannelEscrow(deploy("PaymentChannelEscrow", abi.encode(GRACE, permit2)));
        model = new EscrowModel(address(escrow), chain, GRACE);

        alice = _person("alice");
        bob = _person("bob");
        carol = _person("carol");
        dora = _person("dora");
        relayer = _person("relayer");
        mallory = _person("mallory");
        vault = _wallet("vault");
        shop = _wallet("shop");
        payers = [alice, bob, vault];
        payees = [bob, carol, shop];
        delegates = [_person("delegate"), _wallet("delegated wallet")];
        everyone = [alice, bob, carol, vault, shop, dora, relayer, mallory, delegates[0], delegates[1]];

        blocklist = BlocklistToken(deploy("BlocklistToken", ""));
        tokens = [TestUSDC(deploy("TestUSDC", "")), TestUSDC(deploy("TestUSDC", "")), TestUSDC(address(blocklist))];
        for (uint256 i = 0; i < tokens.length; i++) {
            for (uint256 k = 0; k < everyone.length; k++) _enrich(tokens[i], everyone[k]);
        }
    }

    function _enrich(TestUSDC money, address account) private {
        money.mint(account, START_MONEY);
        model.mint(address(money), account, START_MONEY);
        vm.prank(account);
        money.approve(address(escrow), type(uint256).max);
        vm.prank(account);
        money.approve(permit2, type(uint256).max);
    }

    /// @dev At an address of the test's own: this escrow is told where, and the signatures' domain follows.
    function _deployPermit2() private returns (address deployed) {
        string memory fixture = vm.readFile("test/fixtures/permit2.json");
        bytes memory code = vm.parseJsonBytes(fixture, ".initCode");
        assembly ("memory-safe") {
            deployed := create(0, add(code, 0x20), mload(code))
        }
        vm.assertTrue(deployed != address(0), "permit2");
    }

    function _person(string memory name) private returns (address account) {
        uint256 key = uint256(keccak256(bytes(name)));
        account = vm.addr(key);
        _keyOf[account] = key;
    }

    function _wallet(string memory name) private returns (address account) {
        uint256 key = uint256(keccak256(bytes(name)));
        account = deploy("ERC1271Wallet", abi.encode(vm.addr(key)));
        _keyOf[account] = key;
        _isContract[account] = true;
    }

    function _passTime(uint256 to) internal {
        clock = to;
        vm.warp(to);
    }

    // ---------------------------------------------------------------- signing

    /// @dev Nothing, where nobody is asked: a channel that does not exist has no payer.
    function _sign(address account, bytes32 digest) internal view returns (bytes memory signature) {
        if (_keyOf[account] == 0) return "";
        signature = signDigest(_keyOf[account], digest);
        if (_isContract[account]) signature = abi.encodePacked(uint8(0), signature);
    }

    /// @dev As it stands in a batch. A contract's owner signs here as itself, which is not good enough.
    function _signCompact(address account, bytes32 digest) internal view returns (bytes32 r, bytes32 vs, bool byKey) {
        uint8 v;
        bytes32 s;
        (v, r, s) = vm.sign(_keyOf[account], digest);
        return (r, bytes32(uint256(s) | (uint256(v - 27) << 255)), !_isContract[account]);
    }

    function _signHigh(address account, bytes32 digest) internal view returns (bytes memory signature) {
        signature = highS(_keyOf[account], digest);
        if (_isContract[account]) signature = abi.encodePacked(uint8(0), signature);
    }

    function _typed(bytes32 domain, bytes32 structHash) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked("\x19\x01", domain, structHash));
    }

    /// @dev Another signature, by one bit. In the last 65 bytes: the test's wallets do not look at the one in front.
    function _flip(bytes memory signature, uint256 bit) internal pure returns (bytes memory) {
        uint256 position = signature.length - 65 + ((bit / 8) % 65);
        signature[position] ^= bytes1(uint8(1 << (bit % 8)));
        return signature;
    }
}
