import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import Fastify, {
	type FastifyHttpOptions,
	type FastifyInstance,
	type FastifyReply,
	type FastifyRequest,
	type InjectOptions,
	type LightMyRequestResponse as InjectResponse,
} from "fastify";
import { type Address, createPublicClient, type Hex, http, type LocalAccount } from "viem";
import type { Challenge } from "../../src/protocol/index.ts";
import {
	type Channel,
	type ChannelStore,
	type EngineOptions,
	LevelStore,
	PaymentEngine,
	type SluiceOptions,
	sluice,
} from "../../src/server/index.ts";
import { type Answer, type Send, send } from "./http.ts";
import { type Draft, encode, type OpenOptions, type Payer, type TestChannel } from "./payer.ts";
import type { RpcProxy } from "./rpcProxy.ts";

/** What one request costs on the routes that `standardRoutes` adds. */
export const PRICE = 100n;

/** What `PaidServer.open` deposits unless it is told otherwise. */
export const DEPOSIT = 10_000n;

/** Moves a server's clock. It runs with the real one, ahead of it by what it was advanced. */
export class Clock {
	#aheadMs = 0;
	readonly now = (): number => Date.now() + this.#aheadMs;
	advance(ms: number): void {
		this.#aheadMs += ms;
	}
}

/** Makes routes whose handlers are counted, and can be held. */
export type Handlers = Readonly<{
	/** A handler that is counted under `name`. By default it answers `{ served: n }`. */
	handler(
		name: string,
		answer?: (request: FastifyRequest, reply: FastifyReply) => unknown,
	): (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;
}>;

export type Routes = (app: FastifyInstance, handlers: Handlers) => void | Promise<void>;

export type ServerOptions = Readonly<{
	/** Given to the engine besides what the test world decides. */
	engine?: Partial<
		Pick<
			EngineOptions,
			| "limits"
			| "feePayer"
			| "minVoucherDelta"
			| "realm"
			| "secrets"
			| "currency"
			| "also"
			| "token"
			| "hooks"
			| "methods"
			| "allowPlainHttp"
			| "settlement"
			| "verifierThreads"
			| "watch"
			| "relayer"
		>
	>;
	fastify?: FastifyHttpOptions<Server>;
	/** Given to the plugin besides the engine. */
	plugin?: Omit<SluiceOptions, "engine">;
	/** What is declared before the plugin registers. */
	before?: Routes;
	/** What is declared after it; `standardRoutes` unless it is given. */
	routes?: Routes;
	/** The store that the engine gets, made from the one on disk: for faults. */
	store?: (onDisk: LevelStore) => ChannelStore;
	clock?: Clock;
	/** The payee, with gas. */
	account: LocalAccount;
	folder: string;
	rpc: RpcProxy;
	chainId: number;
	escrow: Address;
	token: Address;
	/** Everything the engine logs goes here too. */
	logs?: LogLine[];
}>;

export type LogLine = Readonly<{ level: string; values: object; message: string }>;

/** `GET` and `POST /session`, `GET` and `POST /charge` at `PRICE`, and `GET /free`. Counted by their paths. */
export const standardRoutes: Routes = (app, { handler }) => {
	const session = { config: { payment: { price: PRICE, unitType: "request", suggestedDeposit: DEPOSIT } } };
	const charge = { config: { payment: { price: PRICE, intent: "charge" as const } } };
	app.get("/session", session, handler("/session"));
	app.post("/session", session, handler("/session"));
	app.get("/charge", charge, handler("/charge"));
	app.post("/charge", charge, handler("/charge"));
	app.get("/free", handler("/free"));
};

/** What `PaidServer.watch` compares: money on both sides, and whether a handler ran. */
export type Snapshot = Readonly<{ channels: readonly (Channel | undefined)[]; transactions: number; served: number }>;

/**
 * A paid server in this process, on a real loopback socket, over a real LevelDB in a folder of its own. It can be
 * stopped, killed and started again on the same folder and port, with the same secrets and the same payee.
 */
export class PaidServer {
	readonly clock: Clock;
	readonly payee: Address;
	/** The payee's key, for what a test sends past the server. */
	readonly account: LocalAccount;
	readonly logs: LogLine[];
	readonly folder: string;
	readonly rpc: RpcProxy;
	readonly #options: ServerOptions;
	readonly #calls = new Map<string, number>();
	readonly #gates = new Map<string, { entered: () => void; open: Promise<void> }>();
	#engine: PaymentEngine | undefined;
	#onDisk: LevelStore | undefined;
	#app: FastifyInstance | undefined;
	#port = 0;

	private constructor(options: ServerOptions) {
		this.#options = options;
		this.clock = options.clock ?? new Clock();
		this.account = options.account;
		this.payee = options.account.address.toLowerCase() as Address;
		this.logs = options.logs ?? [];
		this.folder = options.folder;
		this.rpc = options.rpc;
	}

	/** Tests use `World.serve`. */
	static async start(options: ServerOptions): Promise<PaidServer> {
		const server = new PaidServer(options);
		await server.#start({});
		return server;
	}

	get url(): string {
		return `http://127.0.0.1:${this.#port}`;
	}

	get engine(): PaymentEngine {
		if (this.#engine === undefined) throw new Error("the server is not running");
		return this.#engine;
	}

	/** The store on disk. */
	get store(): LevelStore {
		if (this.#onDisk === undefined) throw new Error("the server is not running");
		return this.#onDisk;
	}

	/** How often the handler of that name ran, restarts included; without a name, how often any did. */
	calls(name?: string): number {
		if (name !== undefined) return this.#calls.get(name) ?? 0;
		return [...this.#calls.values()].reduce((sum, count) => sum + count, 0);
	}

	/** Makes handlers of that name wait. `entered` resolves when one has begun, `release` lets all go on. */
	hold(name: string): Readonly<{ entered: Promise<void>; release: () => void }> {
		const entered = Promise.withResolvers<void>();
		const open = Promise.withResolvers<void>();
		this.#gates.set(name, { entered: entered.resolve, open: open.promise });
		return {
			entered: entered.promise,
			release: () => {
				this.#gates.delete(name);
				open.resolve();
			},
		};
	}

	/** Sends a request; a draft is encoded as its credential. */
	send(path: string, options: Omit<Send, "authorization"> & { authorization?: Send["authorization"] | Draft } = {}) {
		const { authorization, ...rest } = options;
		const isDraft = typeof authorization === "object" && "challenge" in authorization;
		return send(this.url, path, {
			...rest,
			...(authorization !== undefined && { authorization: isDraft ? encode(authorization) : authorization }),
		});
	}

	/** A request without a socket: it may come from any address. */
	inject(options: InjectOptions): Promise<InjectResponse> {
		if (this.#app === undefined) throw new Error("the server is not running");
		return this.#app.inject(options);
	}

	/** Pays with a draft: `send` with the arguments the other way round, for the common case. */
	pay(path: string, draft: Draft, options: Omit<Send, "authorization"> = {}): Promise<Answer> {
		return this.send(path, { ...options, authorization: draft });
	}

	/** A fresh challenge for a route. */
	async challenge(path: string, method = "GET"): Promise<Challenge> {
		const { challenges, status } = await this.send(path, { method });
		const [challenge] = challenges;
		if (challenge === undefined) throw new Error(`${method} ${path} answered ${status} without a challenge`);
		return challenge;
	}

	/** Opens a channel through `/session` by authorization. The initial voucher is 0: nothing is spent. */
	async open(payer: Payer, options: Partial<OpenOptions> = {}, path = "/session"): Promise<TestChannel> {
		const channel = payer.channel(this.payee);
		const draft = await payer.open(await this.challenge(path), channel, { deposit: DEPOSIT, ...options });
		const { status, text } = await this.pay(path, draft);
		if (status !== 200) throw new Error(`open answered ${status}: ${text}`);
		return channel;
	}

	/** A channel as the server's ledger has it. */
	ledger({ channelId }: Pick<TestChannel, "channelId">): Promise<Channel | undefined> {
		return this.store.channel(channelId);
	}

	/** The ledger's amounts of a channel, for one `toEqual`. */
	async amounts(channel: Pick<TestChannel, "channelId">) {
		const found = await this.ledger(channel);
		if (found === undefined) return undefined;
		const { acceptedCumulative, spent, reservations } = found;
		return { acceptedCumulative, spent, reserved: Object.values(reservations).reduce((a, b) => a + b, 0n) };
	}

	/** Transactions the payee has sent: gas it has spent. */
	transactions(): Promise<number> {
		return this.#client().getTransactionCount({ address: this.payee, blockTag: "pending" });
	}

	/** All that a refused request must leave as it was. */
	async snapshot(channels: readonly Pick<TestChannel, "channelId">[] = []): Promise<Snapshot> {
		return {
			channels: await Promise.all(channels.map((channel) => this.ledger(channel))),
			transactions: await this.transactions(),
			served: this.calls(),
		};
	}

	/** Stops the Fastify face alone: engine and store go on. */
	async closeApp(): Promise<void> {
		await this.#app?.close();
	}

	/** Stops it as an operator does: requests finish, the store is closed. */
	async stop(): Promise<void> {
		await this.#app?.close();
		await this.#engine?.stop();
		await this.#onDisk?.close();
		this.#app = this.#engine = this.#onDisk = undefined;
	}

	/** Stops it as a crash does, but for what LevelDB is writing: handlers are cut off and captured nowhere. */
	async crash(): Promise<void> {
		const stopped = this.#engine?.stop({ deadlineMs: 0 });
		await this.#onDisk?.close();
		await stopped?.catch(() => undefined);
		this.#app?.server.closeAllConnections();
		for (const name of [...this.#gates.keys()]) this.#gates.delete(name);
		const app = this.#app;
		this.#app = this.#engine = this.#onDisk = undefined;
		void app?.close().catch(() => undefined);
	}

	/** Starts it again after `stop` or `crash` (stops it first where it runs): same folder, port, secrets and payee. */
	async restart(changes: Partial<ServerOptions> = {}): Promise<void> {
		await this.stop();
		await this.#start(changes);
	}

	#client() {
		return createPublicClient({
			transport: http(this.#options.rpc.url, { retryCount: 0 }),
			cacheTime: 0,
			pollingInterval: 20,
		});
	}

	async #start(changes: Partial<ServerOptions>): Promise<void> {
		const engineOptions = { ...this.#options.engine, ...changes.engine };
		const options = { ...this.#options, ...changes };
		const { chainId, escrow, token, account, folder, fastify, before, plugin, routes = standardRoutes } = options;
		const onDisk = await LevelStore.open({ folder });
		let engine: PaymentEngine;
		try {
			engine = await PaymentEngine.start({
				realm: "test.sluice.local",
				client: this.#client(),
				chainId,
				escrow,
				currency: token,
				account,
				secrets: [],
				store: options.store?.(onDisk) ?? onDisk,
				receiptPollMs: 10,
				// Nothing happens by itself unless a test is about it.
				settlement: false,
				watch: false,
				now: this.clock.now,
				log: {
					info: (values, message) => this.logs.push({ level: "info", values, message }),
					warn: (values, message) => this.logs.push({ level: "warn", values, message }),
					error: (values, message) => this.logs.push({ level: "error", values, message }),
				},
				...engineOptions,
			});
		} catch (error) {
			await onDisk.close();
			throw error;
		}
		const app = Fastify({ logger: false, forceCloseConnections: "idle", ...fastify });
		this.#onDisk = onDisk;
		this.#engine = engine;
		this.#app = app;
		try {
			await before?.(app, this.#handlers());
			await app.register(sluice, { engine, ...plugin });
			await routes(app, this.#handlers());
			await app.listen({ host: "127.0.0.1", port: this.#port });
		} catch (error) {
			await this.stop();
			throw error;
		}
		this.#port = (app.server.address() as AddressInfo).port;
	}

	#handlers(): Handlers {
		return {
			handler: (name, answer = () => ({ served: this.calls(name) })) => {
				return async (request, reply) => {
					this.#calls.set(name, this.calls(name) + 1);
					const gate = this.#gates.get(name);
					gate?.entered();
					await gate?.open;
					return answer(request, reply);
				};
			},
		};
	}
}

/** The transaction a receipt names. */
export function transactionOf({ receipt }: Pick<Answer, "receipt">): Hex {
	const hash = receipt?.intent === "session" ? receipt.txHash : receipt?.reference;
	if (hash === undefined) throw new Error("this answer's receipt names no transaction");
	return hash;
}
