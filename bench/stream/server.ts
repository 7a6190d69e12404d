/** The server whose streams are paid for, Fastify in a process of its own. */
import { join } from "node:path";
import { Readable } from "node:stream";
import { setTimeout as pause } from "node:timers/promises";
import Fastify from "fastify";
import type { Hex } from "viem";
import { meterOf, type ServerSentEvent, sluice } from "../../src/server/index.ts";
import { openShop } from "../lib/shop.ts";
import { serveSide } from "../lib/side.ts";
import { count, watchEngines } from "../streams/watch.ts";
import {
	dataOf,
	eventOf,
	type Left,
	MODES,
	type Plan,
	PRICE,
	type Sample,
	type Served,
	type ServerInfo,
	type ServerOrder,
	type ServerStart,
} from "./messages.ts";

/** One round: its streams wait for each other after their first event, and after their last one. */
class Run {
	readonly ended = Promise.withResolvers<Omit<Served, "spent">>();
	readonly #plan: Plan;
	readonly #begin = Promise.withResolvers<void>();
	readonly #end = Promise.withResolvers<void>();
	#atBegin = 0;
	#atEnd = 0;
	#before: Sample | undefined;
	#startedAt = 0;
	#cpuBefore = process.cpuUsage();

	constructor(plan: Plan) {
		this.#plan = plan;
		this.ended.promise.catch(() => undefined);
	}

	/** Gives each event away by its number, when it may be made. */
	async *numbers(charge: () => Promise<void> | undefined): AsyncGenerator<number, void, undefined> {
		const { events, mode, pauseMs } = this.#plan;
		const { isPaced } = MODES[mode];
		await charge();
		yield 1;
		if (++this.#atBegin === this.#plan.streams) this.#start();
		await this.#begin.promise;
		// So that they don't march in step.
		if (isPaced) await pause(Math.random() * pauseMs);
		for (let number = 2; number <= events; number++) {
			if (isPaced) await pause(pauseMs);
			await charge();
			yield number;
		}
		if (++this.#atEnd === this.#plan.streams) this.#stop();
		await this.#end.promise;
	}

	#start(): void {
		this.#before = sample();
		this.#cpuBefore = process.cpuUsage();
		this.#startedAt = performance.now();
		this.#begin.resolve();
	}

	#stop(): void {
		const { streams, events, mode } = this.#plan;
		const seconds = (performance.now() - this.#startedAt) / 1_000;
		const { user, system } = process.cpuUsage(this.#cpuBefore);
		const rssBytes = process.memoryUsage.rss();
		const after = sample();
		this.ended.resolve({
			count: streams * (events - 1) * MODES[mode].unitsPerEvent,
			seconds,
			cpuSeconds: (user + system) / 1e6,
			rssBytes,
			before: this.#before ?? after,
			after,
		});
		this.#end.resolve();
	}
}

function sample(): Sample {
	globalThis.gc?.();
	const { heapUsed: heap, rss } = process.memoryUsage();
	return { heap, rss };
}

serveSide<ServerStart, ServerOrder, ServerInfo>(async ({ place, folder, fsync = true }) => {
	watchEngines();
	const shop = await openShop(place, { folder: join(folder, `stream-${process.pid}`), fsync });
	const app = Fastify();
	await app.register(sluice, { engine: shop.engine });
	let run: Run | undefined;
	const running = (): Run => {
		if (run === undefined) throw new Error("no round has begun");
		return run;
	};
	for (const { path, metered, unitsPerEvent } of Object.values(MODES)) {
		if (metered === undefined) {
			app.get(path, async (_request, reply) => {
				reply.type("text/event-stream");
				return Readable.from(texts(running().numbers(() => undefined)));
			});
			continue;
		}
		// What is charged by the byte is not charged by the handler.
		const units = typeof metered === "object" && metered.per !== undefined ? 0 : unitsPerEvent;
		const price = { price: PRICE, unitType: "token", metered };
		app.get(path, { config: { payment: price } }, async function* ({ payment }): AsyncGenerator<ServerSentEvent> {
			const meter = meterOf(payment);
			const numbers = running().numbers(() => (units === 0 ? undefined : meter.charge(units)));
			for await (const number of numbers) yield { data: dataOf(number) };
		});
	}
	await app.listen({ host: "127.0.0.1", port: 0 });
	const address = app.server.address();
	if (address === null || typeof address === "string") throw new Error("the server has no port");
	return {
		info: { port: address.port },
		async round(order): Promise<Left | Served> {
			if (order === "left") {
				const { meters, bodies, waiting, streams } = count();
				return { ...NOTHING, meters, bodies, waiting, streams };
			}
			if (order === "end") {
				const ended = await running().ended.promise;
				const spent = new Map<Hex, bigint>();
				for await (const channel of shop.store.channels()) spent.set(channel.channelId, channel.spent);
				return { ...ended, spent };
			}
			run = new Run(order.begin);
			const now = sample();
			return { ...NOTHING, before: now, after: now, spent: new Map() };
		},
		async stop() {
			await app.close();
			await shop.close();
		},
	};
});

const NOTHING = { count: 0, seconds: 0, cpuSeconds: 0, rssBytes: 0 };

async function* texts(numbers: AsyncIterable<number>): AsyncGenerator<string> {
	for await (const number of numbers) yield eventOf(number);
}
