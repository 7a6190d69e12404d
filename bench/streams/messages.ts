/** What the bench, its server and its load, a process each, say to each other. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import type { Address, Hex } from "viem";

/** What one unit costs, in base units. */
export const PRICE = 100n;

/** What a run does. */
export type Plan = Readonly<{
	/** How many streams run at once, each on a channel of its own. */
	streams: number;
	/** Streams go on for so long after the last one has begun; 0: until they have sent `pieces`. */
	seconds: number;
	/** How many pieces a stream sends; 0: as many as come in `seconds`. */
	pieces: number;
	/** Pause before each piece, in ms. */
	pauseMs: number;
	/** A voucher pays for so many pieces. */
	step: number;
	/** What the payer signs for beyond what it has got, in pieces. */
	ahead: number;
	/** How long each voucher is held back before it is sent, in ms, so that its stream waits for it when it comes. */
	lateMs: number;
	/** How many units the server reserves at a time. */
	blockUnits: number;
}>;

export type Place = Readonly<{ rpcUrl: string; chainId: number; token: Address; escrow: Address }>;

/** What all orders are answered with is in `Answers`, by their name. */
export type Order =
	| Readonly<{ order: "listen"; place: Place; plan: Plan; folder: string; privateKey: Hex; secret: string }>
	| Readonly<{ order: "open"; place: Place; plan: Plan; url: string; payers: readonly Hex[]; deposit: bigint }>
	| Readonly<{ order: "stream" }>
	| Readonly<{ order: "count" }>
	| Readonly<{ order: "figures" }>
	| Readonly<{ order: "spent" }>
	| Readonly<{ order: "stop" }>;

export type Answers = {
	listen: Readonly<{ url: string }>;
	open: Readonly<{ seconds: number }>;
	stream: Readonly<{ channels: readonly Delivered[]; samples: readonly Sample[]; cpuShare: number }>;
	count: Counts;
	figures: ServerFigures;
	spent: ReadonlyMap<Hex, bigint>;
	stop: Readonly<{ stopped: true }>;
};

/** One channel as its payer has it at the end. */
export type Delivered = Readonly<{
	channelId: Hex;
	/** Pieces that were read. */
	pieces: number;
	/** What the payer's own book says, in base units. */
	consumed: bigint;
	signed: bigint;
}>;

/** Memory of a process. Bytes. */
export type Sample = Readonly<{
	/** Since the measuring began. */
	atMs: number;
	rss: number;
	/** After a forced collection, where there was one. */
	heap?: number;
}>;

/** What is there of what streams are made of, after a collection. */
export type Counts = Readonly<{
	/** Objects of the engine's: meters, bodies, and those who wait for a voucher, streams of channels. */
	meters: number;
	bodies: number;
	waiting: number;
	streams: number;
	/** Of the platform's: all timers, those that keep the process alive, abort signals, sockets. */
	timers: number;
	activeTimers: number;
	abortSignals: number;
	sockets: number;
}>;

export type ServerFigures = Readonly<{
	/** From each voucher's arrival to when the stream that waited for it went on. ms. */
	delaysMs: readonly number[];
	/** Waits that needed a voucher, all streams together. */
	waits: number;
	/** How many listen to the end of one meter: after a stream's first wait, and the most at any time. */
	listenersAtFirst: number;
	listenersAtMost: number;
	piecesPerSecond: number;
	loopDelayP99Ms: number;
	samples: readonly Sample[];
	/** How much of one processor the process has had. */
	cpuShare: number;
}>;

/** Gives an order to a child process; resolves to its answer. One at a time. */
export async function ask<O extends Order["order"]>(
	child: ChildProcess,
	order: Extract<Order, { order: O }>,
): Promise<Answers[O]> {
	const ended = new AbortController();
	const answered = once(child, "message", { signal: ended.signal });
	const gone = once(child, "exit", { signal: ended.signal }).then(() => {
		throw new Error(`the bench's process ended at "${order.order}"`);
	});
	child.send(order);
	try {
		const [answer] = await Promise.race([answered, gone]);
		if (typeof answer === "object" && answer !== null && "error" in answer) throw new Error(String(answer.error));
		return answer as Answers[O];
	} finally {
		ended.abort();
		answered.catch(() => undefined);
		gone.catch(() => undefined);
	}
}

/** Carries out what this process is told. */
export function obey(work: (order: Order) => Promise<Answers[keyof Answers]>): void {
	process.on("message", (order: Order) => {
		work(order).then(
			(answer) => process.send?.(answer),
			(error: unknown) => process.send?.({ error: error instanceof Error ? (error.stack ?? error.message) : error }),
		);
	});
}
