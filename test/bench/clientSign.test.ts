import { join } from "node:path";
import { Level } from "level";
import { expect, test } from "vitest";
import { bench, measureClientSign } from "../../bench/clientSign/bench.ts";
import { PRICE } from "../../bench/clientSign/payer.ts";
import { setStage } from "../../bench/lib/stage.ts";
import { LevelPayerStore } from "../../src/client/index.ts";

const NOWHERE = new URL("./no-peers/", import.meta.url);

test("headers are signed for what their record on disk says, and for no more (I11)", async () => {
	const kept: string[] = [];
	const watched: typeof setStage = async (wanted) => {
		const stage = await setStage(wanted);
		return {
			...stage,
			async stop() {
				const db = new Level<string, string>(join(stage.folder, "disk-native-0"));
				const store = await LevelPayerStore.open({ db });
				kept.push(...(await store.list()).map(({ record }) => record.state.signed));
				await store.close();
				await stage.stop();
			},
		};
	};
	const plan = { atOnce: 4, count: 20, aloneCount: 5, requestCount: 6, portableCount: 3 };
	const run = { rounds: 2, quick: true, progress: () => undefined, setStage: watched };
	const result = await measureClientSign(run, plan, NOWHERE);

	// Two rounds and the one that does not count.
	expect(kept).toEqual([String(3n * (20n + 5n) * PRICE)]);
	const { ours, alone, inMemory, viem, signatures, requests } = result;
	for (const figures of [ours, alone, inMemory, viem, signatures, requests]) {
		expect(figures.perSecond).toBeGreaterThan(0);
		expect(figures.cpuMicros).toBeGreaterThan(0);
		expect(figures.p99Ms).toBeGreaterThanOrEqual(figures.p50Ms ?? Number.NaN);
	}
	expect(result).toMatchObject({ atOnce: 4, mppx: null, vsMppx: null, inMemoryVsMppx: null });
	expect(result.curve).toMatch(/^(libsecp256k1|portable)$/);
	expect(bench.table(result)).toContain("Sluice, LevelDB with fsync, 4 at once");
}, 120_000);
