/** What the processes of one agent tell each other about their wallet: one JSON object a line, amounts as decimal strings. */
import * as z from "zod";
import { bytes32Shape, sumShape } from "../shapes.ts";
import { SignedLoweredError } from "../store/holds.ts";
import { channelShape, paymentShape, receiptShape, rowShape } from "../store/records.ts";
import {
	type CounterRefusal,
	type DamagedChannel,
	type HeldChannel,
	HolderLostError,
	type ListedChannel,
	PausedError,
	PayerStoreError,
} from "../store/store.ts";

/** Rises when a message changes. Processes of different versions don't share a wallet at the same time. */
export const WIRE_VERSION = 2;
/** How many calls one holder may wait for at a time. */
export const MAX_CALLS = 1_024;
/** The longest that anybody waits for a channel. */
export const MAX_WAIT_MS = 600_000;

const amount = sumShape.transform(BigInt);
const text = z.string().max(10_000);
const fence = z.int().positive();
const waitMs = z.int().nonnegative().max(MAX_WAIT_MS);
const held: z.ZodType<HeldChannel> = rowShape;
const none = z.null();

/** A channel that a holder has, as it tells the next owner. */
const announced = z.strictObject({ channelId: bytes32Shape, fence });
export type Announced = z.output<typeof announced>;

/** How every connection begins, so that other versions are known as such. */
export const greetingShape = z.looseObject({ wallet: z.int() });

/** A holder asks to be let in. */
export const helloShape = z.strictObject({
	wallet: z.literal(WIRE_VERSION),
	token: text,
	holder: z.string().min(1).max(200),
	held: z.array(announced).max(100_000),
});
export type Hello = z.output<typeof helloShape>;

/** The owner lets it in. */
export const welcomeShape = z.strictObject({ wallet: z.literal(WIRE_VERSION), answer: text });

const counter = z.strictObject({
	key: text,
	add: amount,
	max: amount.exactOptional(),
	untilMs: z.int().nonnegative().exactOptional(),
});

/** What a holder asks of the owner. Each has an answer of the same `id`. */
export const callShape = z.discriminatedUnion("call", [
	z.strictObject({ call: z.literal("take"), key: text, waitMs }),
	z.strictObject({ call: z.literal("takeById"), channelId: bytes32Shape, waitMs }),
	z.strictObject({ call: z.literal("add"), record: channelShape, max: z.int() }),
	z.strictObject({
		call: z.literal("write"),
		channel: held.exactOptional(),
		counters: z.array(counter).max(1_000).exactOptional(),
		isSpending: z.boolean().exactOptional(),
	}),
	z.strictObject({ call: z.literal("confirm"), channelId: bytes32Shape, fence }),
	z.strictObject({ call: z.literal("release"), channelId: bytes32Shape, fence }),
	z.strictObject({ call: z.literal("list"), isClosed: z.boolean().exactOptional() }),
	z.strictObject({ call: z.literal("damaged") }),
	z.strictObject({ call: z.literal("counts"), keys: z.array(text).max(10_000) }),
	z.strictObject({ call: z.literal("note"), receipt: receiptShape }),
	z.strictObject({ call: z.literal("receipts"), limit: z.int().nonnegative().exactOptional() }),
	z.strictObject({ call: z.literal("keepPayment"), key: text, payment: paymentShape }),
	z.strictObject({ call: z.literal("takePayment"), key: text, named: text.exactOptional() }),
	z.strictObject({ call: z.literal("freePayment"), key: text, id: bytes32Shape }),
	z.strictObject({ call: z.literal("dropPayment"), key: text, id: bytes32Shape }),
	z.strictObject({ call: z.literal("setPaused"), reason: text.nullable() }),
	z.strictObject({ call: z.literal("paused") }),
	/** The holder goes, and gives everything back. */
	z.strictObject({ call: z.literal("leave") }),
]);
export type Call = z.output<typeof callShape>;

const listed: z.ZodType<ListedChannel> = z.strictObject({ record: channelShape, isHeld: z.boolean() });
const damaged: z.ZodType<DamagedChannel> = z.strictObject({ channelId: bytes32Shape, reason: text });
const refusal: z.ZodType<CounterRefusal> = z.strictObject({ key: text, current: amount, max: amount });

/** The answers. */
export const answerShapes = {
	held: held.nullable(),
	refusal: refusal.nullable(),
	none,
	listed: z.array(listed),
	damaged: z.array(damaged),
	counts: z.array(amount),
	receipts: z.array(receiptShape),
	payment: paymentShape.nullable(),
	paused: text.nullable(),
} as const;

/** From a holder to the owner, once it is let in. */
export const fromHolderShape = z.union([
	z.strictObject({ id: z.int(), ask: z.unknown() }),
	/** Nobody waits for this call's answer any more. */
	z.strictObject({ cancel: z.int() }),
	z.strictObject({ pong: z.literal(true) }),
]);

const faultShape = z.discriminatedUnion("code", [
	z.strictObject({ code: z.literal("HOLDER_LOST"), channelId: bytes32Shape }),
	z.strictObject({ code: z.literal("PAUSED"), reason: text }),
	z.strictObject({ code: z.literal("SIGNED_LOWERED"), channelId: bytes32Shape, kept: text, given: text }),
	z.strictObject({ code: z.literal("PAYER_STORE"), message: text }),
]);
export type Fault = z.output<typeof faultShape>;

/** From the owner to a holder. A long list comes in parts, the last one as the answer. */
export const fromOwnerShape = z.union([
	z.strictObject({ id: z.int(), part: z.array(z.unknown()) }),
	z.strictObject({ id: z.int(), answer: z.unknown() }),
	z.strictObject({ id: z.int(), fault: faultShape }),
	z.strictObject({ wanted: bytes32Shape }),
	z.strictObject({ ping: z.literal(true) }),
]);

export type FromOwner = z.output<typeof fromOwnerShape>;

/** Amounts of any depth as decimal strings. */
export function plain(value: unknown): unknown {
	return JSON.parse(JSON.stringify(value, (_, part) => (typeof part === "bigint" ? String(part) : part)) ?? "null");
}

/** What a holder is told of an error. What the error of something else says stays here: it may say too much. */
export function faultOf(error: unknown): Fault {
	if (error instanceof HolderLostError) return { code: "HOLDER_LOST", channelId: error.channelId };
	if (error instanceof PausedError) return { code: "PAUSED", reason: error.reason };
	if (error instanceof PayerStoreError) return { code: "PAYER_STORE", message: error.message };
	if (error instanceof SignedLoweredError) {
		const { channelId, kept, given } = error;
		return { code: "SIGNED_LOWERED", channelId, kept, given };
	}
	const name = error instanceof Error ? error.name : "an error";
	return { code: "PAYER_STORE", message: `the wallet's store can't do that (${name})` };
}

/** The error that a holder throws. */
export function errorOf(fault: Fault): Error {
	switch (fault.code) {
		case "HOLDER_LOST":
			return new HolderLostError(fault.channelId);
		case "PAUSED":
			return new PausedError(fault.reason);
		case "SIGNED_LOWERED":
			return new SignedLoweredError(fault.channelId, fault.kept, fault.given);
		default:
			return new PayerStoreError(fault.message);
	}
}
