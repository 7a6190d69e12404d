import { expect, test } from "vitest";
import { peersInstalled } from "../../bench/lib/peers.ts";
import { bench, measureSessionHttp } from "../../bench/sessionHttp/bench.ts";

const PLAN = { channels: 4, connections: 2, count: 44, unpaidCount: 8, slowCount: 8 };
const WITHOUT_PEERS = new URL("file:///nowhere/");

// What it reports says nothing of money: each round throws unless the server's books say that every answer was paid once.
test("whole requests are paid once each, with and without the native library, and ahead of them; the rest is ratios", async () => {
	const told: string[] = [];
	const options = { rounds: 2, quick: true, progress: (text: string) => void told.push(text) };
	const result = await measureSessionHttp(options, PLAN, WITHOUT_PEERS);
	for (const side of [result.ours, result.ahead, result.fallback, result.portable, result.unpaid]) {
		expect(side.perSecond).toBeGreaterThan(0);
		expect(side.cpuMicros).toBeGreaterThan(0);
		expect(side.p99Ms).toBeGreaterThanOrEqual(side.p50Ms ?? Number.NaN);
	}
	expect(result).toMatchObject({
		x402: null,
		vsX402: null,
		aheadVsX402: null,
		fallbackVsX402: null,
		portableVsX402: null,
	});
	expect(result.paidOverUnpaid).toBeGreaterThan(0);
	expect(result.addedMicros).toBeCloseTo(result.ours.cpuMicros - result.unpaid.cpuMicros);
	expect(told).toContainEqual(expect.stringContaining("bench:setup"));
	expect(bench.table(result)).toContain("without the native library");
}, 180_000);

test.runIf(peersInstalled())(
	"and beside x402's, whose books are read as well",
	async () => {
		const { x402, vsX402, aheadVsX402, fallbackVsX402, portableVsX402 } = await measureSessionHttp(
			{ rounds: 1, quick: true, progress: () => undefined },
			PLAN,
		);
		expect(x402?.perSecond).toBeGreaterThan(0);
		for (const ratio of [vsX402, aheadVsX402, fallbackVsX402, portableVsX402]) expect(ratio).toBeGreaterThan(0);
	},
	180_000,
);
