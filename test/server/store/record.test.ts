import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Channel } from "../../../src/server/channel.ts";
import * as record from "../../../src/server/store/record.ts";
import { CorruptRecordError } from "../../../src/server/store/store.ts";
import { channel, id, idempotency, line, proof, transaction } from "./records.ts";

const amount = fc.bigInt(0n, 2n ** 128n - 1n);
const channels: fc.Arbitrary<Channel> = fc
	.record({
		deposit: amount,
		settledOnChain: amount,
		acceptedCumulative: amount,
		spent: amount,
		publishedCumulative: amount,
		reservations: fc.dictionary(fc.uuid(), amount, { maxKeys: 3 }),
		challengeIds: fc.array(fc.string(), { maxLength: 16 }),
		closingBy: fc.option(fc.string()),
		generation: fc.maxSafeNat(),
		closeRequestedAt: fc.maxSafeNat(),
		finalized: fc.boolean(),
		lastActivityAt: fc.maxSafeNat(),
	})
	.map((change) => channel(1, change));

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
		const said = line(1, { channelId: id(1) });
		expect(record.decodeAudit("a:1", record.encodeAudit("a:1", said))).toEqual(said);
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
		expect(() => record.decodeProof("p:b", record.encodeProof("p:b", proof("a")))).toThrow(/belongs to p:a/);
	});
});
