import { bookChecks, figures, readBooks } from "./books.ts";
import { payAll } from "./channelOutcome.ts";
import type { DemoOptions } from "./demo.ts";
import { check, type Outcome } from "./report.ts";
import { ServerStartError, startServer } from "./server.ts";
import type { World } from "./world.ts";

/** A second server on the data folder of a running one does not start, and says who has it. The first one notices nothing. */
export async function oneOwnerScenario(
	world: World,
	{ requests: wanted, concurrency }: Pick<DemoOptions, "requests" | "concurrency">,
	progress: (text: string) => void,
): Promise<Outcome> {
	const { server } = world;
	const requests = Math.max(2, wanted);
	const half = Math.floor(requests / 2);
	const agent = world.agent();
	progress(`the agent pays ${half} requests`);
	const startedAt = performance.now();
	const pay = (count: number) => payAll(() => agent.fetch(`${server.url}/session`), count, concurrency, progress);
	let ok = await pay(half);

	progress("a second server is started on the same folder");
	const refusal = await startSecond(world);
	progress(`it refuses: ${refusal}`);

	progress("the first one goes on");
	ok += await pay(requests - half);
	const secondsPaid = (performance.now() - startedAt) / 1_000;
	const closed = await agent.close();

	const books = await readBooks(
		world,
		closed.map(({ channel }) => channel.channelId),
	);
	const outcome = await figures(world, books, { scenario: "one-owner", requests, ok, secondsPaid });
	return {
		...outcome,
		refusal,
		checks: [
			check("every request was served", requests, ok),
			check("the second server says which process has the folder", true, refusal.includes(String(server.process.pid))),
			check(
				"one channel, closed",
				"1 true",
				`${books.channels.length} ${books.channels.every((one) => one.finalized)}`,
			),
			check("two transactions in all", 2, outcome.sessionTransactions),
			...bookChecks(books),
		],
	};
}

/** What a second server says when it ends. */
async function startSecond(world: World): Promise<string> {
	try {
		const second = await startServer({ ...world.settings, port: 0 });
		await second.stop();
		return "";
	} catch (error) {
		if (error instanceof ServerStartError) return error.message;
		throw error;
	}
}
