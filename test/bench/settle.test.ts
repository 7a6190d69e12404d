import { expect, test } from "vitest";
import { bench, measureSettle } from "../../bench/settle/bench.ts";
import { readChannels } from "../../src/escrow/index.ts";
import { watchedStage } from "./watchedStage.ts";

test("all that channels owe is on chain after each round, in as few transactions as the size of batches allows", async () => {
	let received: bigint | undefined;
	let settled: readonly bigint[] = [];
	const set = watchedStage(async (balance, { escrow, channels }, client) => {
		received = balance;
		const ids = channels.map(({ channelId }) => channelId);
		settled = [...(await readChannels(client, escrow, ids)).values()].map((channel) => channel.settled);
	});
	const plan = { channels: 5, batchSizes: [1, 2, null] };
	const result = await measureSettle({ rounds: 2, progress: () => undefined }, plan, set);

	// Two rounds and the one that does not count, at 100 each.
	expect(settled).toEqual(Array(15).fill(300n));
	expect(received).toBe(15n * 300n);
	expect(result.sizes.map(({ transactions }) => transactions)).toEqual([5, 3, 1]);
	expect(result).toMatchObject({ channels: 5, transactions: 1 });
	const perGas = result.sizes.map(({ channelsPerMillionGas }) => channelsPerMillionGas);
	expect(perGas).toEqual(perGas.toSorted((a, b) => a - b));
	for (const { channelsPerSecond, gasUsed } of result.sizes) {
		expect(channelsPerSecond).toBeGreaterThan(0);
		expect(gasUsed).toBeGreaterThan(0);
	}
	expect(bench.table(result)).toContain("the policy's default");
}, 120_000);
