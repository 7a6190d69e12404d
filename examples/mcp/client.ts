import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import { PaymentClient } from "sluice/client";
import { PAYER_CAPABILITY, payMcp } from "sluice/client/mcp";
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

const client = new Client({ name: "agent", version: "1.0.0" }, { capabilities: { experimental: PAYER_CAPABILITY } });
await client.connect(new StreamableHTTPClientTransport(new URL(env.API)) as Transport);
const { tools } = await client.listTools();
console.log("tools:", tools.map(({ name }) => name).join(", "));

const paid = payMcp(payer, client, { url: env.API });
for (let i = 0; i < 10; i++) {
	const { content, receipt } = await paid.callTool({ name: "quote", arguments: { symbol: "ABC" } }); // one channel
	console.log(content, `spent so far: ${receipt?.spent}`);
}
const { content } = await paid.callTool({ name: "report" }); // one charge
console.log(content);
const [closed] = await payer.close(); // over the same connection; the rest of the deposit comes back
console.log({ spent: closed?.receipt.spent, txHash: closed?.receipt.txHash });
await client.close();
