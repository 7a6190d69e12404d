/** What a face may do with a metered body, and what it costs then. The meter itself is a stand-in here. */
import { describe, expect, it } from "vitest";
import { problem } from "../../../src/protocol/index.ts";
import { type Captured, type Refused, refused } from "../../../src/server/admission.ts";
import { type AdmittedMetered, MeteredBody, webBody } from "../../../src/server/stream/body.ts";
import { type MeterStop, MeterStoppedError, type VoucherNeed } from "../../../src/server/stream/meter.ts";
import { fromPieces } from "../../../src/server/stream/source.ts";

const receipt = { method: "test", status: "success", timestamp: "2026-01-01T00:00:00Z", reference: "r" } as const;
const need: VoucherNeed = { channelId: "0x01", requiredCumulative: 2n, acceptedCumulative: 1n, deposit: 9n };

function stage(
	pieces: AsyncIterable<string>,
	{ isEventStream = false, outcome = { kind: "captured", receipt } as Captured | Refused } = {},
) {
	const log: string[] = [];
	const stopped = new AbortController();
	let listener: (need: VoucherNeed) => void = () => undefined;
	const admitted: AdmittedMetered = {
		kind: "admitted",
		payment: { intent: "session", amount: 1n, payer: "p" },
		metered: {
			meter: { charge: async () => undefined, unitPrice: 1n, units: 0n, signal: stopped.signal },
			settings: { estimateUnits: 1n, blockUnits: 1n, stallMs: 1_000 },
			onNeed: (heard) => {
				listener = heard;
				return () => void log.push("hears no needs");
			},
			delivered: () => void log.push("delivered"),
			stop: (why: MeterStop) => stopped.abort(new MeterStoppedError(why)),
		},
		capture: async () => {
			log.push("captured");
			return outcome;
		},
		release: async () => void log.push("released"),
	};
	const body = new MeteredBody({
		source: fromPieces(pieces),
		admitted,
		tariff: async () => undefined,
		isEventStream,
		stored: () => ({ status: 200, headers: {}, body: null }),
		onFault: (error) => void log.push(String(error)),
	});
	return { body, log, stop: admitted.metered.stop, ask: (asked = need) => listener(asked) };
}

async function* texts(...pieces: string[]) {
	yield* pieces;
}

const never = { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => undefined) }) };
const text = (bytes: Uint8Array | undefined) => (bytes === undefined ? undefined : new TextDecoder().decode(bytes));

describe("a metered body", () => {
	it("has delivered a piece when it is taken, not when it is ready", async () => {
		const { body, log } = stage(texts("a", "b"));
		await body.begin();
		expect(log).toEqual([]);
		expect(text(await body.next())).toBe("a");
		expect(log).toEqual(["delivered"]);
		await body.leave();
		expect(log).toEqual(["delivered", "hears no needs", "released"]);
	});

	it("that has begun and is never taken has delivered nothing", async () => {
		const { body, log } = stage(texts("a"));
		await body.begin();
		await body.leave();
		await expect(body.next()).rejects.toMatchObject({ why: "left" });
		expect(log).toEqual(["hears no needs", "released"]);
		expect(await body.receipt).toBeUndefined();
	});

	it("fails when its meter stops, also while nobody takes anything, and is released once", async () => {
		const { body, log, stop } = stage(texts("a", "b"));
		await body.next();
		const failed = Promise.withResolvers<unknown>();
		body.onFailure(failed.resolve);
		stop("replaced");
		expect(await failed.promise).toMatchObject({ why: "replaced" });
		await expect(body.next()).rejects.toMatchObject({ why: "replaced" });
		await body.leave();
		expect(log.filter((entry) => entry === "released")).toHaveLength(1);
	});

	it("does not wait for a source that never answers", async () => {
		const { body, stop } = stage(never);
		const next = body.next();
		stop("stalled");
		await expect(next).rejects.toMatchObject({ why: "stalled" });
	});

	it("asks for a voucher once, until something has changed", async () => {
		const { body, ask } = stage(never, { isEventStream: true });
		ask();
		expect(text(await body.next())).toContain('"requiredCumulative":"2"');
		ask();
		const next = body.next();
		ask({ ...need, deposit: 10n });
		expect(text(await next)).toContain('"deposit":"10"');
	});

	it("ends with its receipt, and has it for a trailer", async () => {
		const { body, log } = stage(texts("data: a\n\n"), { isEventStream: true });
		expect(text(await body.next())).toBe("data: a\n\n");
		expect(text(await body.next())).toContain("event: payment-receipt");
		expect(await body.next()).toBeUndefined();
		expect(await body.receipt).toEqual(receipt);
		await body.leave();
		expect(log.filter((entry) => entry === "captured")).toHaveLength(1);
		expect(log).not.toContain("released");
	});

	it("breaks off where it can no longer be charged at its end", async () => {
		const closing = refused(problem("session/channel-closing", "closing"));
		const { body } = stage(texts("a"), { outcome: closing });
		const reader = webBody(body).getReader();
		expect(text((await reader.read()).value)).toBe("a");
		await expect(reader.read()).rejects.toMatchObject({ why: "closed", problem: closing.problem });
		expect(await body.receipt).toBeUndefined();
	});

	it("as a Web stream makes nothing before it is read", async () => {
		let asked = 0;
		const counting = (async function* () {
			for (;;) yield String(++asked);
		})();
		const { body } = stage(counting);
		const reader = webBody(body).getReader();
		await new Promise((resolve) => setTimeout(resolve, 20));
		expect(asked).toBe(0);
		await reader.read();
		await new Promise((resolve) => setTimeout(resolve, 20));
		expect(asked).toBe(1);
		await reader.cancel();
		await expect(body.next()).rejects.toMatchObject({ why: "left" });
	});
});
