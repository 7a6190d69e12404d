import Fastify from "fastify";
import { LevelStore, PaymentEngine, sluice } from "sluice/server";
import { createPublicClient, type Hex, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";

const env = process.env as Record<
	"RPC_URL" | "CHAIN_ID" | "ESCROW" | "TOKEN" | "PAYEE_KEY" | "SECRET" | "PORT",
	string
>;

const engine = await PaymentEngine.start({
	realm: "api.example.com",
	client: createPublicClient({ transport: http(env.RPC_URL) }),
	chainId: Number(env.CHAIN_ID),
	escrow: env.ESCROW,
	currency: env.TOKEN, // an ERC-3009 token, USDC for example
	account: privateKeyToAccount(env.PAYEE_KEY as Hex), // receives the money, pays the gas
	secrets: [env.SECRET], // at least 32 bytes
	store: await LevelStore.open({ folder: "./channels" }),
	limits: { minSponsoredDeposit: 10_000n }, // below this, opening a channel is not worth its gas
});

const app = Fastify();
await app.register(sluice, { engine });
app.get("/quote", { config: { payment: { price: "100", suggestedDeposit: "20000" } } }, async () => ({ quote: 42 }));
app.get("/report", { config: { payment: { price: "2500", intent: "charge" } } }, async () => ({ pages: 7 }));
console.log(await app.listen({ port: Number(env.PORT) }));
