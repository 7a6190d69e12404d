import { PaymentClient } from "sluice/client";
import { paymentInterceptor } from "sluice/client/undici";
import { Agent, interceptors, request, setGlobalDispatcher } from "undici";
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

// Whatever the process sends from now on pays for itself, Node's own fetch included. Each redirect is paid for by itself.
const agent = new Agent().compose(paymentInterceptor(payer), interceptors.redirect({ maxRedirections: 3 }));
setGlobalDispatcher(agent);

for (let i = 0; i < 10; i++) console.log(await (await request(`${env.API}/quote`)).body.json()); // one channel, ten vouchers
console.log(await (await fetch(`${env.API}/report`)).json()); // one charge
const [closed] = await payer.close(); // the rest of the deposit comes back
console.log({ spent: closed?.receipt.spent, txHash: closed?.receipt.txHash });
await agent.close();
