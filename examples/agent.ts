import { PaymentClient, PolicyRefusedError } from "sluice/client";
import { openWallet, readKeyEnv, readPolicyFile, watchPolicyFile } from "sluice/client/node";
import { createPublicClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";

const env = process.env as Record<"RPC_URL" | "API", string>;

const store = await openWallet("./wallet"); // shared by all processes of the agent: channels, what was signed, receipts
const payer = new PaymentClient({
	account: privateKeyToAccount(readKeyEnv("PAYER_KEY")),
	client: createPublicClient({ transport: http(env.RPC_URL) }),
	store,
	policy: await readPolicyFile("policy.yaml"),
	// Asked above the policy's `approveAbove`. Ask a person, or have a rule: deposits, and charges of up to 0.003 USDC.
	approve: ({ kind, amount }) => kind === "open" || amount <= 3_000n,
});
const unwatch = watchPolicyFile("policy.yaml", (policy) => payer.setPolicy(policy), console.error);

async function get(path: string): Promise<void> {
	try {
		console.log(await (await payer.fetch(env.API + path)).json());
	} catch (error) {
		if (!(error instanceof PolicyRefusedError)) throw error;
		console.log(`${error.rule}: ${error.message}`); // nothing was signed
	}
}

for (let i = 0; i < 10; i++) await get("/quote"); // one channel, ten vouchers
await get("/report"); // one charge

unwatch();
if (process.argv.includes("--close")) {
	const [closed] = await payer.close(); // the rest of the deposit comes back
	console.log({ spent: closed?.receipt.spent, txHash: closed?.receipt.txHash });
}
await payer.release(); // what is open stays so, for whichever process of the agent is next
await store.close();
