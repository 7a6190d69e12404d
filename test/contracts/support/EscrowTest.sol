// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrowErrors} from "../../../contracts/IEscrowErrors.sol";
import {IPaymentChannelEscrow} from "../../../contracts/IPaymentChannelEscrow.sol";
import {TestUSDC} from "../../../contracts/test/TestUSDC.sol";
import {Vm} from "./Vm.sol";

/// @dev What every test of the escrow starts from: an escrow, play money, a payer with some, and a payee.
abstract contract EscrowTest {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    uint64 internal constant GRACE = 15 minutes;
    uint128 internal constant DEPOSIT = 5_000_000;
    uint256 internal constant NOW = 1_750_000_000;
    address internal constant PERMIT2 = 0x000000000022D473030F116dDEE9F6B43aC78BA3;
    bytes32 internal constant SALT = keccak256("salt");
    bytes internal constant NO_SIGNATURE = "";

    uint256 internal constant PAYER_KEY = 0xA11CE;
    uint256 internal constant SIGNER_KEY = 0x516E;
    uint256 internal constant STRANGER_KEY = 0xBAD;

    uint256 private constant SECP256K1_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
    bytes32 private constant RECEIVE_TYPEHASH = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );

    address internal payer = vm.addr(PAYER_KEY);
    address internal signer = vm.addr(SIGNER_KEY);
    address internal stranger = vm.addr(STRANGER_KEY);
    address internal payee = address(0xBEEF);

    IPaymentChannelEscrow internal escrow;
    TestUSDC internal token;

    /// @dev Kept here because the compiler takes `block.chainid` for a constant and may read it late.
    uint256 internal chain;

    function setUp() public virtual {
        vm.warp(NOW);
        goToChain(31337);
        escrow = deployEscrow(GRACE);
        useToken(TestUSDC(deploy("TestUSDC", "")));
    }

    // Contracts are deployed from their artifacts: with `new`, every test would compile them all over again.

    function deployEscrow(uint64 gracePeriod) internal returns (IPaymentChannelEscrow) {
        return IPaymentChannelEscrow(deploy("PaymentChannelEscrow", abi.encode(gracePeriod, PERMIT2)));
    }

    function deploy(string memory name, bytes memory arguments) internal returns (address deployed) {
        bytes memory code = bytes.concat(vm.getCode(string.concat(name, ".sol:", name)), arguments);
        assembly ("memory-safe") {
            deployed := create(0, add(code, 0x20), mload(code))
        }
        vm.assertTrue(deployed != address(0), name);
    }

    function goToChain(uint256 id) internal {
        chain = id;
        vm.chainId(id);
    }

    /// @dev Makes `money` the token of the test, and the payer rich and willing.
    function useToken(TestUSDC money) internal {
        token = money;
        token.mint(payer, type(uint128).max);
        vm.prank(payer);
        token.approve(address(escrow), type(uint256).max);
    }

    // Steps

    function openChannel() internal returns (bytes32 channelId) {
        return openChannel(DEPOSIT, SALT, address(0));
    }

    function openChannel(uint128 deposit, bytes32 salt, address authorizedSigner) internal returns (bytes32 channelId) {
        vm.prank(payer);
        return escrow.open(payee, address(token), deposit, salt, authorizedSigner);
    }

    function topUp(bytes32 channelId, uint128 amount) internal {
        vm.prank(payer);
        escrow.topUp(channelId, amount);
    }

    function settle(bytes32 channelId, uint128 cumulativeAmount) internal {
        bytes memory signature = signVoucher(PAYER_KEY, channelId, cumulativeAmount);
        vm.prank(payee);
        escrow.settle(channelId, cumulativeAmount, signature);
    }

    function close(bytes32 channelId, uint128 cumulativeAmount) internal {
        bytes memory signature = signVoucher(PAYER_KEY, channelId, cumulativeAmount);
        vm.prank(payee);
        escrow.close(channelId, cumulativeAmount, signature);
    }

    function requestClose(bytes32 channelId) internal {
        vm.prank(payer);
        escrow.requestClose(channelId);
    }

    function withdraw(bytes32 channelId) internal {
        vm.prank(payer);
        escrow.withdraw(channelId);
    }

    // Signatures

    /// @dev The draft's domain separator, worked out here and not asked of the contract.
    function domainOf(address escrow_) internal view returns (bytes32) {
        return
            keccak256(
                abi.encode(
                    keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                    keccak256("EVM Payment Channel"),
                    keccak256("1"),
                    chain,
                    escrow_
                )
            );
    }

    function voucherDigest(bytes32 channelId, uint128 cumulativeAmount) internal view returns (bytes32) {
        return voucherDigest(domainOf(address(escrow)), channelId, cumulativeAmount);
    }

    function voucherDigest(bytes32 domain, bytes32 channelId, uint128 amount) internal pure returns (bytes32) {
        bytes32 typeHash = keccak256("Voucher(bytes32 channelId,uint128 cumulativeAmount)");
        return keccak256(abi.encodePacked("\x19\x01", domain, keccak256(abi.encode(typeHash, channelId, amount))));
    }

    function signVoucher(uint256 key, bytes32 channelId, uint128 amount) internal view returns (bytes memory) {
        return signDigest(key, voucherDigest(channelId, amount));
    }

    function signDigest(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    /// @dev The malleable twin of a signature: as good to `ecrecover`, refused by the draft.
    function highS(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, bytes32(SECP256K1_N - uint256(s)), 55 - v);
    }

    function openNonce(address from, address to, bytes32 salt, address delegate) internal view returns (bytes32) {
        return keccak256(abi.encode(from, to, address(token), salt, delegate));
    }

    /// @dev The payer's EIP-3009 signature that lets the escrow take `value` until `validBefore`.
    function signReceive(
        uint256 key,
        uint256 value,
        uint256 validBefore,
        bytes32 nonce
    ) internal view returns (bytes memory) {
        return signDigest(key, receiveDigest(vm.addr(key), value, validBefore, nonce));
    }

    /// @dev What `from` signs, with a key or as a contract, to let the escrow take `value` until `validBefore`.
    function receiveDigest(
        address from,
        uint256 value,
        uint256 validBefore,
        bytes32 nonce
    ) internal view returns (bytes32) {
        bytes32 structHash = keccak256(
            abi.encode(RECEIVE_TYPEHASH, from, address(escrow), value, 0, validBefore, nonce)
        );
        return keccak256(abi.encodePacked("\x19\x01", token.DOMAIN_SEPARATOR(), structHash));
    }

    /// @dev Gives an account the code that EIP-7702 gives it: a pointer to `implementation`.
    function delegateCode(address account, address implementation) internal {
        vm.etch(account, abi.encodePacked(hex"ef0100", implementation));
    }

    // Expectations

    function expectRevert(bytes4 selector, bytes32 channelId) internal {
        vm.expectRevert(abi.encodeWithSelector(selector, channelId));
    }

    function expectInvalidSignature(bytes32 channelId, address expectedSigner) internal {
        vm.expectRevert(abi.encodeWithSelector(IEscrowErrors.InvalidSignature.selector, channelId, expectedSigner));
    }

    /// @dev What a call of the escrow that has to fail answers, byte for byte.
    function revertOf(address sender, bytes memory call) internal returns (bytes memory answer) {
        bool success;
        vm.prank(sender);
        (success, answer) = address(escrow).call(call);
        vm.assertFalse(success, "the call had to fail");
    }

    function channelOf(bytes32 channelId) internal view returns (IPaymentChannelEscrow.Channel memory) {
        return escrow.getChannel(channelId);
    }

    function assertBalances(uint256 inEscrow, uint256 ofPayee, string memory what) internal view {
        vm.assertEq(token.balanceOf(address(escrow)), inEscrow, string.concat(what, ": in escrow"));
        vm.assertEq(token.balanceOf(payee), ofPayee, string.concat(what, ": payee"));
        vm.assertEq(token.balanceOf(payer), type(uint128).max - inEscrow - ofPayee, string.concat(what, ": payer"));
    }
}
