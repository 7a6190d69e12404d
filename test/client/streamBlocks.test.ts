import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EventBlocks, joined } from "../../src/client/stream/eventBlocks.ts";
import { isPaymentEvent } from "../../src/client/stream/paymentEvents.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Cuts bytes into chunks of these lengths, again and again. */
function chunked(bytes: Uint8Array, lengths: readonly number[]): Uint8Array[] {
	const chunks: Uint8Array[] = [];
	let at = 0;
	for (let i = 0; at < bytes.length; i++) {
		const length = lengths[i % lengths.length] ?? 1;
		chunks.push(bytes.slice(at, at + length));
		at += length;
	}
	return chunks;
}

function read(chunks: readonly Uint8Array[]) {
	const blocks = new EventBlocks();
	const all = chunks.flatMap((chunk) => blocks.feed(chunk));
	const rest = blocks.end();
	return {
		bytes: decoder.decode(joined([...all.map(({ bytes }) => bytes), rest])),
		content: decoder.decode(
			joined([...all.flatMap(({ event, bytes }) => (isPaymentEvent(event) ? [] : [bytes])), rest]),
		),
		events: all.flatMap(({ event, isEvent }) => (isEvent && event !== undefined ? [event] : [])),
	};
}

const lineBreak = fc.constantFrom("\n", "\r\n", "\r");
const word = fc.string({ unit: "grapheme", maxLength: 8 }).map((text) => text.replace(/[\r\n\0\uFEFF]/g, "_"));
const field = fc.oneof(
	word.map((data) => ["data", data]),
	word.map((id) => ["id", id]),
	word.map((comment) => ["", comment]),
	fc.constantFrom("token", "payment-need-voucher", "payment-receipt").map((name) => ["event", name]),
);
const stream = fc
	.tuple(fc.array(fc.array(field, { maxLength: 4 }), { maxLength: 8 }), lineBreak, fc.boolean())
	.map(([events, br, isEnded]) => {
		const text = events
			.map((fields) => `${fields.map(([name, value]) => `${name}: ${value}${br}`).join("")}${br}`)
			.join("");
		return isEnded ? text : `${text}data: unfinished`;
	});
const lengths = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 });

describe("an event stream", () => {
	it("comes out byte for byte, however it was cut", () => {
		fc.assert(
			fc.property(stream, lengths, (text, sizes) => {
				expect(read(chunked(encoder.encode(text), sizes)).bytes).toBe(text);
			}),
		);
	});

	it("has the same events and the same content, wherever its chunks end", () => {
		fc.assert(
			fc.property(stream, lengths, (text, sizes) => {
				const whole = read([encoder.encode(text)]);
				const cut = read(chunked(encoder.encode(text), sizes));
				expect({ events: cut.events, content: cut.content }).toEqual({ events: whole.events, content: whole.content });
			}),
		);
	});

	it.each(["\n", "\r\n", "\r"])("loses nothing but its payment events, with lines that end in %j", (br) => {
		const lines = [
			"id: 1",
			"data: a",
			"",
			"event: payment-need-voucher",
			"data: {}",
			"",
			": still here",
			"",
			"data: b",
			"",
			"",
		];
		const kept = ["id: 1", "data: a", "", ": still here", "", "data: b", "", ""];
		const bytes = encoder.encode(lines.join(br));
		for (let size = 1; size <= bytes.length; size++) {
			const { content, events } = read(chunked(bytes, [size]));
			expect(content).toBe(kept.join(br));
			expect(events).toEqual([
				{ event: "message", data: "a", id: "1" },
				{ event: "payment-need-voucher", data: "{}" },
				{ event: "message", data: "b" },
			]);
		}
	});

	it("hands on an event that is too long to be held, and goes on after it", () => {
		const long = `data: ${"x".repeat(3_000_000)}\n\n`;
		const blocks = new EventBlocks();
		const out = chunked(encoder.encode(`${long}data: next\n\n`), [65_536]).flatMap((chunk) => blocks.feed(chunk));
		expect(joined(out.map(({ bytes }) => bytes))).toHaveLength(long.length + 12);
		expect(out.filter(({ isEvent }) => isEvent)).toHaveLength(2);
		expect(out.at(-1)?.event).toEqual({ event: "message", data: "next" });
	});

	it("tells how long to wait before a new connection", () => {
		expect(read([encoder.encode("retry: 1500\ndata: a\n\n")]).events).toEqual([
			{ event: "message", data: "a", retry: 1500 },
		]);
	});
});
