import { PaymentClient } from "sluice/client";
import { createPublicClient, type Hex, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";

const env = process.env as Record<"RPC_URL" | "CHAIN_ID" | "ESCROW" | "TOKEN" | "PAYER_KEY" | "API", string>;

const payer = new PaymentClient({
	account: privateKeyToAccount(env.PAYER_KEY as Hex),
	client: createPublicClient({ transport: http(env.RPC_URL) }),
	policy: {
		chainIds: [Number(env.CHAIN_ID)],
		tokens: [env.TOKEN],
		escrows: [env.ESCROW],
		hosts: [new URL(env.API).host],
		maxDeposit: 20_000n,
		maxPrice: 100n, // for a token
		maxStream: 25_000n, // for an answer
	},
	stream: { aheadUnits: 50 }, // the credit that the server gets: what is lost at most if it lies
});

// Paid as it is read. A connection that breaks is gone on with; to leave the loop is to stop paying.
for await (const { data } of payer.stream(`${env.API}/chat`)) process.stdout.write(data);

const [closed] = await payer.close(); // what was deposited and not used comes back
console.log("\n", { spent: closed?.receipt.spent, txHash: closed?.receipt.txHash });
