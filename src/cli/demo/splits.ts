import { CANONICAL_PERMIT2 } from "../../voucher/index.ts";
import { chargeChecks, readChargeRecord } from "./chargeRecord.ts";
import { check, type Outcome } from "./report.ts";
import { PRICE, type World } from "./world.ts";

/** One charge that pays a platform and a referrer their parts: one signature, one transaction, all of it or nothing. */
export async function splitsScenario(
	world: World,
	_options: unknown,
	progress: (text: string) => void,
): Promise<Outcome> {
	const { chain, payer, payee, funds, splits, storePath } = world;
	progress("the payer approves Permit2 for its tokens, once");
	await world.approve(CANONICAL_PERMIT2, funds);
	const agent = world.agent();
	progress(`the agent pays one request of ${PRICE} base units, split among ${splits.length + 1}`);
	const startedAt = performance.now();
	const response = await agent.fetch(`${world.server.url}/splits`);
	const secondsPaid = (performance.now() - startedAt) / 1_000;
	const { served } = (await response.json()) as { served?: number };

	const payeeReceived = await world.balance(payee.address);
	const payerPaid = funds - (await world.balance(payer.address));
	const received = await Promise.all(splits.map(({ recipient }) => world.balance(recipient)));
	const payerTransactions = await chain.client.getTransactionCount({ address: payer.address });
	const sessionTransactions = await world.transactionsTo(CANONICAL_PERMIT2);
	const stored = await readChargeRecord(world);
	const parts = splits.reduce((sum, { amount }) => sum + amount, 0n);
	const ok = response.ok ? 1 : 0;
	return {
		scenario: "splits",
		requests: 1,
		ok,
		failed: 1 - ok,
		price: String(PRICE),
		payeeReceived: String(payeeReceived),
		payerPaid: String(payerPaid),
		splits: splits.map(({ recipient, amount, memo }, at) => ({
			recipient,
			memo,
			amount: String(amount),
			received: String(received[at]),
		})),
		stored,
		sessionTransactions,
		payerTransactions,
		secondsPaid: Number(secondsPaid.toFixed(3)),
		requestsPerSecond: Math.round(1 / secondsPaid),
		chainId: chain.chainId,
		storePath,
		checks: [
			check("the request was served", 200, response.status),
			check("it was the first one served", 1, served),
			check("the payer paid the price", PRICE, payerPaid),
			check("the payee received what the splits leave", PRICE - parts, payeeReceived),
			...splits.map(({ memo, amount }, at) => check(`the ${memo} was paid`, amount, received[at])),
			...chargeChecks(stored, payerPaid, [payeeReceived, ...received]),
			check("the payer sent the approval and nothing else", 1, payerTransactions),
			check("one transaction moved all of it", 1, sessionTransactions),
		],
	};
}
