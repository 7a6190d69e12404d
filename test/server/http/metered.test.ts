import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { Meter, Piece } from "../../../src/server/index.ts";
import { expectPaid, expectRefusal } from "../../support/expect.ts";
import {
	FACES,
	type MeteredPage,
	type MeteredStage,
	meteredStage,
	spentOf,
	unitsOf,
} from "../../support/meteredStage.ts";
import { readEvents } from "../../support/streamReader.ts";
import { useWorld } from "../../support/useWorld.ts";

const charged: bigint[] = [];
let gate = Promise.withResolvers<void>();
let made = 0;

/** Charges each of `count` tokens itself, and yields it. */
async function* tokens(meter: Meter, count: number): AsyncGenerator<Piece> {
	for (let n = 1; n <= count; n++) {
		await meter.charge();
		yield { id: String(n), data: `token ${n}` };
	}
}

async function* texts(...pieces: string[]) {
	for (const piece of pieces) yield piece;
}

const bytesOf = (text: string) => new TextEncoder().encode(text);

function streamOf(...chunks: string[]): ReadableStream<Uint8Array> {
	return new ReadableStream(
		{
			async pull(controller) {
				const chunk = chunks.shift();
				// So that it is no answer that is there at once.
				await sleep(5);
				if (chunk === undefined) controller.close();
				else controller.enqueue(bytesOf(chunk));
			},
		},
		{ highWaterMark: 0 },
	);
}

const plain = { headers: { "content-type": "text/plain" } };
const events = { headers: { "content-type": "text/event-stream" } };

const pages: Record<string, MeteredPage> = {
	"/tokens": { metered: true, price: 100n, serve: (meter) => tokens(meter, 5) },
	"/gated": {
		metered: { per: "piece" },
		serve: async function* () {
			made = 1;
			yield { data: "first" };
			await gate.promise;
			made = 2;
			yield { data: "second" };
		},
	},
	"/by-piece": { metered: { per: "piece" }, serve: () => texts("data: a\n\n", "data: b\n\n", "", "data: c\n\n") },
	"/by-byte": { metered: { per: "byte", blockUnits: 4 }, serve: () => new Response(streamOf("four", "five!"), plain) },
	"/by-second": {
		metered: { per: "second" },
		serve: async function* () {
			yield { data: "at once" };
			yield { data: "in the same second" };
			await sleep(1_100);
			yield { data: "in another second" };
		},
	},
	"/whole-by-piece": { metered: { per: "piece" }, serve: () => Response.json({ whole: true }) },
	"/whole-by-byte": { metered: { per: "byte" }, serve: () => new Response("twelve bytes") },
	"/whole-empty": { metered: { per: "byte" }, serve: () => new Response(null, { status: 204 }) },
	"/usage": {
		metered: { estimateUnits: 50 },
		serve: async (meter, { query }) => {
			const used = Number(query.get("used"));
			await meter.charge(used);
			return Response.json({ used });
		},
	},
	"/usage-stalls": {
		metered: { estimateUnits: 10, stallMs: 50 },
		serve: async (meter) => {
			await meter.charge(11);
			return new Response("never");
		},
	},
	"/cut-short": {
		metered: { estimateUnits: 10, blockUnits: 10, stallMs: 50 },
		serve: async (meter) => {
			let text = "";
			try {
				for (;;) {
					await meter.charge();
					text += ".";
				}
			} catch {
				return new Response(text);
			}
		},
	},
	"/first-too-dear": { metered: { stallMs: 50 }, serve: (meter) => first(meter, 500) },
	"/throws": {
		metered: true,
		serve: async (meter) => {
			await meter.charge();
			throw new Error("no luck");
		},
	},
	"/throws-first": {
		metered: true,
		serve: async function* (meter) {
			await meter.charge();
			if (made < 0) yield "never";
			throw new Error("no luck");
		},
	},
	"/no-piece": { metered: { per: "piece" }, serve: () => texts(12 as never) },
	"/teapot": { metered: { per: "piece" }, serve: () => new Response("no", { status: 418 }) },
	"/empty": { metered: { per: "piece" }, serve: () => texts() },
	// Chunks that have nothing to do with where events end.
	"/ragged": {
		metered: { per: "piece" },
		serve: () => new Response(streamOf("data: he", "llo\n\ndata: wor", "ld\n", "\ndata: !\n\n"), events),
	},
};

async function* first(meter: Meter, units: number): AsyncGenerator<Piece> {
	await meter.charge(units);
	yield "never";
}

const world = useWorld();
let stage: MeteredStage;

beforeAll(async () => {
	// Hono's adapter prints what breaks off.
	vi.spyOn(console, "error").mockImplementation(() => undefined);
	stage = await meteredStage(world, pages, {
		engine: { hooks: { onCharged: ({ amount }) => void charged.push(amount) } },
	});
});
afterAll(async () => {
	await stage.stop();
	vi.restoreAllMocks();
});

describe.each(FACES)("a metered answer of the %s face", (face) => {
	it("leaves piece by piece, with a receipt in its head and, of all of it, as its last event", async () => {
		const payer = await stage.payer(face);
		charged.length = 0;
		const reader = await payer.read("/tokens", 1_000n);
		expect(reader.status).toBe(200);
		expect(reader.header("content-type")).toBe("text/event-stream");
		expect(reader.header("cache-control")).toMatch(/^private\b/);
		expect(reader.receipt).toMatchObject({ intent: "session", acceptedCumulative: 1_000n, spent: 0n });
		const { pieces, needs, receipt } = await readEvents(reader);
		expect(pieces).toEqual(["token 1", "token 2", "token 3", "token 4", "token 5"]);
		expect(needs).toEqual([]);
		expect(receipt).toMatchObject({ spent: 500n, units: 5, acceptedCumulative: 1_000n });
		await payer.expectLedger(500n, 1_000n);
		expect(charged, "told once, of the whole").toEqual([500n]);
	});

	it("lets its first piece leave before its handler has made the second one", async () => {
		const payer = await stage.payer(face);
		gate = Promise.withResolvers();
		const reader = await payer.read("/gated", 10n);
		expect(await reader.event()).toMatchObject({ data: "first" });
		expect(made).toBe(1);
		gate.resolve();
		expect(await reader.event()).toMatchObject({ data: "second" });
		expect((await readEvents(reader)).receipt).toMatchObject({ spent: 2n, units: 2 });
	});

	it.each([
		["/by-piece", 3],
		["/by-byte", 9],
		["/by-second", 2],
	])("%s is charged as the route says: %i", async (path, units) => {
		const payer = await stage.payer(face);
		const answer = await payer.get(path, 100n);
		expectPaid(answer);
		await payer.expectLedger(BigInt(units), 100n);
	});

	it.each([
		["/whole-by-piece", 1],
		["/whole-by-byte", 12],
		["/whole-empty", 0],
	])("%s, which is there at once, is charged before it leaves: %i", async (path, units) => {
		const payer = await stage.payer(face);
		const { receipt } = await payer.get(path, 100n);
		expect([spentOf(receipt), unitsOf(receipt)]).toEqual([BigInt(units), units]);
		await payer.expectLedger(BigInt(units));
	});

	it("is reserved by an estimate and charged by what it used; the rest is free again (I7)", async () => {
		const payer = await stage.payer(face);
		expectRefusal(await payer.get("/usage?used=7", 49n), "session/insufficient-balance");
		let vouchers = 0;
		for (const [used, spent] of [
			[7n, 7n],
			[50n, 57n],
			// More than was estimated, out of what the voucher covers besides.
			[90n, 147n],
			[0n, 147n],
		] as const) {
			// A higher voucher each time: without one, it would be the same credential again (D7).
			const answer = await payer.get(`/usage?used=${used}`, 200n + spent + BigInt(++vouchers));
			expect(answer.json).toEqual({ used: Number(used) });
			expect([spentOf(answer.receipt), unitsOf(answer.receipt)]).toEqual([spent, Number(used)]);
			await payer.expectLedger(spent);
		}
	});

	it("is charged once for an Idempotency-Key, by what it used the first time (I6)", async () => {
		const payer = await stage.payer(face);
		const once = { key: `usage-${face}` };
		const first = await payer.get("/usage?used=7", 100n, once);
		expect(await payer.get("/usage?used=7", 100n, once)).toMatchObject({ json: { used: 7 }, receipt: first.receipt });
		await payer.expectLedger(7n, 100n);
	});

	it.each(["/usage-stalls", "/first-too-dear"])(
		"%s asks for a voucher when none came in time, and costs nothing",
		async (path) => {
			const payer = await stage.payer(face);
			const isStream = path === "/first-too-dear";
			const reader = await payer.read(path, 10n);
			if (isStream) {
				// An event stream begins with its question.
				const { pieces, needs, isBroken } = await readEvents(reader);
				expect([pieces, isBroken]).toEqual([[], true]);
				expect(needs).toMatchObject([{ requiredCumulative: 500n, acceptedCumulative: 10n, deposit: 10_000n }]);
			} else {
				expect(reader.status).toBe(402);
				expect(reader.receipt).toBeUndefined();
				expect(reader.header("www-authenticate")).toBeDefined();
				expect(await reader.problem()).toMatchObject({ requiredCumulative: "11", acceptedCumulative: "10" });
			}
			await payer.expectLedger(0n, 10n);
		},
	);

	it("may end with what was paid for, where its handler answers though no voucher came", async () => {
		const payer = await stage.payer(face);
		const answer = await payer.get("/cut-short", 15n);
		expect(answer).toMatchObject({ status: 200, text: ".".repeat(15), receipt: { spent: 15n, units: 15 } });
		await payer.expectLedger(15n);
	});

	it.each([
		["/throws", 500],
		["/throws-first", 500],
		["/no-piece", 500],
		["/teapot", 418],
	])("%s fails before its first byte: %i, without a receipt, and costs nothing (I7)", async (path, status) => {
		const payer = await stage.payer(face);
		const answer = await payer.get(path, 10n);
		expect(answer.status).toBe(status);
		expect(answer.receipt).toBeUndefined();
		await payer.expectLedger(0n, 10n);
	});

	it("may be empty", async () => {
		const payer = await stage.payer(face);
		const { pieces, receipt } = await readEvents(await payer.read("/empty", 10n));
		expect(pieces).toEqual([]);
		expect(receipt).toMatchObject({ spent: 0n });
		await payer.expectLedger(0n);
	});

	it("asks for vouchers between its events, wherever its chunks end", async () => {
		const payer = await stage.payer(face);
		const reader = await payer.read("/ragged", 1n);
		const { pieces, needs, receipt } = await readEvents(reader, ({ requiredCumulative }) =>
			payer.pay("/ragged", requiredCumulative),
		);
		expect(pieces).toEqual(["hello", "world", "!"]);
		expect(needs.map(({ requiredCumulative }) => requiredCumulative)).toEqual([2n, 3n, 4n]);
		expect(receipt).toMatchObject({ spent: 4n, units: 4 });
		await payer.expectLedger(4n, 4n);
	});

	it("is not asked for by HEAD: that is about the channel alone (D11)", async () => {
		const payer = await stage.payer(face);
		gate = Promise.withResolvers();
		made = 0;
		expect((await payer.pay("/gated", 10n)).receipt).toMatchObject({ acceptedCumulative: 10n, spent: 0n });
		expect(made).toBe(0);
	});
});
