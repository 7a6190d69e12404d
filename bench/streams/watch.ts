/** What the bench's server sees of its own streams. */
import { getEventListeners } from "node:events";
import { queryObjects } from "node:v8";
import type { Hex } from "viem";
import { parseCredential, parseSessionPayload } from "../../src/protocol/index.ts";
import type { Meter } from "../../src/server/index.ts";
import { SessionMeter } from "../../src/server/session/sessionMeter.ts";
import { MeteredBody } from "../../src/server/stream/body.ts";
import { RunningStreams } from "../../src/server/stream/running.ts";
import { Wakes } from "../../src/server/stream/wakes.ts";
import { type Counts, PRICE } from "./messages.ts";

type Watched = {
	/** The highest voucher that has come, in units. */
	paidUnits: number;
	/** The unit that the stream has asked for, and has not got. */
	asked: number | undefined;
	/** When the voucher came that the stream waits for. */
	arrivedAt: number | undefined;
};

/**
 * Times each wait for a voucher: from when the request that carries it is handed to the application, its head read, to when
 * the handler goes on. Between them are the check of its signature, one write of the ledger to disk for the voucher and one
 * for the next block, and whatever else the process has to do.
 */
export class WaitTimes {
	readonly delaysMs: number[] = [];
	waits = 0;
	listenersAtFirst = 0;
	listenersAtMost = 0;
	readonly #channels = new Map<string, Watched>();

	/** A request came with a credential. */
	arrived(authorization: string | undefined): void {
		const at = performance.now();
		if (authorization === undefined) return;
		const payload = parseSessionPayload(parseCredential(authorization).payload);
		if (!("cumulativeAmount" in payload)) return;
		const watched = this.#of(payload.channelId);
		const units = Number(payload.cumulativeAmount / PRICE);
		const { asked, paidUnits } = watched;
		if (asked !== undefined && asked > paidUnits && asked <= units) watched.arrivedAt ??= at;
		if (units > paidUnits) watched.paidUnits = units;
	}

	/** Charges one unit, the `unit`th of the channel. */
	async charge(meter: Meter, channelId: Hex, unit: number): Promise<void> {
		const watched = this.#of(channelId);
		watched.asked = unit;
		const isWait = unit > watched.paidUnits;
		await meter.charge(1);
		watched.asked = undefined;
		if (!isWait) return;
		this.waits++;
		const { arrivedAt } = watched;
		watched.arrivedAt = undefined;
		if (arrivedAt !== undefined) this.delaysMs.push(performance.now() - arrivedAt);
		const listeners = getEventListeners(meter.signal, "abort").length;
		if (this.listenersAtFirst === 0) this.listenersAtFirst = listeners;
		if (listeners > this.listenersAtMost) this.listenersAtMost = listeners;
	}

	#of(channelId: string): Watched {
		let watched = this.#channels.get(channelId);
		if (watched === undefined) {
			watched = { paidUnits: 0, asked: undefined, arrivedAt: undefined };
			this.#channels.set(channelId, watched);
		}
		return watched;
	}
}

const wakes = new Set<Wakes>();
const running = new Set<RunningStreams>();

/** The engine keeps these to itself: they are met where they are used. */
export function watchEngines(): void {
	const { listen } = Wakes.prototype;
	Wakes.prototype.listen = function (...args) {
		wakes.add(this);
		return listen.apply(this, args);
	};
	const { begin } = RunningStreams.prototype;
	RunningStreams.prototype.begin = function (...args) {
		running.add(this);
		return begin.apply(this, args);
	};
}

const timer = setTimeout(() => undefined, 0);
clearTimeout(timer);
const Timeout = timer.constructor as new () => NodeJS.Timeout;

const alive = (kind: abstract new (...args: never) => object) =>
	queryObjects(kind as new () => object, { format: "count" });

/** Counts what is still reachable: after a collection, in the whole heap. */
export function count(): Counts {
	const active = process.getActiveResourcesInfo();
	const of = (type: string) => active.filter((one) => one === type).length;
	const sizes = (sets: Iterable<Readonly<{ size: number }>>) => [...sets].reduce((sum, { size }) => sum + size, 0);
	return {
		meters: alive(SessionMeter),
		bodies: alive(MeteredBody),
		waiting: sizes(wakes),
		streams: sizes(running),
		timers: alive(Timeout),
		activeTimers: of("Timeout"),
		abortSignals: alive(AbortSignal),
		sockets: of("TCPSocketWrap"),
	};
}
