/**
 * The demo's paid server (src/cli/demo/serverProcess.ts) with more points at which it kills itself, for the tests. Reads
 * one JSON line of settings from standard input, then one line per point that it is to die at, or for a run of the
 * settlement policy; says on standard output when it listens, when it is armed, when a run is over and, last of all, where
 * it died. Ends when its input ends.
 */
import { once } from "node:events";
import { flushCompileCache } from "node:module";
import { createInterface } from "node:readline";
import Fastify, { type onSendAsyncHookHandler } from "fastify";
import { createPublicClient, type Hex, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { say } from "../../src/cli/demo/asChild.ts";
import { Crash, type Order } from "../../src/cli/demo/crash.ts";
import { policyOf, type ServerSettings } from "../../src/cli/demo/serverSettings.ts";
import { PAYMENT_RECEIPT } from "../../src/protocol/index.ts";
import { LevelStore, PaymentEngine, sluice } from "../../src/server/index.ts";

export type CrashSettings = Omit<ServerSettings, "smallDeposit" | "splits" | "tell"> &
	Readonly<{
		/** How long a request, or the start, waits for a transaction. */
		transactionTimeoutMs?: number;
		/** How far this process's clock is ahead. */
		clockAheadMs?: number;
	}>;

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
	const crash = new Crash();
	const level = await LevelStore.open({ folder: settings.folder });
	const store = await crash.watchStore(level);
	const transport = crash.watchNode(http(settings.rpcUrl));

	const { clockAheadMs = 0, transactionTimeoutMs, price, suggestedDeposit, watch } = settings;
	const settlement = policyOf(settings.settlement);
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
		limits: { ...settings.limits, ...(transactionTimeoutMs !== undefined && { transactionTimeoutMs }) },
		...(settlement !== undefined && { settlement }),
		...(watch !== undefined && { watch }),
	});

	const app = Fastify({ logger: false });
	await app.register(sluice, { engine });
	// After the plugin's own: the answer has its receipt, and nothing more stands between it and the socket.
	const dieBeforeAnswer: onSendAsyncHookHandler = async (request, reply, payload) => {
		const kind = request.url.startsWith("/charge") ? "charge" : crash.kind;
		if (reply.hasHeader(PAYMENT_RECEIPT)) crash.dieIfDue(kind, "answer");
		return payload;
	};
	app.addHook("onRoute", (route) => {
		route.onSend = [route.onSend ?? [], dieBeforeAnswer].flat();
	});
	let served = 0;
	const session = { payment: { price, unitType: "request", suggestedDeposit } };
	app.get("/session", { config: session }, async () => {
		crash.dieIfDue("open", "handler");
		crash.dieIfDue("topUp", "handler");
		return { served: ++served };
	});
	app.get("/slow", { config: session }, () => new Promise(() => undefined));
	app.get("/charge", { config: { payment: { price, intent: "charge" } } }, async () => {
		crash.dieIfDue("charge", "handler");
		return { served: ++served };
	});
	app.get<{ Params: { channelId: Hex } }>("/inspect/:channelId", ({ params }) => inspect(level, params.channelId));

	const url = await app.listen({ host: "127.0.0.1", port: settings.port });
	lines.on("line", (text: string) => {
		const line = JSON.parse(text) as Order | Readonly<{ settle: true }>;
		if ("settle" in line) void engine.settle().then(() => say({ settled: "all that was due" }));
		else crash.arm(line);
	});
	lines.on("close", () => process.exit(0));
	// A process that kills itself leaves nothing for the next one to start faster with, unless it does so in time.
	flushCompileCache();
	say({ url });
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
