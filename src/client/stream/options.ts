import { PolicyError } from "../policy.ts";

/** One Server-Sent Event. */
export type StreamEvent = Readonly<{
	/** `message` where the event has no name. */
	event: string;
	data: string;
	/** Its own id; `undefined` where it has none. */
	id?: string;
	/** How long the server asks to wait before a new connection, in ms. */
	retry?: number;
}>;

/**
 * How metered answers are paid while they are read. What a unit may cost is for `policy.maxPrice`, what a whole answer may
 * cost for `policy.maxStream`.
 *
 * @example
 * const stream: StreamOptions = { aheadUnits: 200, stepUnits: 100, unitsOf: ({ data }) => (data === "[DONE]" ? 0 : 1) };
 */
export type StreamOptions = Readonly<{
	/** How many units beyond what was delivered may be signed for: the credit that the server gets. Default 100. */
	aheadUnits?: number;
	/** Signs anew every so many units; at most `aheadUnits`, by default half of it. */
	stepUnits?: number;
	/** How many units an event is worth, as the client counts what was delivered. Default 1. */
	unitsOf?: (event: StreamEvent) => number;
	/** The same for the chunks of a body that is no event stream. Default 1, or its bytes where the server sells bytes. */
	unitsOfChunk?: (chunk: Uint8Array) => number;
	/** Whether `payment-need-voucher` and `payment-receipt` events are handed on. Default: no. */
	passPaymentEvents?: boolean;
}>;

/** Checked options. */
export type StreamSettings = Readonly<{
	aheadUnits: bigint;
	stepUnits: bigint;
	unitsOf: StreamOptions["unitsOf"];
	unitsOfChunk: StreamOptions["unitsOfChunk"];
	passPaymentEvents: boolean;
}>;

const DEFAULT_AHEAD_UNITS = 100;

/** @throws PolicyError naming the option that is wrong */
export function parseStreamOptions(options: StreamOptions = {}): StreamSettings {
	const { aheadUnits = DEFAULT_AHEAD_UNITS, unitsOf, unitsOfChunk, passPaymentEvents = false } = options;
	const { stepUnits = Math.ceil(aheadUnits / 2) } = options;
	if (!Number.isSafeInteger(aheadUnits) || aheadUnits < 1)
		throw new PolicyError("stream.aheadUnits: give a whole number from 1 on");
	if (!Number.isSafeInteger(stepUnits) || stepUnits < 1 || stepUnits > aheadUnits)
		throw new PolicyError("stream.stepUnits: give a whole number from 1 to aheadUnits");
	return { aheadUnits: BigInt(aheadUnits), stepUnits: BigInt(stepUnits), unitsOf, unitsOfChunk, passPaymentEvents };
}
