import type { Hex } from "viem";
import { bookChecks, figures, readBooks } from "./books.ts";
import { payAll } from "./channelOutcome.ts";
import { CRASH_POINTS, type CrashPoint } from "./crash.ts";
import type { DemoOptions } from "./demo.ts";
import { check, type Outcome } from "./report.ts";
import type { ServerVariation } from "./serverSettings.ts";
import { until } from "./until.ts";
import { PRICE, type World } from "./world.ts";

/** Only told runs, and the one at the start. */
const HOUR_MS = 3_600_000;

export const CRASH_SERVER: ServerVariation = {
	settlement: { maxUnsettled: "1" },
	limits: { settleEveryMs: HOUR_MS },
	tell: ["onSettled"],
};

/** Every step of a settlement's way to the chain and back. */
const POINTS: readonly CrashPoint[] = ["record", "recorded", "broadcast", "mined", "concluded"];

/**
 * The server is killed (SIGKILL) at each step of a settlement, with a channel of its own for each. After the restart every channel
 * has been settled exactly once, to the unit.
 */
export async function crashScenario(
	world: World,
	{ requests: wanted, concurrency }: Pick<DemoOptions, "requests" | "concurrency">,
	progress: (text: string) => void,
): Promise<Outcome> {
	const each = Math.max(1, Math.floor(wanted / POINTS.length));
	const requests = each * POINTS.length;
	const payers = [world.payer, ...(await world.addPayers(POINTS.length - 1))];
	const channelIds: Hex[] = [];
	const deaths: string[] = [];
	let ok = 0;
	let secondsPaid = 0;
	for (const [at, point] of POINTS.entries()) {
		const agent = world.agent({ ...(payers[at] && { account: payers[at] }) });
		const startedAt = performance.now();
		ok += await payAll(() => agent.fetch(`${world.server.url}/session`), each, concurrency);
		secondsPaid += (performance.now() - startedAt) / 1_000;
		const [channel] = agent.channels;
		if (channel === undefined) throw new Error("the agent opened no channel");
		channelIds.push(channel.channelId);

		progress(`the settlement begins; the server is killed ${CRASH_POINTS[point]}`);
		await world.server.command({ arm: { kind: "settle", point } });
		await world.server.command({ settle: true });
		deaths.push(await world.server.died());
		const { events } = await world.restartServer();
		await until("the channel was settled", async () => {
			const { settled } = await world.channelOnChain(channel.channelId);
			// One that had left no trace is sent after the start: its conclusion must not be taken for the next one's.
			return settled === PRICE * BigInt(each) && (point !== "record" || events.length > 0);
		});
	}

	progress("once more a run for all, which must find nothing to do");
	await world.restartServer();
	await world.server.command({ settle: true });
	const books = await readBooks(world, channelIds);
	const settlements = await Promise.all(channelIds.map((channelId) => settlementsOf(world, channelId)));
	const outcome = await figures(world, books, { scenario: "crash-in-settlement", requests, ok, secondsPaid });
	return {
		...outcome,
		crashPoints: POINTS.map((point) => CRASH_POINTS[point]),
		settlementsPerPoint: settlements.map(({ length }) => length),
		checks: [
			check("every request was served", requests, ok),
			check(
				"the server died where it was to",
				POINTS.map((point) => `settle ${point}`),
				deaths,
			),
			check(
				"one settlement for each",
				POINTS.map(() => 1),
				settlements.map(({ length }) => length),
			),
			check(
				"of all that was owed",
				POINTS.map(() => PRICE * BigInt(each)),
				settlements.flat(),
			),
			check("two transactions for each channel", 2 * POINTS.length, outcome.sessionTransactions),
			...bookChecks(books),
		],
	};
}

/** What each settlement of a channel brought, from the escrow's events. */
async function settlementsOf(world: World, channelId: Hex): Promise<readonly bigint[]> {
	const events = await world.eventsOf(channelId);
	return events.flatMap((event) => (event.name === "Settled" ? [event.delta] : []));
}
