/** Makes bytes of the model's signatures. The typed data is written out from the drafts' type strings, not from `src/voucher`. */
import { type Address, concat, type Hex, hashTypedData, keccak256, numberToHex, size, slice, stringToHex } from "viem";
import { privateKeyToAddress, sign } from "viem/accounts";
import type { Form, Message, Row, Signature } from "./terms.ts";
import { fingerprint } from "./tokenModel.ts";

/** A key of these tests, the same in every run. */
export function keyOf(name: string): Readonly<{ address: Address; privateKey: Hex }> {
	const privateKey = keccak256(stringToHex(`sluice reference model: ${name}`));
	const address = privateKeyToAddress(privateKey).toLowerCase() as Address;
	privateKeys.set(address, privateKey);
	return { address, privateKey };
}

const privateKeys = new Map<Address, Hex>();

const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

const known = new Map<string, Promise<Hex>>();

/** The signature's bytes. Signing is deterministic, so one that was asked for before is not made again. */
export async function signatureBytes(signature: Signature): Promise<Hex> {
	if (signature === "empty") return "0x";
	const id = `${signature.key} ${fingerprint(signature.message)}`;
	const canonical = known.get(id) ?? signCanonical(signature.key, signature.message);
	known.set(id, canonical);
	return write(signature.form, await canonical);
}

/** A row's `r` and `vs` (IBatchSettlement): what has no place in 64 bytes is left out. */
export async function packedSignature({ signature }: Row): Promise<Readonly<{ r: Hex; vs: Hex }>> {
	const bytes = await signatureBytes(signature);
	if (size(bytes) !== 65) return { r: numberToHex(0, { size: 32 }), vs: numberToHex(0, { size: 32 }) };
	const parity = BigInt(slice(bytes, 64)) === 28n ? 1n : 0n;
	const vs = BigInt(slice(bytes, 32, 64)) | (parity << 255n);
	return { r: slice(bytes, 0, 32), vs: numberToHex(vs, { size: 32 }) };
}

/** Draft, "Signing Procedure": 65 bytes `r || s || v`, low s, v 27 or 28. */
async function signCanonical(key: Address, message: Message): Promise<Hex> {
	const privateKey = privateKeys.get(key);
	if (privateKey === undefined) throw new TypeError(`nobody has the key of ${key}`);
	const { r, s, yParity } = await sign({ hash: digest(message), privateKey });
	return concat([r, s, yParity === 0 ? "0x1b" : "0x1c"]);
}

function write(form: Form, canonical: Hex): Hex {
	const [r, s, v] = [slice(canonical, 0, 32), slice(canonical, 32, 64), BigInt(slice(canonical, 64))];
	switch (form) {
		case "canonical":
			return canonical;
		case "wrapped":
			return concat(["0x01", canonical]);
		case "high-s":
			// Draft, "Signature Malleability".
			return concat([r, numberToHex(ORDER - BigInt(s), { size: 32 }), numberToHex(55n - v, { size: 1 })]);
		case "v-0-or-1":
			return concat([r, s, numberToHex(v - 27n, { size: 1 })]);
		case "compact":
			return concat([r, numberToHex(BigInt(s) | ((v - 27n) << 255n), { size: 32 })]);
	}
}

const voucherTypes = parse("Voucher(bytes32 channelId,uint128 cumulativeAmount)");
const settleTypes = parse(
	"SettleAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)",
);
const closeTypes = parse(
	"CloseAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)",
);
const EIP3009_MEMBERS = "(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)";
const permitTypes = parse("TokenPermissions(address token,uint256 amount)");
const PERMIT_MEMBERS = "TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline";
const TYPES = {
	Voucher: voucherTypes,
	SettleAuthorization: settleTypes,
	CloseAuthorization: closeTypes,
	ReceiveWithAuthorization: parse(`ReceiveWithAuthorization${EIP3009_MEMBERS}`),
	TransferWithAuthorization: parse(`TransferWithAuthorization${EIP3009_MEMBERS}`),
	ChannelOpenWitness: {
		...permitTypes,
		...parse("ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)"),
		...parse(`PermitWitnessTransferFrom(${PERMIT_MEMBERS},ChannelOpenWitness witness)`),
	},
	ChannelTopUpWitness: {
		...permitTypes,
		...parse("ChannelTopUpWitness(bytes32 channelId)"),
		...parse(`PermitWitnessTransferFrom(${PERMIT_MEMBERS},ChannelTopUpWitness witness)`),
	},
};

/** `Name(type member,...)` as viem takes it. */
function parse(typeString: string): Record<string, { name: string; type: string }[]> {
	const [, struct = "", list = ""] = typeString.match(/^(\w+)\((.*)\)$/) ?? [];
	const members = list.split(",").map((member) => {
		const [type = "", name = ""] = member.split(" ");
		return { name, type };
	});
	return { [struct]: members };
}

function digest(message: Message): Hex {
	const { type, chainId, contract, ...members } = message;
	const domain = { ...domainNames(type), chainId, verifyingContract: contract };
	if (message.type !== "PermitWitnessTransferFrom") {
		return hashTypedData({ domain, types: TYPES[message.type], primaryType: type, message: members });
	}
	const { token, amount, witness, spender, nonce, deadline } = message;
	return hashTypedData({
		domain,
		types: TYPES[witness.type],
		primaryType: type,
		message: { permitted: { token, amount }, spender, nonce, deadline, witness },
	});
}

/** Draft, "Domain Separator" and "Open Payload (feePayer: true)", whose domain has no version; the token's is its own. */
function domainNames(type: Message["type"]): Readonly<{ name: string; version?: string }> {
	switch (type) {
		case "ReceiveWithAuthorization":
		case "TransferWithAuthorization":
			return { name: "USD Coin", version: "2" };
		case "PermitWitnessTransferFrom":
			return { name: "Permit2" };
		default:
			return { name: "EVM Payment Channel", version: "1" };
	}
}
