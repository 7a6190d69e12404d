/**
 * The demo's paid server, a process of its own. Reads its settings, keys included, as one JSON line from standard input,
 * so that no secret stands in its arguments or environment; prints its URL as one JSON line; ends on SIGTERM after the
 * last request.
 */
import { once } from "node:events";
import { createInterface } from "node:readline";
import Fastify from "fastify";
import { createPublicClient, type Hex, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { LevelStore, PaymentEngine, sluice } from "../../server/index.ts";

/** What the parent process says. */
export type ServerSettings = Readonly<{
	rpcUrl: string;
	chainId: number;
	escrow: string;
	token: string;
	privateKey: Hex;
	secret: string;
	folder: string;
	price: string;
	suggestedDeposit: string;
	/** What `/permit2` suggests: less than what all requests cost, so that the channel is topped up. */
	smallDeposit: string;
	splits: readonly Readonly<{ recipient: string; amount: string; memo: string }>[];
	/** 0: a free one. */
	port: number;
}>;

/** What it says when it listens. */
export type Listening = Readonly<{
	url: string;
	/** 0: any number of one channel. */
	maxVouchersPerSecond: number;
}>;

const [line] = (await once(createInterface({ input: process.stdin }), "line")) as [string];
const settings = JSON.parse(line) as ServerSettings;
const { price, suggestedDeposit, smallDeposit, splits } = settings;

const store = await LevelStore.open({ folder: settings.folder });
const engine = await PaymentEngine.start({
	realm: "demo.sluice.local",
	client: createPublicClient({ transport: http(settings.rpcUrl), pollingInterval: 50, cacheTime: 0 }),
	chainId: settings.chainId,
	escrow: settings.escrow,
	currency: settings.token,
	account: privateKeyToAccount(settings.privateKey),
	secrets: [settings.secret],
	store,
	receiptPollMs: 20,
});
const app = Fastify({ logger: false });
await app.register(sluice, { engine });
let served = 0;
app.get("/session", { config: { payment: { price, unitType: "request", suggestedDeposit } } }, async () => ({
	served: ++served,
}));
app.get(
	"/permit2",
	{ config: { payment: { price, unitType: "request", suggestedDeposit: smallDeposit, credentialTypes: ["permit2"] } } },
	async () => ({ served: ++served }),
);
app.get("/splits", { config: { payment: { price, intent: "charge", splits } } }, async () => ({ served: ++served }));
app.get("/charge", { config: { payment: { price, intent: "charge" } } }, async () => ({ served: ++served }));

const url = await app.listen({ host: "127.0.0.1", port: settings.port });
const { maxVouchersPerSecond } = engine.limits;
process.stdout.write(`${JSON.stringify({ url, maxVouchersPerSecond } satisfies Listening)}\n`);

await once(process, "SIGTERM");
await app.close();
engine.stop();
await store.close();
process.exit(0);
