import fc from "fast-check";
import { bytesToHex, type Hex } from "viem";
import { describe, expect, it } from "vitest";
import type { ChainState, Channel } from "../../../src/server/channel.ts";
import { seal } from "../../../src/server/store/frame.ts";
import * as record from "../../../src/server/store/record.ts";
import { CorruptRecordError, datedProof } from "../../../src/server/store/store.ts";
import { ZERO_ADDRESS } from "../../../src/voucher/index.ts";
import { channel, id, idempotency, line, proof, receipt, transaction } from "./records.ts";

const amount = fc.bigInt(0n, 2n ** 128n - 1n);
const chainState: fc.Arbitrary<ChainState> = fc.record({
	deposit: amount,
	settledOnChain: amount,
	closeRequestedAt: fc.maxSafeNat(),
	finalized: fc.boolean(),
	blockNumber: fc.maxSafeNat(),
});
/** As nearly all of it is, and as it may be: digits of either case, an odd number of them, a contract's long signature. */
const anyHex = fc.oneof(
	fc.uint8Array({ maxLength: 70, size: "max" }).map((bytes) => bytesToHex(bytes)),
	fc.uint8Array({ minLength: 250, maxLength: 400, size: "max" }).map((bytes) => bytesToHex(bytes)),
	fc.stringMatching(/^[0-9a-fA-F]{0,9}$/).map((digits): Hex => `0x${digits}`),
);
const channels: fc.Arbitrary<Channel> = fc
	.record({
		escrow: anyHex,
		payer: anyHex,
		payee: anyHex,
		token: anyHex,
		authorizedSigner: fc.oneof(anyHex, fc.constant(ZERO_ADDRESS)),
		voucherSignature: anyHex,
		closeTxHash: fc.option(anyHex),
		chainReadAt: fc.maxSafeNat(),
		openedAt: fc.maxSafeNat(),
		chain: chainState,
		behind: fc.option(chainState),
		contractSigner: fc.boolean(),
		unsettledSince: fc.option(fc.maxSafeNat()),
		deferredAt: fc.maxSafeNat(),
		acceptedCumulative: amount,
		spent: amount,
		publishedCumulative: amount,
		reservations: fc.dictionary(fc.uuid(), amount, { maxKeys: 3 }),
		challengeIds: fc.array(fc.string(), { maxLength: 16, size: "max" }),
		closingBy: fc.option(fc.string()),
		generation: fc.maxSafeNat(),
		lastActivityAt: fc.maxSafeNat(),
	})
	.map(({ chain, ...change }) => channel(1, { ...chain, ...change }));

const KEY = `c:${id(1)}`;

describe("a stored record", () => {
	it("is read back as it was written", () => {
		fc.assert(
			fc.property(channels, (one) => {
				expect(record.decodeChannel(KEY, record.encodeChannel(KEY, one))).toEqual(one);
			}),
		);
		const body = Uint8Array.of(0, 255, 10).subarray(1);
		const answer = idempotency("k", { response: { status: 200, headers: { a: "b" }, body } });
		expect(record.decodeIdempotency("i:k", record.encodeIdempotency("i:k", answer))).toEqual(answer);
		const used = proof("p", { reference: "r", expiresAt: 5 });
		expect(record.decodeProof("p:p", record.encodeProof("p:p", used))).toEqual(used);
		const sent = transaction(3, { purpose: { kind: "settle", to: "x" } });
		expect(record.decodeOutbox(`o:${id(3)}`, record.encodeOutbox(`o:${id(3)}`, sent))).toEqual(sent);
		const concluded = transaction(3, {
			state: "confirmed",
			fees: { maxFeePerGas: "10", maxPriorityFeePerGas: "1" },
			feeLimit: "30",
			bids: [{ hash: id(4), raw: "0x03", maxFeePerGas: "20", maxPriorityFeePerGas: "2", signedAt: 5 }],
			minedIn: { blockNumber: 7, blockHash: id(7), transactionHash: id(4), final: false },
		});
		expect(record.decodeOutbox(`o:${id(3)}`, record.encodeOutbox(`o:${id(3)}`, concluded))).toEqual(concluded);
		const said = line(1, { channelId: id(1) });
		expect(record.decodeAudit("a:1", record.encodeAudit("a:1", said))).toEqual(said);
	});

	it("of an earlier release is read with what it lacked as it then was", () => {
		// As written by release 0.1.0.
		const old = {
			channelId: id(1),
			chainId: 31_337,
			escrow: `0x${"e5".repeat(20)}`,
			payer: `0x${"aa".repeat(20)}`,
			payee: `0x${"bb".repeat(20)}`,
			token: `0x${"cc".repeat(20)}`,
			authorizedSigner: `0x${"00".repeat(20)}`,
			deposit: "1000",
			settledOnChain: "10",
			closeRequestedAt: 5,
			finalized: false,
			chainReadAt: 1_700_000_000_000,
			acceptedCumulative: "10",
			voucherSignature: `0x${"5a".repeat(65)}`,
			spent: "8",
			reservations: { another: "2" },
			generation: 3,
			publishedCumulative: null,
			challengeIds: ["a"],
			closeTxHash: null,
			closingBy: null,
			openedAt: 1_700_000_000_000,
			lastActivityAt: 1_700_000_000_000,
		};
		expect(record.decodeChannel(KEY, seal(KEY, old))).toEqual(
			channel(1, {
				deposit: 1_000n,
				settledOnChain: 10n,
				closeRequestedAt: 5,
				acceptedCumulative: 10n,
				spent: 8n,
				reservations: { another: 2n },
				generation: 3,
				challengeIds: ["a"],
				blockNumber: 0,
				behind: null,
				contractSigner: false,
				unsettledSince: null,
				deferredAt: 0,
			}),
		);
		const { hash, raw, chainId, from, nonce, purpose, createdAt } = transaction(3);
		const sent = { hash, raw, chainId, from, nonce, purpose, state: "confirmed", createdAt };
		expect(record.decodeOutbox(`o:${id(3)}`, seal(`o:${id(3)}`, sent))).toEqual(sent);
	});

	it("of a channel from before hex was packed is read", () => {
		const change = {
			settledOnChain: 7n,
			blockNumber: 12,
			behind: { deposit: 5n, settledOnChain: 1n, closeRequestedAt: 2, finalized: true, blockNumber: 11 },
			reservations: { another: 2n },
			publishedCumulative: 9n,
			challengeIds: ["a", ""],
			closeTxHash: id(5),
			closingBy: "process",
			unsettledSince: 1_700_000_000_001,
			deferredAt: 4,
		};
		const one = channel(1, change);
		const row = [
			...[one.chainId, one.escrow, one.payer, one.payee, one.token, one.authorizedSigner],
			[String(one.deposit), "7", 0, false, 12],
			one.chainReadAt,
			["5", "1", 2, true, 11],
			...[String(one.acceptedCumulative), one.voucherSignature, false, String(one.spent), { another: "2" }, 0, "9"],
			...[["a", ""], id(5), "process", one.openedAt, one.lastActivityAt, 1_700_000_000_001, 4],
		];
		expect(row).toHaveLength(23);
		expect(record.decodeChannel(KEY, seal(KEY, row))).toEqual(one);
		for (const at of row.keys())
			if (at !== 11) {
				const decode = () => record.decodeChannel(KEY, seal(KEY, row.with(at, true)));
				expect(decode, `value ${at}`).toThrow(/wrong shape/);
			}
	});

	it("of a channel is refused where its hex can't have been packed so, or a time is beyond any (I10)", () => {
		const one = channel(1, { closeTxHash: id(5), unsettledSince: 1_700_000_000_001 });
		const row = JSON.parse(record.encodeChannel(KEY, one).slice("1 01234567 ".length)) as unknown[];
		const decode = (at: number, value: unknown) => () => record.decodeChannel(KEY, seal(KEY, row.with(at, value)));
		expect(row[5]).toBe(0);
		for (const at of [1, 2, 3, 4, 5, 14, 21]) {
			for (const wrong of ["=text", "0xdeadbeef", "!!!!", "a", "é", "x".repeat(400)])
				expect(decode(at, wrong), `value ${at} as ${wrong}`).toThrow(/wrong shape/);
		}
		for (const at of [11, 24, 25]) expect(decode(at, Number.MAX_SAFE_INTEGER), `value ${at}`).toThrow(/wrong shape/);
	});

	it("of a channel takes half of the bytes that it would with names and hex, and of a used credential no more than its key", () => {
		const ids = ["6YfAbz3d607QE2IXaYwzy52RKm9YOhhkUsaQ4ZZQinc", "uXfyClZhVGHEx0y9ZFraE_WOF2LYajUdrspZyaVcbgk"];
		const signed = channel(1, { challengeIds: ids, authorizedSigner: `0x${"51".repeat(20)}` });
		const named = JSON.stringify(signed, (_, value) => (typeof value === "bigint" ? String(value) : value));
		expect(record.encodeChannel(KEY, signed).length).toBeLessThan(named.length / 2);
		const key = datedProof(1_700_000_000_000, `credential:${"k".repeat(43)}`);
		const used = proof(key, { usedBy: id(1), expiresAt: 1_700_000_000_000 });
		const text = record.encodeProof(`p:${key}`, used);
		expect(text.length).toBeLessThan(key.length);
		expect(record.decodeProof(`p:${key}`, text)).toEqual(used);
	});

	it("of a proof is read back whoever used it, dated or not, with a reference or without one (I4)", () => {
		fc.assert(
			fc.property(
				fc.record(
					{
						usedBy: fc.oneof(anyHex, fc.string()),
						reference: fc.string(),
						state: fc.constantFrom("held", "paid", "used"),
					},
					{ requiredKeys: ["usedBy"] },
				),
				fc.option(fc.maxSafeNat()),
				fc.boolean(),
				(change, expiresAt, isDated) => {
					const key = isDated && expiresAt !== null ? datedProof(expiresAt, "credential:x") : "p";
					const one = proof(key, { ...change, expiresAt });
					expect(record.decodeProof(`p:${key}`, record.encodeProof(`p:${key}`, one))).toEqual(one);
				},
			),
		);
		// Before hex was packed.
		for (const [row, change] of [
			[["used", "process", id(1), 5], { expiresAt: 5 }],
			[["held", "process", id(1), null, "r"], { state: "held", reference: "r" }],
		] as const)
			expect(record.decodeProof("p:p", seal("p:p", row))).toEqual(proof("p", { usedBy: id(1), ...change }));
	});

	it("of a channel that has another shape is refused, whichever value it is (I10)", () => {
		const row = JSON.parse(record.encodeChannel(KEY, channel(1)).slice("1 01234567 ".length)) as unknown[];
		const decode = (other: readonly unknown[]) => record.decodeChannel(KEY, seal(KEY, other));
		expect(decode(row)).toEqual(channel(1));
		for (const [at, value] of row.entries()) {
			for (const wrong of [-1.5, { other: 1 }, [1], ...(value === null ? [] : [null])])
				expect(() => decode(row.with(at, wrong)), `value ${at} as ${JSON.stringify(wrong)}`).toThrow(/wrong shape/);
		}
		for (const other of [[], row.slice(1), [...row, 0]]) expect(() => decode(other)).toThrow(/wrong shape/);
	});

	it("of a proof that has another shape is refused, whichever value it is (I4)", () => {
		const used = proof("p", { reference: "r", expiresAt: 5 });
		const row = JSON.parse(record.encodeProof("p:p", used).slice("1 01234567 ".length)) as unknown[];
		const decode = (other: readonly unknown[]) => record.decodeProof("p:p", seal("p:p", other));
		expect(decode(row)).toEqual(used);
		for (const at of row.keys()) {
			for (const wrong of [-1.5, {}, ["used"], true])
				expect(() => decode(row.with(at, wrong)), `value ${at} as ${wrong}`).toThrow(/wrong shape/);
		}
		for (const other of [[], row.slice(2), [...row, 0], ["lost", ...row.slice(1)]])
			expect(() => decode(other)).toThrow(/wrong shape/);
		const named = { key: "p", state: "used", owner: "process", usedBy: "payer", reference: "r", expiresAt: 5 };
		expect(record.decodeProof("p:p", seal("p:p", named))).toEqual(used);
	});

	it("of an answer that has another shape is refused, whichever value it is (I6)", () => {
		const answer = idempotency("k", {
			paidBy: "p",
			response: { status: 200, headers: { a: "b", c: ["d", "e"] }, body: Uint8Array.of(0, 255) },
		});
		const row = JSON.parse(record.encodeIdempotency("i:k", answer).slice("1 01234567 ".length)) as unknown[];
		const decode = (other: readonly unknown[]) => record.decodeIdempotency("i:k", seal("i:k", other));
		expect(decode(row)).toEqual(answer);
		for (const at of row.keys()) {
			for (const wrong of [-1.5, {}, ["done"], true])
				expect(() => decode(row.with(at, wrong)), `value ${at} as ${wrong}`).toThrow(/wrong shape/);
		}
		for (const response of [
			[200, {}],
			[200, { a: 1 }, null],
			[200, {}, "*"],
			[0.5, {}, null],
			[-5, {}, null],
			[200, {}, null, 1],
		])
			expect(() => decode(row.with(5, response))).toThrow(/wrong shape/);
		for (const other of [[], row.slice(0, 4), [...row, 0]]) expect(() => decode(other)).toThrow(/wrong shape/);
		const { body, ...head } = answer.response as NonNullable<typeof answer.response>;
		const named = { ...answer, response: { ...head, body: Buffer.from(body as Uint8Array).toString("base64") } };
		expect(record.decodeIdempotency("i:k", seal("i:k", named))).toEqual(answer);
		const running = idempotency("k");
		expect(record.decodeIdempotency("i:k", record.encodeIdempotency("i:k", running))).toEqual(running);
	});

	it("of an answer with a session's receipt is read back with it, and refused where a value of it is another (I6)", () => {
		for (const change of [{}, { units: 2.5, txHash: id(7), confirmations: 3 }]) {
			const response = { status: 200, headers: { a: "b" }, body: null, receipt: receipt(1, change) };
			const answer = idempotency("k", { response });
			const framed = record.encodeIdempotency("i:k", answer);
			expect(record.decodeIdempotency("i:k", framed)).toEqual(answer);
			const row = JSON.parse(framed.slice("1 01234567 ".length)) as unknown[];
			const [, , , values] = row[5] as [number, object, null, unknown[]];
			expect(values).toHaveLength(7);
			for (const [at, wrong] of values.flatMap((_, place) =>
				[-1, true, null, "x", ""].map((one) => [place, one] as const),
			)) {
				// Any text may name a challenge.
				if (at === 1 && wrong === "x") continue;
				const other = row.with(5, [200, { a: "b" }, null, values.with(at, wrong)]);
				expect(() => record.decodeIdempotency("i:k", seal("i:k", other)), `${at}: ${wrong}`).toThrow(/wrong shape/);
			}
		}
	});

	it("of a channel with an amount or a time that is none is refused when it is written (I10)", () => {
		const { deposit, settledOnChain, closeRequestedAt, finalized, blockNumber } = channel(1);
		const chain = { deposit, settledOnChain, closeRequestedAt, finalized, blockNumber };
		const wrong: Partial<Channel>[] = [
			{ blockNumber: -1 },
			{ blockNumber: 0.5 },
			{ deferredAt: Number.NaN },
			{ unsettledSince: -1 },
			{ behind: { ...chain, deposit: -1n } },
			{ behind: { ...chain, blockNumber: Number.POSITIVE_INFINITY } },
		];
		for (const change of wrong) expect(() => record.encodeChannel(KEY, channel(1, change))).toThrow(RangeError);
	});

	it("is refused when any character of it is another (I10)", () => {
		const text = record.encodeChannel(KEY, channel(1, { spent: 123n }));
		fc.assert(
			fc.property(fc.nat(text.length - 1), fc.integer({ min: 32, max: 126 }), (at, code) => {
				const other = text.slice(0, at) + String.fromCharCode(code) + text.slice(at + 1);
				if (other !== text) expect(() => record.decodeChannel(KEY, other)).toThrow(CorruptRecordError);
			}),
		);
	});

	it("is refused when it is cut off (I10)", () => {
		const text = record.encodeChannel(KEY, channel(1));
		for (let length = 0; length < text.length; length += 7) {
			expect(() => record.decodeChannel(KEY, text.slice(0, length))).toThrow(CorruptRecordError);
		}
	});

	it("is refused in another record's place (I10)", () => {
		const text = record.encodeProof("p:a", proof("a"));
		expect(() => record.decodeProof("p:b", text)).toThrow(/checksum/);
		expect(() => record.decodeProof("p:b", seal("p:b", proof("a")))).toThrow(/belongs to p:a/);
		const answer = record.encodeIdempotency("i:a", idempotency("a"));
		expect(() => record.decodeIdempotency("i:b", answer)).toThrow(/checksum/);
		expect(() => record.decodeIdempotency("i:b", seal("i:b", idempotency("a")))).toThrow(/belongs to i:a/);
	});
});
