/** What long streams leave behind, and how much memory they take: nothing, and as much as short ones. */
import { type EventEmitter, getEventListeners } from "node:events";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { Meter, Piece } from "../../../src/server/index.ts";
import { RunningStreams } from "../../../src/server/stream/running.ts";
import { Wakes } from "../../../src/server/stream/wakes.ts";
import { FACES, type MeteredStage, meteredStage } from "../../support/meteredStage.ts";
import { readEvents } from "../../support/streamReader.ts";
import { useWorld } from "../../support/useWorld.ts";

const WAITS = 300;
const PIECES = 200_000;

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

const world = useWorld();
let stage: MeteredStage;
let meters: Meter[] = [];
let atPiece: (n: number) => void = () => undefined;

async function* tokens(meter: Meter, count: number): AsyncGenerator<Piece> {
	meters.push(meter);
	for (let n = 1; n <= count; n++) {
		await meter.charge();
		atPiece(n);
		yield { data: n };
	}
}

const waiting = vi.spyOn(Wakes.prototype, "listen");
const running = vi.spyOn(RunningStreams.prototype, "begin");

/** How many wait for a voucher, and how many streams there are, in all engines. */
function underWay() {
	const sizes = ({ mock }: Readonly<{ mock: Readonly<{ contexts: readonly unknown[] }> }>) =>
		[...new Set(mock.contexts as { size: number }[])].reduce((sum, { size }) => sum + size, 0);
	return { waiting: sizes(waiting), running: sizes(running) };
}

/** Everything in this process that a stream might forget to let go of. */
function held(meter: Meter) {
	const count = (emitter: EventEmitter) =>
		emitter.eventNames().reduce((sum, name) => sum + emitter.listenerCount(name), 0);
	const resources = process.getActiveResourcesInfo();
	return {
		onSignal: getEventListeners(meter.signal, "abort").length,
		onProcess: count(process),
		timers: resources.filter((kind) => kind === "Timeout" || kind === "Immediate").length,
	};
}

beforeAll(async () => {
	vi.spyOn(console, "error").mockImplementation(() => undefined);
	stage = await meteredStage(world, {
		"/tokens": {
			metered: { blockUnits: 1, stallMs: 20_000 },
			serve: (meter, { query }) => tokens(meter, Number(query.get("count"))),
		},
		"/many": { metered: { blockUnits: 2_000 }, serve: (meter) => tokens(meter, PIECES) },
	});
});
afterAll(async () => {
	await stage.stop();
	vi.restoreAllMocks();
});

describe.each(FACES)("a long stream of the %s face", (face) => {
	it(`leaves no listener and no timer behind, after ${WAITS} waits for a voucher and at its end`, async () => {
		meters = [];
		const payer = await stage.payer(face);
		const reader = await payer.read(`/tokens?count=${WAITS + 1}`, 1n);
		const [meter] = meters;
		if (meter === undefined) throw new Error("no handler ran");
		const held300: ReturnType<typeof held>[] = [];
		const sockets: number[] = [];
		const { pieces, needs, receipt } = await readEvents(reader, async ({ requiredCumulative }) => {
			expect(underWay()).toEqual({ waiting: 1, running: 1 });
			held300.push(held(meter));
			sockets.push(reader.listeners);
			await payer.pay("/tokens", requiredCumulative);
		});
		expect(pieces).toHaveLength(WAITS + 1);
		expect(needs).toHaveLength(WAITS);
		expect(receipt).toMatchObject({ spent: BigInt(WAITS + 1), units: WAITS + 1 });
		// As much at its last wait as at its tenth: sockets have come and gone by then.
		const [, , , , , , , , , tenth] = held300;
		const last = held300.at(-1);
		expect(last).toMatchObject({ onSignal: tenth?.onSignal, onProcess: tenth?.onProcess });
		expect(last?.timers).toBeLessThanOrEqual((tenth?.timers ?? 0) + 1);
		expect(sockets.at(-1)).toBeLessThanOrEqual(sockets[9] ?? 0);
		expect(last?.onSignal).toBeLessThanOrEqual(3);
		await expect.poll(underWay).toEqual({ waiting: 0, running: 0 });
		expect(getEventListeners(meter.signal, "abort").length).toBeLessThanOrEqual(1);
		await payer.expectLedger(BigInt(WAITS + 1));
	});

	it("leaves nothing behind when its reader vanishes either", async () => {
		for (let n = 0; n < 10; n++) {
			const payer = await stage.payer(face);
			const reader = await payer.read("/tokens?count=100", 3n);
			await readEvents(reader, async () => reader.leave());
			await payer.expectLedger(3n);
		}
		await expect.poll(underWay).toEqual({ waiting: 0, running: 0 });
	});

	it(`of ${PIECES} pieces takes no more memory than a short one`, async () => {
		const payer = await stage.payer(face, BigInt(PIECES));
		const heap: number[] = [];
		atPiece = (n) => {
			if (n % (PIECES / 4) !== 0) return;
			collect();
			heap.push(process.memoryUsage().heapUsed);
		};
		const reader = await payer.read("/many", BigInt(PIECES));
		let count = 0;
		let receipt: Awaited<ReturnType<typeof readEvents>>["receipt"];
		for (;;) {
			const part = await readEvents(reader, undefined, ({ length }) => length === 5_000);
			count += part.pieces.length;
			receipt = part.receipt;
			if (part.pieces.length < 5_000) break;
		}
		atPiece = () => undefined;
		expect(count).toBe(PIECES);
		expect(receipt).toMatchObject({ spent: BigInt(PIECES), units: PIECES });
		await payer.expectLedger(BigInt(PIECES));
		const [first = 0, , , last = 0] = heap;
		expect(heap).toHaveLength(4);
		expect(last - first).toBeLessThan(4_000_000);
	});
});
