/** What leaves was paid for: also what its handler has not waited for, or has made long before it leaves. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import type { Meter, Piece } from "../../../src/server/index.ts";
import { FACES, type MeteredPage, type MeteredStage, meteredStage } from "../../support/meteredStage.ts";
import { readEvents } from "../../support/streamReader.ts";
import { useWorld } from "../../support/useWorld.ts";

const world = useWorld();
let stage: MeteredStage;
let silence = Promise.withResolvers<void>();
let entered = 0;
/** Steps between the first piece and the end of all streams. */
let hops = 0;

async function* unawaited(meter: Meter, count: number): AsyncGenerator<Piece> {
	for (let n = 1; n <= count; n++) {
		meter.charge().catch(() => undefined);
		yield { id: String(n), data: n };
	}
}

async function* lines(meter: Meter, count: number): AsyncGenerator<string> {
	for (let n = 1; n <= count; n++) {
		await meter.charge();
		yield `${n}\n`;
	}
}

const whole = (meter: Meter, count: number) => {
	for (let n = 1; n <= count; n++) meter.charge().catch(() => undefined);
	return Response.json({ count });
};

/** Says its head, and nothing after it. */
function silent(status: number): Response {
	entered++;
	const body = new ReadableStream({
		pull: async (controller) => {
			await silence.promise;
			controller.close();
		},
	});
	return new Response(body, { status, headers: { "content-type": "text/plain" } });
}

const patient = { blockUnits: 4, stallMs: 20_000 };
const impatient = { blockUnits: 4, stallMs: 100 };

const pages: Record<string, MeteredPage> = {
	"/tokens": { metered: patient, serve: (meter) => lines(meter, 3) },
	"/unawaited": { metered: impatient, serve: (meter) => unawaited(meter, 200) },
	"/unawaited-last": {
		metered: impatient,
		serve: async function* (meter) {
			yield { data: "free" };
			meter.charge(50).catch(() => undefined);
		},
	},
	"/whole": { metered: impatient, serve: (meter, { query }) => whole(meter, Number(query.get("count"))) },
	"/fractions": {
		metered: impatient,
		serve: (meter) => {
			meter.charge(1.5).catch(() => undefined);
			return new Response("sold by halves");
		},
	},
	"/silent": { metered: patient, serve: () => silent(200) },
	"/silent-error": { metered: patient, serve: () => silent(418) },
	"/stopped-early": {
		metered: patient,
		serve: async function* (meter) {
			await meter.charge();
			void (async () => {
				for (let n = 0; n < hops; n++) await undefined;
				stage.server.engine.endStreams();
			})();
			yield { data: "first" };
			await sleep(20_000, undefined, { signal: meter.signal }).catch(() => undefined);
		},
	},
};

beforeAll(async () => {
	// Hono's adapter prints what breaks off.
	vi.spyOn(console, "error").mockImplementation(() => undefined);
	stage = await meteredStage(world, pages);
});
afterAll(async () => {
	silence.resolve();
	await stage.stop();
	vi.restoreAllMocks();
});
beforeEach(() => {
	silence = Promise.withResolvers();
	entered = 0;
});

describe.each(FACES)("a metered answer of the %s face", (face) => {
	it("whose handler waits for no charge delivers what was paid for, and no more (I1)", async () => {
		const payer = await stage.payer(face);
		const { pieces, needs, isBroken } = await readEvents(await payer.read("/unawaited", 10n));
		expect([pieces.length, isBroken]).toEqual([10, true]);
		expect(needs).toMatchObject([{ requiredCumulative: 11n }]);
		await payer.expectLedger(10n, 10n);
	});

	it("does so also as it is paid on", async () => {
		const payer = await stage.payer(face);
		const { pieces, receipt } = await readEvents(await payer.read("/unawaited", 10n), ({ requiredCumulative }) =>
			payer.pay("/unawaited", requiredCumulative + 70n),
		);
		expect(pieces).toHaveLength(200);
		expect(receipt).toMatchObject({ spent: 200n, units: 200 });
		await payer.expectLedger(200n);
	});

	it("does not end well where its last charge is not paid", async () => {
		const payer = await stage.payer(face);
		const { pieces, receipt, isBroken } = await readEvents(await payer.read("/unawaited-last", 10n));
		expect([pieces, receipt, isBroken]).toEqual([["free"], undefined, true]);
		await payer.expectLedger(0n, 10n);
	});

	it("that is whole is not given away either", async () => {
		const payer = await stage.payer(face);
		expect(await payer.get("/whole?count=11", 10n)).toMatchObject({ status: 402, receipt: undefined });
		await payer.expectLedger(0n, 10n);
		expect(await payer.get("/whole?count=11", 11n)).toMatchObject({ status: 200, receipt: { spent: 11n, units: 11 } });
		expect((await payer.get("/whole?count=5000", 9_000n)).status, "more charges at a time than are taken").toBe(500);
		await payer.expectLedger(11n);
	});

	it("is not sold for a charge that was none", async () => {
		const payer = await stage.payer(face);
		expect((await payer.get("/fractions", 10n)).status).toBe(500);
		await payer.expectLedger(0n);
	});

	it.each(["/silent", "/silent-error"])("%s gives its place up though it says nothing (D16)", async (path) => {
		const payer = await stage.payer(face);
		const old = payer.get(path, 10n).catch(() => undefined);
		await expect.poll(() => entered).toBe(1);
		await sleep(50);
		expect(await payer.get("/tokens", 11n)).toMatchObject({ status: 200 });
		await payer.expectLedger(3n, 11n);
		if (path === "/silent") expect(await old).toMatchObject({ status: 409, receipt: undefined });
		silence.resolve();
		await old;
	});

	it("is refused, and not failed, when its meter stops while its head leaves", async () => {
		const payer = await stage.payer(face, 100_000n);
		for (hops = 0; hops < 60; hops += 3) {
			const { spent: before = 0n } = (await stage.server.amounts(payer.channel)) ?? {};
			const reader = await payer.read("/stopped-early", 1_000n + BigInt(hops)).catch(() => undefined);
			expect([200, 409, 410, undefined], `${hops} steps after its piece`).toContain(reader?.status);
			const { pieces } = reader?.status === 200 ? await readEvents(reader) : { pieces: [] };
			await payer.expectLedger(before + BigInt(pieces.length));
		}
	});
});
