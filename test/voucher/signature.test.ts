import fc from "fast-check";
import {
	bytesToHex,
	type Hex,
	serializeCompactSignature,
	signatureToCompactSignature,
	parseSignature as viemParseSignature,
} from "viem";
import { describe, expect, it } from "vitest";
import { normalizeSignature, parseSignature, SignatureFormatError } from "../../src/voucher/index.ts";
import { assemble, bytes32, firstVector, ORDER, upper, vectors } from "./support.ts";

const { signature, highSSignature } = firstVector();
const HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0n;

const scalar = fc.oneof(
	fc.constantFrom(0n, 1n, HALF_ORDER, HALF_ORDER + 1n, ORDER - 1n, ORDER, ORDER + 1n, 2n ** 256n - 1n),
	bytes32.map((hex) => BigInt(hex)),
);
const lastByte = fc.oneof(fc.constantFrom(0, 1, 26, 27, 28, 29), fc.integer({ min: 0, max: 255 }));

describe("a signature", () => {
	it.each(vectors)("is taken apart: $name", (vector) => {
		const parsed = parseSignature(vector.signature);
		const reference = viemParseSignature(vector.signature);
		expect(parsed).toEqual({
			r: reference.r,
			s: reference.s,
			v: Number(reference.v),
			recovery: reference.yParity,
			compact: expect.any(Uint8Array),
		});
		expect(bytesToHex(parsed.compact)).toBe(vector.signature.slice(0, 130));
	});

	it("is read with digits of either case, and its parts are lowercase", () => {
		expect(parseSignature(upper(signature))).toEqual(parseSignature(signature));
	});

	it.each<[string, Hex, string]>([
		["nothing", "0x", "encoding"],
		["no prefix", signature.slice(2) as Hex, "encoding"],
		["a prefix in uppercase", `0X${signature.slice(2)}` as Hex, "encoding"],
		[
			"the compact 64-byte form",
			serializeCompactSignature(signatureToCompactSignature(viemParseSignature(signature))),
			"encoding",
		],
		["r and s alone", `0x${signature.slice(2, 130)}`, "encoding"],
		["a byte too many", `${signature}00`, "encoding"],
		["half a byte too few", signature.slice(0, -1) as Hex, "encoding"],
		["a character that is no digit", `${signature.slice(0, 40)}g${signature.slice(41)}` as Hex, "encoding"],
		["a full-width digit", `${signature.slice(0, 40)}\uff11${signature.slice(41)}` as Hex, "encoding"],
		["white space around", ` ${signature}` as Hex, "encoding"],
		["v of 0", assemble(signature, { v: 0 }), "v"],
		["v of 1", assemble(signature, { v: 1 }), "v"],
		["v of 26", assemble(signature, { v: 26 }), "v"],
		["v of 29", assemble(signature, { v: 29 }), "v"],
		["v with a chain id in it", assemble(signature, { v: 37 }), "v"],
		["the high-s twin", highSSignature, "high-s"],
		["the lowest high s", assemble(signature, { s: HALF_ORDER + 1n }), "high-s"],
		["the highest s", assemble(signature, { s: ORDER - 1n }), "high-s"],
		["r of zero", assemble(signature, { r: 0n }), "r"],
		["r of the order", assemble(signature, { r: ORDER }), "r"],
		["r of 2^256 - 1", assemble(signature, { r: 2n ** 256n - 1n }), "r"],
		["s of zero", assemble(signature, { s: 0n }), "s"],
		["s of the order", assemble(signature, { s: ORDER }), "s"],
		["s of 2^256 - 1", assemble(signature, { s: 2n ** 256n - 1n }), "s"],
		["all zero", `0x${"0".repeat(128)}1b`, "r"],
	])("is refused in another form: %s", (_, malformed, fault) => {
		expect(() => parseSignature(malformed)).toThrow(SignatureFormatError);
		expect(() => parseSignature(malformed)).toThrow(expect.objectContaining({ code: "signature-format", fault }));
	});

	it("is taken at the ends of the range of r and s", () => {
		for (const [r, s] of [
			[1n, 1n],
			[ORDER - 1n, HALF_ORDER],
		] as const) {
			expect(BigInt(parseSignature(assemble(signature, { r, s })).r)).toBe(r);
		}
	});

	it("is taken exactly when r and s are in range, s is low and v is 27 or 28", () => {
		fc.assert(
			fc.property(scalar, scalar, lastByte, (r, s, v) => {
				const canonical = r > 0n && r < ORDER && s > 0n && s <= HALF_ORDER && (v === 27 || v === 28);
				const parse = () => parseSignature(assemble(signature, { r, s, v }));
				if (canonical) expect(parse()).toMatchObject({ v, recovery: v - 27 });
				else expect(parse).toThrow(SignatureFormatError);
			}),
			{ numRuns: 500 },
		);
	});

	it("never shows in the error that refuses it", () => {
		try {
			parseSignature(highSSignature);
			expect.unreachable();
		} catch (error) {
			expect(String(error)).not.toContain(highSSignature.slice(10, 30));
			expect(JSON.stringify(error)).not.toContain(highSSignature.slice(10, 30));
		}
	});
});

describe("normalizing our own accounts' signatures", () => {
	it("ends in the one canonical form, from each of the four that say the same", () => {
		const { v } = parseSignature(signature);
		for (const same of [
			signature,
			upper(signature),
			assemble(signature, { v: v - 27 }),
			highSSignature,
			assemble(highSSignature, { v: 28 - v }),
		]) {
			expect(normalizeSignature(same)).toBe(signature);
		}
	});

	it("gives something that parses, or refuses", () => {
		fc.assert(
			fc.property(scalar, scalar, lastByte, (r, s, v) => {
				const given = assemble(signature, { r, s, v });
				const meaningful = r > 0n && r < ORDER && s > 0n && s < ORDER && [0, 1, 27, 28].includes(v);
				if (!meaningful) {
					expect(() => normalizeSignature(given)).toThrow(SignatureFormatError);
					return;
				}
				const normalized = normalizeSignature(given);
				expect(BigInt(parseSignature(normalized).r)).toBe(r);
				expect(normalizeSignature(normalized)).toBe(normalized);
			}),
			{ numRuns: 500 },
		);
	});
});
