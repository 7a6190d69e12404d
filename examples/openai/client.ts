import OpenAI from "openai";
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
		maxDeposit: 100_000n,
		maxPrice: 100n, // a token
		maxStream: 50_000n, // an answer
	},
	stream: { aheadUnits: 200 }, // a prompt, or what a whole answer may use, has to fit into it
});

const openai = new OpenAI({ baseURL: `${env.API}/v1`, apiKey: "unused", fetch: payer.fetch });

const chat = { model: "counter", messages: [{ role: "user" as const, content: "Count to 100." }] };
for await (const { choices } of await openai.chat.completions.create({ ...chat, stream: true }))
	process.stdout.write(choices[0]?.delta.content ?? "");
const { usage } = await openai.chat.completions.create({ ...chat, max_completion_tokens: 20 });
console.log(`\n${usage?.total_tokens} tokens more, in one piece`);

const [closed] = await payer.close();
console.log({ spent: closed?.receipt.spent, txHash: closed?.receipt.txHash });
