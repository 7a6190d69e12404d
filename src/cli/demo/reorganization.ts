import type { Hex } from "viem";
import type { PaymentClient } from "../../client/index.ts";
import type { EscrowEvent } from "../../escrow/escrowEvents.ts";
import { bookChecks, figures, readBooks } from "./books.ts";
import { pooled, takeOut } from "./chainControl.ts";
import { payAll } from "./channelOutcome.ts";
import type { DemoOptions } from "./demo.ts";
import { check, type Outcome } from "./report.ts";
import type { ServerVariation } from "./serverSettings.ts";
import { until } from "./until.ts";
import type { World } from "./world.ts";

/** Only told runs. */
const HOUR_MS = 3_600_000;

/** Requests that are tried while the channel is frozen. */
const TRIES = 3;

export const REORGANIZATION_SERVER: ServerVariation = {
	settlement: { maxUnsettled: "1" },
	watch: { pollMs: 250 },
	limits: { settleEveryMs: HOUR_MS },
	tell: ["onAtRisk", "onSettled"],
};

/** What was seen while a transaction was out of the chain. */
type Seen = Readonly<{ refused: number; withRetryAfter: number; sentAgain: boolean }>;

/**
 * A reorganization takes the transaction out of the chain that funded a channel, and later the one that settled it. Each time
 * the channel is frozen, nothing is sold, the same transaction is sent again, and the channel goes on when the chain has it.
 */
export async function reorganizationScenario(
	world: World,
	{ requests: wanted, concurrency }: Pick<DemoOptions, "requests" | "concurrency">,
	progress: (text: string) => void,
): Promise<Outcome> {
	const { server } = world;
	const each = Math.max(1, Math.floor(wanted / 3));
	const agent = world.agent({ retry: { retries: 0 } });
	const url = `${server.url}/session`;
	const startedAt = performance.now();
	const pay = () => payAll(() => agent.fetch(url), each, concurrency);
	let ok = await pay();
	const [channel] = agent.channels;
	if (channel === undefined) throw new Error("the agent has no channel");
	const { channelId } = channel;

	progress("a reorganization takes the channel's funding out of the chain");
	const funding = await goneAndBack(world, agent, channelId, "ChannelOpened");
	const paidAgain = await pay();
	progress("the chain has it again; the server settles");
	await server.command({ settle: true });
	await until("the channel was settled", () => server.events.some(({ event }) => event === "onSettled"));
	const before = await world.channelOnChain(channelId);

	progress("a reorganization takes the settlement out of the chain");
	const settling = await goneAndBack(world, agent, channelId, "Settled");
	const settledAgain = await world.channelOnChain(channelId);
	const paidAtLast = await pay();
	ok += paidAgain + paidAtLast;
	const secondsPaid = (performance.now() - startedAt) / 1_000;
	progress("the chain has it again; the agent closes");
	await agent.close();

	const requests = 3 * each;
	const frozen = funding.refused + settling.refused;
	const books = await readBooks(world, [channelId]);
	const outcome = await figures(world, books, { scenario: "reorganization", requests, ok, secondsPaid });
	const settlements = (await world.eventsOf(channelId)).filter(({ name }) => name === "Settled").length;
	return {
		...outcome,
		frozen,
		thawed: paidAgain + paidAtLast,
		settlements,
		checks: [
			check("every request that the channel was good for was served", requests, ok),
			check("requests refused while it was not (503)", 2 * TRIES, frozen),
			check("with Retry-After", 2 * TRIES, funding.withRetryAfter + settling.withRetryAfter),
			check("funding and settlement were sent again", "true true", `${funding.sentAgain} ${settling.sentAgain}`),
			check("the channel served again each time", `${each} ${each}`, `${paidAgain} ${paidAtLast}`),
			check("settled once, with the same amount", `1 ${before.settled}`, `${settlements} ${settledAgain.settled}`),
			check("three transactions in all", 3, outcome.sessionTransactions),
			check("the ledger spent what was served", outcome.settledOnChain, outcome.spent),
			...bookChecks(books),
		],
	};
}

/** Takes the transaction of an event out of the chain, tries to pay meanwhile, and lets it be mined again. */
async function goneAndBack(
	world: World,
	agent: PaymentClient,
	channelId: Hex,
	name: EscrowEvent["name"],
): Promise<Seen> {
	const { chain, server } = world;
	const find = async () => (await world.eventsOf(channelId)).find((event) => event.name === name);
	const event = await find();
	if (event === undefined) throw new Error(`the escrow tells of no ${name}`);
	const reports = () => server.events.filter((one) => one.event === "onAtRisk" && one.reason === "frozen").length;
	const before = reports();
	const mineAgain = await takeOut(chain.client, event.blockNumber);
	await until("the channel was frozen", () => reports() > before);
	let refused = 0;
	let withRetryAfter = 0;
	for (let at = 0; at < TRIES; at++) {
		const response = await agent.fetch(`${server.url}/session`);
		await response.arrayBuffer();
		if (response.status === 503) refused++;
		if (response.headers.has("retry-after")) withRetryAfter++;
	}
	const sentAgain = await until("the transaction was sent again", async () => (await pooled(chain.client)) > 0);
	await mineAgain();
	await until("it was mined again", find);
	// The server sees it with its next poll.
	await until(
		"the channel was thawed",
		async () => (await agent.fetch(`${server.url}/session`, { method: "HEAD" })).ok,
	);
	return { refused, withRetryAfter, sentAgain };
}
