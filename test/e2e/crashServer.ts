/**
 * The demo's paid server (src/cli/demo/serverProcess.ts) with points at which it kills itself, for the tests. Reads one
 * JSON line of settings from standard input, then one line per point that it is to die at; says on standard output when
 * it listens, when it is armed and, last of all, where it died. Ends when its input ends.
 */
import { once } from "node:events";
import { writeSync } from "node:fs";
import { flushCompileCache } from "node:module";
import { createInterface } from "node:readline";
import Fastify, { type onSendAsyncHookHandler } from "fastify";
import { createPublicClient, type Hex, http, keccak256, type Transport } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import type { ServerSettings } from "../../src/cli/demo/serverProcess.ts";
import type { OutboxEntry } from "../../src/escrow/outbox.ts";
import { PAYMENT_RECEIPT } from "../../src/protocol/index.ts";
import { LevelStore, PaymentEngine, sluice } from "../../src/server/index.ts";
import type { ChannelStore, Committed, Turn, TurnKeys, TurnView } from "../../src/server/store/store.ts";

export type CrashSettings = Omit<ServerSettings, "smallDeposit" | "splits"> &
	Readonly<{
		/** How long a request, or the start, waits for a transaction. */
		transactionTimeoutMs?: number;
		/** How far this process's clock is ahead. */
		clockAheadMs?: number;
	}>;

/** Where a server can die, in the order of what happens to one transaction of ours. */
export const CRASH_POINTS = {
	/** Everything is checked, the transaction is signed, nothing of it is on disk. */
	record: "before the outbox write",
	/** It is on disk; no node has heard of it. */
	recorded: "after the outbox write, before the broadcast",
	/** A node has it; nobody has looked at its outcome. */
	broadcast: "after the broadcast",
	/** It is mined and its receipt has been read; nothing follows from it yet. */
	mined: "after the receipt was read, before it is processed",
	/** What follows from it is on disk. */
	concluded: "after the conclusion is on disk",
	/** The request that is paid with it is running. */
	handler: "while the handler runs",
	/** Its answer, receipt included, is about to leave. */
	answer: "before the answer leaves",
} as const;

export type CrashPoint = keyof typeof CRASH_POINTS;

/** One order to die. `lost-answer` is no crash: the node that took the transaction fails, and the next one knows it as mined. */
export type Order = Readonly<{ kind: "open" | "topUp" | "close" | "charge"; point: CrashPoint | "lost-answer" }>;

/** What the server tells of itself at `/inspect/<channel id>`. Amounts as decimal strings. */
export type Inspection = Readonly<{
	channel: Readonly<Record<"acceptedCumulative" | "spent" | "reserved" | "deposit" | "settledOnChain", string>> | null;
	finalized: boolean;
	closing: boolean;
	/** Transactions whose outcome is unknown: their kinds. */
	pending: readonly string[];
}>;

if (process.argv[1] === import.meta.filename) await main();

async function main(): Promise<void> {
	const lines = createInterface({ input: process.stdin });
	const [line] = (await once(lines, "line")) as [string];
	const settings = JSON.parse(line) as CrashSettings;
	let order: Order | undefined;

	const isDue = (kind: string | undefined, point: Order["point"]) => order?.point === point && order.kind === kind;
	const dieIfDue = (kind: string | undefined, point: CrashPoint) => {
		if (!isDue(kind, point)) return;
		say({ died: `${kind} ${point}` });
		process.kill(process.pid, "SIGKILL");
		for (;;); // Not one step further.
	};

	const level = await LevelStore.open({ folder: settings.folder });
	const kinds = new Map<Hex, string>();
	const store = watchStore(
		level,
		(entry) => {
			kinds.set(entry.hash, entry.purpose.kind);
			if (entry.state === "pending") dieIfDue(entry.purpose.kind, "record");
		},
		(entry) => {
			if (entry.state !== "pending") dieIfDue(entry.purpose.kind, "concluded");
		},
	);
	for await (const { hash, purpose } of level.outbox({ state: "pending" })) kinds.set(hash, purpose.kind);

	const node = http(settings.rpcUrl);
	const transport: Transport = (parameters) => {
		const inner = node(parameters);
		const ask = (args: unknown) => inner.request(args as never) as Promise<unknown>;
		const request = async (args: { method: string; params?: readonly unknown[] }): Promise<unknown> => {
			const [first] = args.params ?? [];
			if (args.method === "eth_sendRawTransaction") {
				const hash = keccak256(first as Hex);
				const kind = kinds.get(hash);
				dieIfDue(kind, "recorded");
				const answer = await ask(args);
				dieIfDue(kind, "broadcast");
				if (!isDue(kind, "lost-answer")) return answer;
				order = undefined;
				for (let mined: unknown = null; mined === null; ) {
					mined = await ask({ method: "eth_getTransactionReceipt", params: [hash] });
				}
				return ask(args);
			}
			const answer = await ask(args);
			if (args.method === "eth_getTransactionReceipt" && answer !== null) dieIfDue(kinds.get(first as Hex), "mined");
			return answer;
		};
		return { ...inner, request: request as typeof inner.request };
	};

	const { clockAheadMs = 0, transactionTimeoutMs, price, suggestedDeposit } = settings;
	const engine = await PaymentEngine.start({
		realm: "crash.sluice.test",
		client: createPublicClient({ transport, pollingInterval: 20, cacheTime: 0 }),
		chainId: settings.chainId,
		escrow: settings.escrow,
		currency: settings.token,
		account: privateKeyToAccount(settings.privateKey),
		secrets: [settings.secret],
		store,
		receiptPollMs: 10,
		now: () => Date.now() + clockAheadMs,
		limits: transactionTimeoutMs === undefined ? {} : { transactionTimeoutMs },
	});

	const app = Fastify({ logger: false });
	await app.register(sluice, { engine });
	// After the plugin's own: the answer has its receipt, and nothing more stands between it and the socket.
	const dieBeforeAnswer: onSendAsyncHookHandler = async (request, reply, payload) => {
		const kind = request.url.startsWith("/charge") ? "charge" : order?.kind;
		if (reply.hasHeader(PAYMENT_RECEIPT)) dieIfDue(kind, "answer");
		return payload;
	};
	app.addHook("onRoute", (route) => {
		route.onSend = [route.onSend ?? [], dieBeforeAnswer].flat();
	});
	let served = 0;
	const session = { payment: { price, unitType: "request", suggestedDeposit } };
	app.get("/session", { config: session }, async () => {
		dieIfDue("open", "handler");
		dieIfDue("topUp", "handler");
		return { served: ++served };
	});
	app.get("/slow", { config: session }, () => new Promise(() => undefined));
	app.get("/charge", { config: { payment: { price, intent: "charge" } } }, async () => {
		dieIfDue("charge", "handler");
		return { served: ++served };
	});
	app.get<{ Params: { channelId: Hex } }>("/inspect/:channelId", ({ params }) => inspect(level, params.channelId));

	const url = await app.listen({ host: "127.0.0.1", port: settings.port });
	lines.on("line", (text: string) => {
		order = JSON.parse(text) as Order;
		say({ armed: `${order.kind} ${order.point}` });
	});
	lines.on("close", () => process.exit(0));
	// A process that kills itself leaves nothing for the next one to start faster with, unless it does so in time.
	flushCompileCache();
	say({ url });
}

/** Straight into the pipe: what the parent reads was said before the process died. */
function say(what: Readonly<Record<string, string>>): void {
	writeSync(1, `${JSON.stringify(what)}\n`);
}

/** The store, told of each outbox entry before it is handed over, and after it is on disk. */
function watchStore(
	store: LevelStore,
	beforeWrite: (entry: OutboxEntry) => void,
	afterWrite: (entry: OutboxEntry) => void,
): ChannelStore {
	return {
		owner: store.owner,
		isGone: (owner) => store.isGone(owner),
		async transact<T>(keys: TurnKeys, turn: (view: TurnView) => Turn<T>): Promise<Committed<T>> {
			let entries: readonly OutboxEntry[] = [];
			const { value, durable } = await store.transact(keys, (view) => {
				const step = turn(view);
				entries = step.writes?.outbox ?? [];
				for (const entry of entries) beforeWrite(entry);
				return step;
			});
			return { value, durable: durable.then(() => entries.forEach(afterWrite)) };
		},
		channel: (channelId) => store.channel(channelId),
		due: (order, options) => store.due(order, options),
		channels: (options) => store.channels(options),
		outbox: (options) => store.outbox(options),
		cursor: (name) => store.cursor(name),
		putCursor: (cursor) => store.putCursor(cursor),
		audit: (options) => store.audit(options),
		quarantined: () => store.quarantined(),
		prune: (now) => store.prune(now),
		close: () => store.close(),
	};
}

async function inspect(store: LevelStore, channelId: Hex): Promise<Inspection> {
	const { value: channel, durable } = await store.transact({ channel: channelId }, (view) => ({ value: view.channel }));
	await durable;
	const pending: string[] = [];
	for await (const { purpose } of store.outbox({ state: "pending" })) pending.push(purpose.kind);
	if (channel === undefined) return { channel: null, finalized: false, closing: false, pending };
	const { acceptedCumulative, spent, deposit, settledOnChain, reservations, finalized, closingBy } = channel;
	const reserved = Object.values(reservations).reduce((sum, amount) => sum + amount, 0n);
	const numbers = { acceptedCumulative, spent, reserved, deposit, settledOnChain };
	return {
		channel: Object.fromEntries(Object.entries(numbers).map(([name, value]) => [name, String(value)])) as NonNullable<
			Inspection["channel"]
		>,
		finalized,
		closing: closingBy !== null,
		pending,
	};
}
