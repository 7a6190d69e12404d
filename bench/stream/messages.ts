/** What the processes of this bench tell each other. */
import type { Hex } from "viem";
import type { EvmPrice } from "../../src/server/index.ts";
import type { Round } from "../lib/round.ts";
import type { Place } from "../lib/stage.ts";

/** What one unit costs, in base units. */
export const PRICE = 100n;

/**
 * How an answer is made, and what it charges. Free: the same events from the same Fastify, and Sluice has no part in it. Paced:
 * each event has a pause before it, as those of a model have, and leaves alone; the others are made as fast as they go.
 */
export type Mode = "unit" | "four" | "byte" | "free" | "paced" | "freePaced";

export type ModeOf = Readonly<{
	path: string;
	/** What an event of the answer costs. */
	unitsPerEvent: number;
	/** How the route is metered; absent where it is free. */
	metered?: EvmPrice["metered"];
	/** What a client signs for beyond what it has got, and how much more each time, in units. */
	ahead: number;
	step: number;
	isPaced: boolean;
	label: string;
}>;

/** All events have as many characters: bytes are units as well. */
export const EVENT_BYTES = eventOf(1).length;

/** Blocks, and what is signed ahead and at a time, are what both packages do by default; of bytes as many times as much. */
const BY_DEFAULT = { unitsPerEvent: 1, metered: true, ahead: 100, step: 50, isPaced: false } as const;
const FREE = { unitsPerEvent: 1, ahead: 0, step: 0, isPaced: false } as const;

export const MODES: Readonly<Record<Mode, ModeOf>> = {
	unit: { ...BY_DEFAULT, path: "/unit", label: "one unit an event" },
	four: { ...BY_DEFAULT, path: "/four", unitsPerEvent: 4, label: "four units an event" },
	byte: {
		path: "/byte",
		unitsPerEvent: EVENT_BYTES,
		metered: { per: "byte", blockUnits: 32 * EVENT_BYTES, estimateUnits: EVENT_BYTES },
		ahead: 100 * EVENT_BYTES,
		step: 50 * EVENT_BYTES,
		isPaced: false,
		label: "by the byte",
	},
	free: { ...FREE, path: "/free", label: "the same events, unpaid" },
	paced: { ...BY_DEFAULT, path: "/paced", isPaced: true, label: "one unit an event, each at its own time" },
	freePaced: { ...FREE, path: "/free-paced", isPaced: true, label: "the same events at theirs, unpaid" },
};

/** As a text: the handlers give it away as an event, the load counts it. */
export function eventOf(number: number): string {
	return `data: ${dataOf(number)}\n\n`;
}

export function dataOf(number: number): string {
	return `token ${String(number).padStart(7, "0")}`;
}

/** What all streams of a round do. */
export type Plan = Readonly<{
	mode: Mode;
	/** How many at once, each on a channel of its own. */
	streams: number;
	/** How many events each has. */
	events: number;
	/** Before each event of one that is paced, in ms. */
	pauseMs: number;
}>;

export type ServerStart = Readonly<{ place: Place; folder: string; fsync?: boolean }>;
export type ServerInfo = Readonly<{ port: number }>;

/** `left`: what is there of earlier streams. */
export type ServerOrder = Readonly<{ begin: Plan }> | "end" | "left";

/** Memory of the server after a collection, with all streams open. Bytes. */
export type Sample = Readonly<{ heap: number; rss: number }>;

/** Of a round, in units; what was spent on each channel, in base units, is of all rounds together. */
export type Served = Round & Readonly<{ before: Sample; after: Sample; spent: ReadonlyMap<Hex, bigint> }>;

/** What the engine holds on to when no stream runs any more. */
export type Left = Round & Readonly<{ meters: number; bodies: number; waiting: number; streams: number }>;

export type LoadStart = Readonly<{ place: Place; port: number }>;

/** Vouchers are signed before the clock runs. */
export type LoadOrder = Readonly<{ prepare: Plan }> | "read";

/** One stream as its client has it. Amounts in base units, of all rounds together. */
export type Delivered = Readonly<{
	channelId: Hex;
	events: number;
	signed: bigint;
	/** Of the receipt that the stream ends with. */
	units: number;
	spent: bigint;
}>;

export type Read = Round & Readonly<{ streams: readonly Delivered[] }>;
