import { CANONICAL_PERMIT2 } from "../../voucher/index.ts";
import { channelOutcome, payAll } from "./channelOutcome.ts";
import type { DemoOptions } from "./demo.ts";
import { check, type Outcome } from "./report.ts";
import { PRICE, type World } from "./world.ts";

/**
 * A channel for any ERC-20 token: the payer approves Permit2 once; then signatures open the channel and top it up before it
 * runs dry, and the server sends them.
 */
export async function permit2Scenario(
	world: World,
	{ requests, concurrency }: Pick<DemoOptions, "requests" | "concurrency">,
	progress: (text: string) => void,
): Promise<Outcome> {
	const { chain, payer, funds } = world;
	progress("the payer approves Permit2 for its tokens, once");
	await world.approve(CANONICAL_PERMIT2, funds);
	const agent = world.agent();
	progress(`the agent pays ${requests} requests at ${PRICE} base units, ${concurrency} at a time, by Permit2`);
	const startedAt = performance.now();
	const ok = await payAll(() => agent.fetch(`${world.server.url}/permit2`), requests, concurrency, progress);
	const secondsPaid = (performance.now() - startedAt) / 1_000;

	progress("the agent closes its channel");
	const [closed] = await agent.close();
	if (closed === undefined) throw new Error("the agent had no channel to close");
	const { channelId } = closed.channel;
	const transactions = requests === 1 ? 2 : 3;
	const outcome = await channelOutcome(world, {
		scenario: "permit2",
		channelId,
		requests,
		ok,
		secondsPaid,
		transactions,
	});
	const payerTransactions = await chain.client.getTransactionCount({ address: payer.address });
	const events = await world.eventsOf(channelId);
	const toppedUp = events.reduce((sum, event) => sum + (event.name === "ToppedUp" ? event.amount : 0n), 0n);
	return {
		...outcome,
		payerTransactions,
		toppedUp: String(toppedUp),
		checks: [
			...outcome.checks,
			check("the payer sent the approval and nothing else", 1, payerTransactions),
			check("the channel was topped up before it ran dry", requests > 1, toppedUp > 0n),
		],
	};
}
