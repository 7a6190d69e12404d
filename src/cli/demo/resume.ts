import { channelOutcome, payAll } from "./channelOutcome.ts";
import type { DemoOptions } from "./demo.ts";
import { check, type Outcome } from "./report.ts";
import { PRICE, type World } from "./world.ts";

/**
 * Two sessions on one channel: the first agent ends, the server loses its store, and a second agent goes on where the
 * first one stopped. The server finds the channel on chain again and counts what was paid before as delivered (D10).
 */
export async function resumeScenario(
	world: World,
	{ requests, concurrency }: Pick<DemoOptions, "requests" | "concurrency">,
	progress: (text: string) => void,
): Promise<Outcome> {
	const half = Math.max(1, Math.floor(requests / 2));
	const first = world.agent();
	progress(`an agent pays ${half} requests at ${PRICE} base units and ends`);
	const startedAt = performance.now();
	let ok = await payAll(() => first.fetch(`${world.server.url}/session`), half, concurrency, progress);
	const state = first.channels[0]?.state();
	if (state === undefined) throw new Error("the agent had no channel to leave behind");

	progress("the server stops and loses its store");
	await world.loseStore();

	const second = world.agent({ resume: [state] });
	progress(`another agent goes on with the same channel: ${requests - half} requests more`);
	ok += await payAll(() => second.fetch(`${world.server.url}/session`), requests - half, concurrency, progress);
	const secondsPaid = (performance.now() - startedAt) / 1_000;

	progress("it closes the channel");
	const closed = await second.close();
	const outcome = await channelOutcome(world, {
		scenario: "resume",
		channelId: state.channelId,
		requests,
		ok,
		secondsPaid,
		transactions: 2,
	});
	return {
		...outcome,
		paidBefore: half,
		paidAfter: requests - half,
		checks: [
			...outcome.checks,
			check("the second agent closed the first one's channel", state.channelId, closed[0]?.channel.channelId),
			check("it opened none of its own", 1, closed.length),
			check("the first agent had been charged for its half", PRICE * BigInt(half), state.consumed),
		],
	};
}
