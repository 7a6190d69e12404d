import fc from "fast-check";
import { encodeAbiParameters, getAddress, type Hex, keccak256, parseAbiParameters } from "viem";
import { describe, expect, it } from "vitest";
import {
	type ChannelParameters,
	computeChannelId,
	FieldFormatError,
	sameAddress,
	voucherSigner,
	ZERO_ADDRESS,
} from "../../src/voucher/index.ts";
import { address, channelParameters, firstVector, upper, vectors } from "./support.ts";

const CHANNEL_ID = parseAbiParameters("address, address, address, bytes32, address, address, uint256");

function reference(channel: ChannelParameters): Hex {
	const { payer, payee, token, salt, authorizedSigner, escrow, chainId } = channel;
	return keccak256(
		encodeAbiParameters(CHANNEL_ID, [payer, payee, token, salt, authorizedSigner, escrow, BigInt(chainId)]),
	);
}

describe("the channelId", () => {
	it.each(vectors)("is the shared vector's: $name", (vector) => {
		expect(computeChannelId(vector)).toBe(vector.channelId);
	});

	it("is keccak256 of the seven words that abi.encode makes", () => {
		fc.assert(
			fc.property(channelParameters, (channel) => {
				expect(computeChannelId(channel)).toBe(reference(channel));
			}),
		);
	});

	it("is another one when any single parameter is", () => {
		fc.assert(
			fc.property(channelParameters, channelParameters, (one, other) => {
				for (const key of ["payer", "payee", "token", "salt", "authorizedSigner", "escrow", "chainId"] as const) {
					fc.pre(one[key] !== other[key]);
					expect(computeChannelId({ ...one, [key]: other[key] })).not.toBe(computeChannelId(one));
				}
			}),
		);
	});

	it("hashes authorizedSigner as given: no signer and the payer's own address are two channels (D13)", () => {
		const channel = { ...firstVector(), authorizedSigner: ZERO_ADDRESS };
		expect(computeChannelId({ ...channel, authorizedSigner: channel.payer })).not.toBe(computeChannelId(channel));
	});

	it("does not depend on the case of the digits, not even where a checksum is wrong", () => {
		const channel = vectors[1] ?? firstVector();
		const { payer, payee, token, salt, authorizedSigner, escrow, chainId } = channel;
		const shouted = {
			payer: upper(payer),
			payee: upper(payee),
			token: getAddress(token),
			salt: upper(salt),
			authorizedSigner: upper(authorizedSigner),
			escrow: upper(escrow),
			chainId,
		};
		expect(computeChannelId(shouted)).toBe(channel.channelId);
	});

	it.each([
		["payer", "0x12"],
		["payee", ""],
		["token", `0x${"0".repeat(39)}g`],
		["salt", `0x${"0".repeat(62)}`],
		["authorizedSigner", `0x${"0".repeat(41)}`],
		["escrow", `0X${"0".repeat(40)}`],
		["escrow", `00${"0".repeat(40)}`],
		["escrow", `0x${"0".repeat(39)}é`],
		["chainId", 0],
		["chainId", -1],
		["chainId", 1.5],
		["chainId", Number.NaN],
		["chainId", 2 ** 53],
	])("is refused for a malformed %s (%s), with the field named", (field, value) => {
		const channel: ChannelParameters = { ...firstVector(), [field]: value };
		expect(() => computeChannelId(channel)).toThrow(expect.objectContaining({ code: "field-format", field }));
		expect(() => computeChannelId(channel)).toThrow(FieldFormatError);
	});
});

describe("the signer of a channel's vouchers", () => {
	it.each(vectors)("is the shared vector's: $name", (vector) => {
		expect(voucherSigner(vector)).toBe(vector.signer);
	});

	it("is the payer where authorizedSigner is the zero address, else authorizedSigner", () => {
		fc.assert(
			fc.property(address, address, (payer, delegate) => {
				expect(voucherSigner({ payer, authorizedSigner: ZERO_ADDRESS })).toBe(payer);
				fc.pre(delegate !== ZERO_ADDRESS);
				expect(voucherSigner({ payer, authorizedSigner: delegate })).toBe(delegate);
			}),
		);
	});
});

describe("sameAddress", () => {
	it("compares the 20 bytes and not the string", () => {
		fc.assert(
			fc.property(address, address, (a, b) => {
				expect(sameAddress(a, getAddress(a))).toBe(true);
				expect(sameAddress(upper(a), a)).toBe(true);
				expect(sameAddress(a, b)).toBe(BigInt(a) === BigInt(b));
			}),
		);
	});
});
