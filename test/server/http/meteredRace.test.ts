/** Several metered requests of one channel at a time (D16): what is delivered is paid for, whoever comes first. */
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { Meter, Piece } from "../../../src/server/index.ts";
import { FACES, type MeteredStage, meteredStage } from "../../support/meteredStage.ts";
import { useWorld } from "../../support/useWorld.ts";

const world = useWorld();
let stage: MeteredStage;
let together = 0;
let most = 0;

/** Sends 31 of a block of 32, and then nothing until it is stopped. */
async function* gated(meter: Meter): AsyncGenerator<Piece> {
	for (let n = 1; n <= 31; n++) {
		await meter.charge();
		yield { id: String(n), data: n };
	}
	await new Promise((resolve) => meter.signal.addEventListener("abort", resolve));
}

beforeAll(async () => {
	vi.spyOn(console, "error").mockImplementation(() => undefined);
	stage = await meteredStage(world, {
		"/gated": { metered: { blockUnits: 32, stallMs: 20_000 }, serve: gated },
		"/whole": {
			metered: { estimateUnits: 10, isShared: true },
			async serve(meter) {
				most = Math.max(most, ++together);
				await meter.charge(7);
				await new Promise((resolve) => setTimeout(resolve, 100));
				together--;
				return Response.json({ used: 7 });
			},
		},
	});
});
afterAll(() => stage.stop());

describe.each(FACES)("of the %s face", (face) => {
	it("of many newcomers one is the channel's stream, and a close leaves nothing unpaid", async () => {
		const payer = await stage.payer(face);
		const first = await payer.read("/gated", 1_000n);
		await first.event();
		const newcomers = await Promise.all(
			Array.from({ length: 6 }, (_, n) => payer.read("/gated", 1_001n + BigInt(n)).catch(() => undefined)),
		);
		let delivered = 1;
		let whole = 0;
		for (const reader of [first, ...newcomers]) {
			if (reader?.status !== 200) continue;
			let got = 0;
			// The pieces of a stream that was replaced end with it.
			while (got < 31) {
				const event = await Promise.race([
					reader.event().catch(() => undefined),
					new Promise<undefined>((resolve) => setTimeout(resolve, 1_000)),
				]);
				if (event === undefined) break;
				got++;
			}
			delivered += got;
			if (got === 31) whole++;
		}
		const before = await stage.server.ledger(payer.channel);
		const closed = await payer.close("/gated", (before?.spent ?? 0n) + 31n);
		expect(closed.status).toBe(200);
		const ledger = await stage.server.ledger(payer.channel);
		expect(ledger?.spent).toBeGreaterThanOrEqual(BigInt(delivered));
		expect(ledger).toMatchObject({ finalized: true, reservations: {}, settledOnChain: ledger?.spent });
		expect(whole).toBeGreaterThanOrEqual(1);
	});

	it("whole answers are made side by side where their route says so, each paid by its use", async () => {
		most = 0;
		const payer = await stage.payer(face);
		const answers = await Promise.all(Array.from({ length: 4 }, (_, n) => payer.get("/whole", 100n + BigInt(n))));
		expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
		expect(most).toBeGreaterThan(1);
		await payer.expectLedger(28n);
	});
});
