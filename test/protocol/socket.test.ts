/** Frames of paid sockets: nothing of the application's passes for a message about the payment, and nothing is lost. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
	formatSocketControl,
	formatSocketMessage,
	parseSocketFrame,
	parseSocketRefusal,
	problem,
	type SocketMessage,
	SocketMessageError,
} from "../../src/protocol/index.ts";

const event = fc.string({ maxLength: 100 }).filter((name) => !name.startsWith("payment-") && name !== "message");
const data = fc.jsonValue({ noUnicodeString: false }).map((value) => JSON.parse(JSON.stringify(value)) as unknown);
const message: fc.Arbitrary<SocketMessage> = fc.oneof(
	fc.string({ unit: "binary" }),
	fc.uint8Array(),
	fc.record({ event, data }, { noNullPrototype: true }),
);

describe("a message of the application", () => {
	it("comes back as it was, whatever it says, and is never one about the payment", () => {
		fc.assert(
			fc.property(message, (sent) => {
				expect(parseSocketFrame(formatSocketMessage(sent))).toEqual({ kind: "message", message: sent });
			}),
		);
	});

	it("may be a text that looks like a message about the payment", () => {
		const text = formatSocketControl("payment-receipt", { spent: "1" });
		expect(parseSocketFrame(formatSocketMessage(text))).toEqual({ kind: "message", message: text });
	});

	it.each(["payment-receipt", "payment-", "payment-refund", "x".repeat(129)])("can't be called %s", (name) => {
		expect(() => formatSocketMessage({ event: name, data: 1 })).toThrow(SocketMessageError);
	});

	it("can't be what JSON can't carry", () => {
		expect(() => formatSocketMessage({ event: "x", data: undefined })).toThrow(SocketMessageError);
	});
});

describe("a message about the payment", () => {
	it("says what it is about, and whether it opens the socket", () => {
		expect(parseSocketFrame(formatSocketControl("payment-receipt", { a: 1 }, { isAdmitted: true }))).toEqual({
			kind: "control",
			event: "payment-receipt",
			data: { a: 1 },
			isAdmitted: true,
		});
		const credential = formatSocketControl("payment-authorization", "Payment x", { idempotencyKey: "k" });
		expect(JSON.parse(credential)).toEqual({
			event: "payment-authorization",
			data: "Payment x",
			idempotencyKey: "k",
		});
		expect(parseSocketFrame(credential)).toMatchObject({ data: "Payment x", idempotencyKey: "k", isAdmitted: false });
	});

	it("has challenges and a problem where it is a refusal, else it is none", () => {
		const refusal = { challenges: ["Payment a", "Payment b"], problem: problem("payment-required", "Pay.") };
		expect(parseSocketRefusal({ ...refusal, retryAfterSeconds: 5 })).toEqual({ ...refusal, retryAfterSeconds: 5 });
		expect(parseSocketRefusal({ ...refusal, challenges: "Payment a" })).toBeUndefined();
		expect(parseSocketRefusal({ challenges: [] })).toBeUndefined();
		expect(parseSocketRefusal(null)).toBeUndefined();
	});
});

it.each([
	["no JSON", "{"],
	["no object", "[]"],
	["null", "null"],
	["no event", '{"data":1}'],
	["no data", '{"event":"message"}'],
	["a reserved name", '{"event":"payment-other","data":1}'],
	["an event that is no text", '{"event":1,"data":1}'],
	["a name that is too long", JSON.stringify({ event: "x".repeat(129), data: 1 })],
])("a frame is none of ours: %s", (_, frame) => {
	expect(parseSocketFrame(frame)).toBeUndefined();
});
