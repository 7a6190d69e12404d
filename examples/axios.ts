import axios from "axios";
import { PaymentClient } from "sluice/client";
import { createPublicClient, type Hex, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";

const env = process.env as Record<"RPC_URL" | "CHAIN_ID" | "ESCROW" | "TOKEN" | "PAYER_KEY" | "API", string>;

const payer = new PaymentClient({
	account: privateKeyToAccount(env.PAYER_KEY as Hex), // needs tokens, but no gas
	client: createPublicClient({ transport: http(env.RPC_URL) }),
	policy: {
		chainIds: [Number(env.CHAIN_ID)],
		tokens: [env.TOKEN],
		escrows: [env.ESCROW],
		hosts: [new URL(env.API).host],
		maxDeposit: 20_000n, // base units: 0.02 USDC
		maxPrice: 2_500n,
	},
});

// axios' own fetch adapter, with a fetch that pays. `maxRedirects: 0`: whoever is paid is who was asked.
const api = axios.create({
	baseURL: env.API,
	adapter: "fetch",
	env: { fetch: payer.fetch },
	maxRedirects: 0,
	timeout: 60_000,
});

for (let i = 0; i < 10; i++) console.log((await api.get("/quote")).data); // one channel, ten vouchers
console.log((await api.get("/report")).data); // one charge
const [closed] = await payer.close(); // the rest of the deposit comes back
console.log({ spent: closed?.receipt.spent, txHash: closed?.receipt.txHash });
