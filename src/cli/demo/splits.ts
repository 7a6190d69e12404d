import { CANONICAL_PERMIT2 } from "../../voucher/index.ts";
import { chargeOutcome } from "./chargeOutcome.ts";
import { check, type Outcome } from "./report.ts";
import { PRICE, type World } from "./world.ts";

/** One charge that pays a platform and a referrer their parts: one signature, one transaction, all of it or nothing. */
export async function splitsScenario(
	world: World,
	_options: unknown,
	progress: (text: string) => void,
): Promise<Outcome> {
	const { funds, splits } = world;
	progress("the payer approves Permit2 for its tokens, once");
	await world.approve(CANONICAL_PERMIT2, funds);
	const agent = world.agent();
	progress(`the agent pays one request of ${PRICE} base units, split among ${splits.length + 1}`);
	const startedAt = performance.now();
	const response = await agent.fetch(`${world.server.url}/splits`);
	const secondsPaid = (performance.now() - startedAt) / 1_000;

	const { received, ...outcome } = await chargeOutcome(world, {
		scenario: "splits",
		response,
		secondsPaid,
		recipients: splits.map(({ recipient }) => recipient),
		contract: CANONICAL_PERMIT2,
	});
	const parts = splits.reduce((sum, { amount }) => sum + amount, 0n);
	return {
		...outcome,
		splits: splits.map(({ recipient, amount, memo }, at) => ({
			recipient,
			memo,
			amount: String(amount),
			received: received[at],
		})),
		checks: [
			...outcome.checks,
			check("the payee received what the splits leave", PRICE - parts, outcome.payeeReceived),
			...splits.map(({ memo, amount }, at) => check(`the ${memo} was paid`, amount, received[at])),
			check("the payer sent the approval and nothing else", 1, outcome.payerTransactions),
		],
	};
}
