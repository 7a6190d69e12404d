import { channelOutcome, payAll } from "./channelOutcome.ts";
import type { DemoOptions } from "./demo.ts";
import type { Outcome } from "./report.ts";
import { PRICE, type World } from "./world.ts";

/** The main job: one deposit, many paid requests, one close. The ledger's numbers beside the chain's. */
export async function sessionScenario(
	world: World,
	{ requests, concurrency }: Pick<DemoOptions, "requests" | "concurrency">,
	progress: (text: string) => void,
): Promise<Outcome> {
	const agent = world.agent();
	progress(`the agent pays ${requests} requests at ${PRICE} base units, ${concurrency} at a time`);
	const startedAt = performance.now();
	const ok = await payAll(() => agent.fetch(`${world.server.url}/session`), requests, concurrency, progress);
	const secondsPaid = (performance.now() - startedAt) / 1_000;

	progress("the agent closes its channel");
	const [closed] = await agent.close();
	if (closed === undefined) throw new Error("the agent had no channel to close");
	const { channelId } = closed.channel;
	return channelOutcome(world, { scenario: "session", channelId, requests, ok, secondsPaid, transactions: 2 });
}
