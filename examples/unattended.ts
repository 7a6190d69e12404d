import Fastify from "fastify";
import { connectChain } from "sluice/escrow";
import { LevelStore, PaymentEngine, sluice, stopOnSignals } from "sluice/server";
import type { Hex } from "viem";
import { privateKeyToAccount } from "viem/accounts";

const env = process.env as Record<
	"RPC_URL" | "CHAIN_ID" | "ESCROW" | "TOKEN" | "PAYEE_KEY" | "SECRET" | "PORT",
	string
>;

const chainId = Number(env.CHAIN_ID);
const app = Fastify({ logger: { level: "warn", stream: process.stderr } });
const alarm = (text: string) => app.log.fatal(text); // or whatever wakes you
const store = await LevelStore.open({ folder: "./channels", name: "quotes API" });

const engine = await PaymentEngine.start({
	realm: "api.example.com",
	client: connectChain({ urls: env.RPC_URL.split(" "), chainId, maxHeadAgeSeconds: 60 }), // the first that works
	chainId,
	escrow: env.ESCROW,
	currency: env.TOKEN,
	account: privateKeyToAccount(env.PAYEE_KEY as Hex),
	secrets: [env.SECRET],
	store,
	log: app.log,
	limits: { minSponsoredDeposit: 10_000n },
	settlement: {
		maxUnsettled: 5_000_000n, // base units: a channel that owes 5 USDC is settled
		maxAgeSeconds: 6 * 3_600, // and so is what has been owed for six hours,
		coinPrice: 3_000_000_000n, // if it is ten times its gas, at 3,000 USDC for one ETH
	},
	hooks: {
		onAtRisk: ({ channelId, unsettled, reason }) => alarm(`${reason}: channel ${channelId} owes ${unsettled}`),
		onSettlementFailed: ({ channelId, reason }) => alarm(`channel ${channelId} was not settled: ${reason}`),
	},
});

await app.register(sluice, { engine });
app.get("/quote", { config: { payment: { price: "100", suggestedDeposit: "20000" } } }, async () => ({ quote: 42 }));
app.get("/report", { config: { payment: { price: "2500", intent: "charge" } } }, async () => ({ pages: 7 }));

stopOnSignals(async () => {
	await app.close(); // no new requests; those that run end
	await engine.stop(); // no new settlements; those under way end, or are taken up by the next start
	await store.close();
});

console.log(await app.listen({ port: Number(env.PORT) }));
