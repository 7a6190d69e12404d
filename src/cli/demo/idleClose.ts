import { bookChecks, figures, readBooks } from "./books.ts";
import { payAll } from "./channelOutcome.ts";
import type { DemoOptions } from "./demo.ts";
import { check, type Outcome } from "./report.ts";
import type { ServerVariation } from "./serverSettings.ts";
import { until } from "./until.ts";
import { PRICE, type World } from "./world.ts";

const IDLE_SECONDS = 2;

export const IDLE_CLOSE_SERVER: ServerVariation = {
	settlement: { idleSeconds: IDLE_SECONDS, onIdle: "close" },
	limits: { settleEveryMs: 250 },
	tell: ["onChannelClosed"],
};

/**
 * An agent pays and vanishes without a word. After the policy's time the server closes its channel by itself, with the highest
 * voucher, and the rest goes back to the payer. When the agent returns, it finds its channel gone and opens another one.
 */
export async function idleCloseScenario(
	world: World,
	{ requests: wanted, concurrency }: Pick<DemoOptions, "requests" | "concurrency">,
	progress: (text: string) => void,
): Promise<Outcome> {
	const { chain, payer, server } = world;
	const url = `${server.url}/session`;
	const agent = world.agent();
	const before = Math.max(1, wanted - 1);
	const requests = before + 1;
	progress(`the agent pays ${before} requests, ${concurrency} at a time, and vanishes`);
	const startedAt = performance.now();
	let ok = await payAll(() => agent.fetch(url), before, concurrency, progress);
	const secondsPaid = (performance.now() - startedAt) / 1_000;
	const vanishedAt = performance.now();
	const [first] = agent.channels;
	if (first === undefined) throw new Error("the agent had no channel to leave behind");

	progress(`nobody calls anything; the policy closes what is idle for ${IDLE_SECONDS} s`);
	const closed = async (channelId: typeof first.channelId) =>
		(await world.channelOnChain(channelId)).finalized && server.events.some((told) => told.channelId === channelId);
	await until("the idle channel was closed", () => closed(first.channelId));
	const closedAfterSeconds = (performance.now() - vanishedAt) / 1_000;
	const { settled, deposit } = await world.channelOnChain(first.channelId);
	const refunded = (await world.balance(payer.address)) - (world.funds - deposit);

	progress("the agent comes back and pays one more; then it vanishes again");
	const response = await agent.fetch(url);
	if (!response.ok) throw new Error(`the agent that came back was answered with ${response.status}`);
	await response.arrayBuffer();
	ok++;
	const second = agent.channels.find(({ channelId }) => channelId !== first.channelId);
	if (second === undefined) throw new Error("the agent opened no channel when it came back");
	await until("the second channel was closed", () => closed(second.channelId));

	const books = await readBooks(world, [first.channelId, second.channelId]);
	const outcome = await figures(world, books, { scenario: "idle-close", requests, ok, secondsPaid });
	return {
		...outcome,
		idleSeconds: IDLE_SECONDS,
		closedAfterSeconds: Number(closedAfterSeconds.toFixed(3)),
		checks: [
			check("every request was served", requests, ok),
			check("it was not closed before its time", true, closedAfterSeconds >= IDLE_SECONDS),
			check("the channel was closed with the highest voucher", PRICE * BigInt(before), settled),
			check("the rest was refunded", deposit - settled, refunded),
			check("the agent came back by a channel of its own", PRICE, books.channels[1]?.settledOnChain),
			check(
				"both channels are closed",
				true,
				books.channels.every(({ finalized }) => finalized),
			),
			check("two transactions for each channel", 4, outcome.sessionTransactions),
			check("the payer sent none", 0, await chain.client.getTransactionCount({ address: payer.address })),
			...bookChecks(books),
		],
	};
}
