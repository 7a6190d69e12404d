/** The bench's paid server, a process of its own. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as pause } from "node:timers/promises";
import Fastify, { type FastifyRequest } from "fastify";
import { createPublicClient, type Hex, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { LevelStore, meterOf, PaymentEngine, type ServerSentEvent, sluice } from "../../src/server/index.ts";
import { Memory } from "./memory.ts";
import { type Order, obey, type Plan, PRICE } from "./messages.ts";
import { count, WaitTimes, watchEngines } from "./watch.ts";

type Listen = Extract<Order, { order: "listen" }>;

/** About; says no more than how often memory is looked at where a run has no time of its own. */
const PIECES_PER_SECOND = 40_000;

class Streams {
	readonly times = new WaitTimes();
	readonly #plan: Plan;
	readonly #loopDelay = monitorEventLoopDelay({ resolution: 10 });
	/** Streams wait for each other before they go on. */
	readonly #gate = Promise.withResolvers<void>();
	#begun = 0;
	#ended = 0;
	#pieces = 0;
	#startedAt = 0;
	#endedAt = 0;
	#memory: Memory | undefined;
	#taken: ReturnType<Memory["stop"]> = { samples: [], cpuShare: 0 };

	constructor(plan: Plan) {
		this.#plan = plan;
	}

	/** One stream: the channel has paid for one unit before, by the request that opened it. */
	async *run({ payment }: FastifyRequest): AsyncGenerator<ServerSentEvent, void, undefined> {
		const { seconds, pieces, pauseMs, step } = this.#plan;
		const meter = meterOf(payment);
		const channelId = payment?.channelId as Hex;
		let sent = 0;
		const next = async () => {
			await this.times.charge(meter, channelId, sent + 2);
			this.#pieces++;
			return { id: String(++sent), data: `piece ${sent}` };
		};
		yield await next();
		if (++this.#begun === this.#plan.streams) this.#start();
		await this.#gate.promise;
		// So that they don't march in step, and don't need their vouchers all in the same moment.
		if (pauseMs > 0) await pause(Math.random() * pauseMs * step);
		while (seconds > 0 ? performance.now() - this.#startedAt < seconds * 1_000 : sent < pieces) {
			if (pauseMs > 0) await pause(pauseMs);
			yield await next();
		}
		if (++this.#ended === this.#plan.streams) this.#end();
	}

	figures() {
		const { delaysMs, waits, listenersAtFirst, listenersAtMost } = this.times;
		return {
			...{ delaysMs, waits, listenersAtFirst, listenersAtMost },
			piecesPerSecond: this.#pieces / ((this.#endedAt - this.#startedAt) / 1_000),
			loopDelayP99Ms: this.#loopDelay.percentile(99) / 1e6,
			...this.#taken,
		};
	}

	#start(): void {
		const { seconds, pieces } = this.#plan;
		this.#startedAt = performance.now();
		this.#memory = new Memory(1_000 * (seconds > 0 ? seconds : pieces / PIECES_PER_SECOND));
		this.#loopDelay.enable();
		this.#gate.resolve();
	}

	#end(): void {
		this.#endedAt = performance.now();
		this.#loopDelay.disable();
		if (this.#memory !== undefined) this.#taken = this.#memory.stop();
	}
}

async function listen({ place, plan, folder, privateKey, secret }: Listen) {
	watchEngines();
	const { rpcUrl, chainId, escrow, token } = place;
	const store = await LevelStore.open({ folder });
	const engine = await PaymentEngine.start({
		realm: "bench.sluice.local",
		client: createPublicClient({ transport: http(rpcUrl), pollingInterval: 1_000 }),
		chainId,
		escrow,
		currency: token,
		account: privateKeyToAccount(privateKey),
		secrets: [secret],
		store,
		receiptPollMs: 20,
	});
	const app = Fastify({ logger: false });
	await app.register(sluice, { engine });
	const streams = new Streams(plan);
	const price = { price: PRICE, unitType: "piece" };
	const metered = { ...price, metered: { blockUnits: plan.blockUnits } };
	app.get("/open", { config: { payment: price } }, async () => ({ opened: true }));
	// The plugin takes HEAD for vouchers as they come: what is timed begins before it.
	const onRequest = async ({ headers }: FastifyRequest) => streams.times.arrived(headers.authorization);
	app.get("/stream", { config: { payment: metered }, onRequest }, (request) => streams.run(request));
	const url = await app.listen({ host: "127.0.0.1", port: 0 });
	return {
		url,
		streams,
		async spent() {
			const spent = new Map<Hex, bigint>();
			for await (const channel of store.channels()) spent.set(channel.channelId, channel.spent);
			return spent;
		},
		async stop() {
			await app.close();
			await engine.stop();
			await store.close();
		},
	};
}

let running: Awaited<ReturnType<typeof listen>> | undefined;

obey(async (order) => {
	if (order.order === "listen") {
		running = await listen(order);
		return { url: running.url };
	}
	if (running === undefined) throw new Error("the server does not listen");
	switch (order.order) {
		case "count":
			return count();
		case "figures":
			return running.streams.figures();
		case "spent":
			return running.spent();
		case "stop":
			await running.stop();
			return { stopped: true };
		default:
			throw new Error(`a server does not ${order.order}`);
	}
});
