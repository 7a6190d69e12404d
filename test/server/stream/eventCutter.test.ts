import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EventCutter, EventTooLongError } from "../../../src/server/stream/eventCutter.ts";

const encode = (text: string) => new TextEncoder().encode(text);
const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

function cut(...chunks: string[]) {
	const cutter = new EventCutter();
	const blocks = chunks.map((chunk) => cutter.push(encode(chunk)).map(decode));
	return { blocks, rest: decode(cutter.rest()) };
}

describe("a stream of events is cut behind each empty line", () => {
	it.each([
		["whole", ["data: a\n\n"], [["data: a\n\n"]], ""],
		["two at once", ["data: a\n\ndata: b\n\n"], [["data: a\n\n", "data: b\n\n"]], ""],
		["in parts", ["da", "ta: a\n", "\nd", "ata: b"], [[], [], ["data: a\n\n"], []], "data: b"],
		["with CRLF", ["data: a\r\n\r\ndata: b\r\n\r\n"], [["data: a\r\n\r\n", "data: b\r\n\r\n"]], ""],
		["with CRLF cut in two", ["data: a\r", "\n", "\r", "\nd"], [[], [], ["data: a\r\n\r"], ["\n"]], "d"],
		["with CR", ["data: a\r\rd"], [["data: a\r\r"]], "d"],
		["one CRLF is no empty line", ["data: a\r\ndata: b\r\n"], [[]], "data: a\r\ndata: b\r\n"],
		["a comment", [": still here\n\n"], [[": still here\n\n"]], ""],
		["empty lines alone", ["\n\n\n"], [["\n", "\n", "\n"]], ""],
		["nothing", [""], [[]], ""],
	] as const)("%s", (_, chunks, blocks, rest) => {
		expect(cut(...chunks)).toEqual({ blocks, rest });
	});

	it("loses and adds no byte, and cuts at the same places wherever its chunks end", () => {
		const text = fc.array(fc.constantFrom("\n", "\r", "\r\n", "data: x", ":", "é", "\n\n"), {
			maxLength: 40,
			size: "max",
		});
		fc.assert(
			fc.property(text, fc.array(fc.nat(60), { maxLength: 10 }), (parts, at) => {
				const bytes = encode(parts.join(""));
				const ends = [...new Set(at.filter((n) => n < bytes.length))].sort((a, b) => a - b);
				const cutter = new EventCutter();
				const chunks = [0, ...ends].map((from, n) => bytes.subarray(from, ends[n] ?? bytes.length));
				const blocks = chunks.flatMap((chunk) => cutter.push(chunk));
				const rest = cutter.rest();
				expect(Buffer.concat([...blocks, rest]).equals(Buffer.from(bytes))).toBe(true);
				const whole = new EventCutter();
				const expected = whole.push(bytes).map(decode);
				// A line feed that was cut off its carriage return comes as a block of its own: it is empty.
				expect(blocks.map(decode).join("|").replaceAll("\r|\n", "\r\n")).toBe(
					expected.join("|").replaceAll("\r|\n", "\r\n"),
				);
				expect(decode(rest)).toBe(decode(whole.rest()));
			}),
			{ numRuns: 500 },
		);
	});

	it("does not hold an event for ever", () => {
		const cutter = new EventCutter();
		const chunk = new Uint8Array(1_048_576).fill(120);
		expect(() => {
			for (let n = 0; n < 9; n++) cutter.push(chunk);
		}).toThrow(EventTooLongError);
	});
});
