import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
	encodeSessionPayload,
	InvalidPayloadError,
	parseSessionPayload,
	sessionPayloadSchema,
	ZERO_ADDRESS,
} from "../../src/protocol/index.ts";
import {
	channelId,
	codeOf,
	escrow,
	hash,
	pathsOf,
	payee,
	payer,
	salt,
	signature,
	signer,
	thrownBy,
	token,
	withMember,
} from "./support.ts";

const eip3009 = { from: payer, to: escrow, value: "500", validAfter: "0", validBefore: "1743523500", nonce: hash };
const permit2 = { from: payer, permitted: { token, amount: "500" }, nonce: "1", deadline: "1743523500" };
const openWitness = { payee, salt, authorizedSigner: signer };
const open = { action: "open", channelId, cumulativeAmount: "0", signature, authorizedSigner: signer, salt };
const topUp = { action: "topUp", channelId, additionalDeposit: "500" };
const voucher = { action: "voucher", channelId, cumulativeAmount: "250000", signature };

/** One payload of every shape that the draft has. */
const wirePayloads: Record<string, Record<string, unknown>> = {
	"open by hash": { ...open, type: "hash", hash },
	"open by authorization": { ...open, type: "authorization", authorization: eip3009, voucherSignature: signature },
	"open by permit2": {
		...open,
		type: "permit2",
		authorization: { ...permit2, witness: openWitness },
		voucherSignature: signature,
	},
	"topUp by hash": { ...topUp, type: "hash", hash },
	"topUp by authorization": { ...topUp, type: "authorization", salt, authorization: eip3009, signature },
	"topUp by permit2": {
		...topUp,
		type: "permit2",
		authorization: { ...permit2, witness: { channelId } },
		signature,
	},
	voucher,
	"voucher with open by authorization": {
		...voucher,
		deposit: {
			action: "open",
			type: "authorization",
			authorization: eip3009,
			signature,
			salt,
			authorizedSigner: signer,
		},
	},
	"voucher with open by permit2": {
		...voucher,
		deposit: {
			action: "open",
			type: "permit2",
			authorization: { ...permit2, witness: openWitness },
			signature,
			salt,
			authorizedSigner: signer,
		},
	},
	"voucher with topUp by authorization": {
		...voucher,
		deposit: { action: "topUp", type: "authorization", authorization: eip3009, signature, salt },
	},
	"voucher with topUp by permit2": {
		...voucher,
		deposit: { action: "topUp", type: "permit2", authorization: { ...permit2, witness: { channelId } }, signature },
	},
	close: { ...voucher, action: "close" },
};

describe.each(Object.entries(wirePayloads))("the payload %s", (_, wire) => {
	test("is read and written back as it was", () => {
		expect(encodeSessionPayload(parseSessionPayload(wire))).toEqual(wire);
	});

	test("may have members we do not know, which are left out", () => {
		const extended = withMember({ ...wire, more: 1 }, ["deposit", "more"], 1);
		const expected = parseSessionPayload(wire);
		expect(parseSessionPayload("deposit" in wire ? extended : { ...wire, more: 1 })).toEqual(expected);
	});

	test("is refused when any member is missing or of another type, and the error has the path and not the value", () => {
		const optional = ["authorizedSigner", "deposit"];
		for (const path of pathsOf(wire)) {
			for (const wrong of [undefined, null, 7, [], {}, "s3cr3t"]) {
				if (wrong === undefined && optional.includes(path.at(-1) ?? "")) continue;
				const error = thrownBy(() => parseSessionPayload(withMember(wire, path, wrong)));
				expect(error, path.join(".")).toMatchObject({ code: "invalid_payload" });
				expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain("s3cr3t");
			}
		}
	});
});

describe("a voucher without funding", () => {
	const digits = fc.stringMatching(/^[0-9]{1,41}$/);
	const hexOf = (bytes: number) => fc.stringMatching(new RegExp(`^0x[0-9a-fA-F]{${bytes * 2 - 1},${bytes * 2 + 1}}$`));
	const almost = fc.record(
		{
			action: fc.constantFrom("voucher", "close", "vouchers"),
			channelId: fc.oneof(hexOf(32), fc.constant(`0x${"c1".repeat(32)}`), fc.anything()),
			cumulativeAmount: fc.oneof(digits, fc.constantFrom("0", "1", "-1", "1e3", String(2n ** 128n)), fc.anything()),
			signature: fc.oneof(hexOf(65), fc.constant(`0x${"ab".repeat(65)}`), fc.anything()),
			deposit: fc.oneof(fc.constant(undefined), fc.anything()),
			more: fc.anything(),
		},
		{ requiredKeys: ["action"] },
	);

	test("is read to what the schema makes of it, and refused where it is", () => {
		fc.assert(
			fc.property(almost, (payload) => {
				const bySchema = sessionPayloadSchema.safeParse(payload);
				if (bySchema.success) expect(parseSessionPayload(payload)).toEqual(bySchema.data);
				else expect(() => parseSessionPayload(payload)).toThrow(InvalidPayloadError);
			}),
			{ numRuns: 2_000 },
		);
	});
});

describe("a session payload", () => {
	test("has amounts as bigints and addresses in lowercase", () => {
		const upper = `0x${"AA".repeat(20)}`;
		const wire = {
			...open,
			type: "authorization",
			authorization: { ...eip3009, from: upper },
			voucherSignature: signature,
		};
		expect(parseSessionPayload(wire)).toMatchObject({
			cumulativeAmount: 0n,
			authorization: { from: payer, value: 500n, validBefore: 1743523500n },
		});
	});

	test("without authorizedSigner has the zero address, and is written without it again", () => {
		const { authorizedSigner: _, ...bare } = open;
		const wire = { ...bare, type: "hash", hash };
		const payload = parseSessionPayload(wire);
		expect(payload).toMatchObject({ authorizedSigner: ZERO_ADDRESS });
		expect(encodeSessionPayload(payload)).toEqual(wire);
		expect(encodeSessionPayload(parseSessionPayload({ ...wire, authorizedSigner: ZERO_ADDRESS }))).toEqual(wire);
		const merged = { ...wirePayloads["voucher with open by authorization"] };
		const bareDeposit = withMember(merged, ["deposit", "authorizedSigner"], undefined);
		expect(parseSessionPayload(bareDeposit)).toMatchObject({ deposit: { authorizedSigner: ZERO_ADDRESS } });
		expect(encodeSessionPayload(parseSessionPayload(bareDeposit)).deposit).not.toHaveProperty("authorizedSigner");
	});

	test("names its first wrong member", () => {
		const wire = { ...wirePayloads["voucher with topUp by authorization"] };
		expect(
			thrownBy(() => parseSessionPayload(withMember(wire, ["deposit", "authorization", "value"], "-1"))),
		).toMatchObject({
			path: "deposit.authorization.value",
			expected: expect.stringContaining("decimal string"),
		});
		expect(thrownBy(() => parseSessionPayload({ ...voucher, action: "settle" }))).toMatchObject({ path: "action" });
		expect(thrownBy(() => parseSessionPayload({ ...open, type: "transaction" }))).toMatchObject({ path: "type" });
		expect(thrownBy(() => parseSessionPayload("voucher"))).toMatchObject({ path: "" });
	});

	test.each([
		"",
		"-1",
		"+1",
		"01",
		"00",
		"1.0",
		"1e3",
		"0x1",
		" 1",
		"1\n",
		"\u0661",
		`${2n ** 128n}`,
		"9".repeat(100_000),
	])("refuses the amount %.50j", (cumulativeAmount) => {
		expect(thrownBy(() => parseSessionPayload({ ...voucher, cumulativeAmount }))).toMatchObject({
			path: "cumulativeAmount",
		});
	});

	test("takes amounts up to 2^128 - 1 and timestamps up to 2^256 - 1", () => {
		const cumulativeAmount = 2n ** 128n - 1n;
		const validBefore = 2n ** 256n - 1n;
		const wire = { ...wirePayloads["voucher with topUp by authorization"], cumulativeAmount: `${cumulativeAmount}` };
		const read = parseSessionPayload(withMember(wire, ["deposit", "authorization", "validBefore"], `${validBefore}`));
		expect(read).toMatchObject({ cumulativeAmount, deposit: { authorization: { validBefore } } });
		for (const [member, value] of [
			["validBefore", 2n ** 256n],
			["value", 2n ** 128n],
		] as const) {
			const path = ["deposit", "authorization", member];
			expect(codeOf(() => parseSessionPayload(withMember(wire, path, `${value}`)))).toBe("invalid_payload");
		}
	});

	test("refuses a channelId, hash, salt or signature that is not in lowercase or of another length", () => {
		const wire = { ...open, type: "hash", hash };
		for (const name of ["channelId", "hash", "salt", "signature"] as const) {
			const value = wire[name];
			const wrong = [
				value.toUpperCase().replace("X", "x"),
				value.replace("0x", "0X"),
				value.slice(2),
				`${value}00`,
				value.slice(0, -2),
				`${value}\n`,
			];
			for (const one of wrong) {
				expect(
					thrownBy(() => parseSessionPayload({ ...wire, [name]: one })),
					one,
				).toMatchObject({ path: name });
			}
		}
	});

	test("refuses a compact 64-byte signature", () => {
		expect(codeOf(() => parseSessionPayload({ ...voucher, signature: `0x${"ab".repeat(64)}` }))).toBe(
			"invalid_payload",
		);
	});

	test.each([
		["topUp by authorization", ["authorization", "value"], "501", "additionalDeposit"],
		["topUp by permit2", ["authorization", "permitted", "amount"], "501", "additionalDeposit"],
		["topUp by permit2", ["authorization", "witness", "channelId"], hash, "channelId"],
		["open by permit2", ["authorization", "witness", "salt"], hash, "salt"],
		["open by permit2", ["authorization", "witness", "authorizedSigner"], payer, "authorizedSigner"],
		["open by permit2", ["authorizedSigner"], undefined, "authorizedSigner"],
		["voucher with open by permit2", ["deposit", "authorization", "witness", "salt"], hash, "deposit.salt"],
		["voucher with topUp by permit2", ["deposit", "authorization", "witness", "channelId"], hash, "channelId"],
	])("refuses %s whose %j says something else than the rest", (name, path, value, where) => {
		const wire = withMember({ ...wirePayloads[name] }, path, value);
		expect(thrownBy(() => parseSessionPayload(wire))).toMatchObject({ code: "invalid_payload", path: where });
	});
});
