/** What a face may do with a metered body, and what it costs then. The meter itself is a stand-in here. */
import { Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import { problem } from "../../../src/protocol/index.ts";
import { type Captured, type Refused, refused } from "../../../src/server/admission.ts";
import { type AdmittedMetered, MeteredBody, webBody } from "../../../src/server/stream/body.ts";
import {
	type MeterControl,
	type MeterStop,
	MeterStoppedError,
	type VoucherNeed,
} from "../../../src/server/stream/meter.ts";
import { fromNode } from "../../../src/server/stream/nodeSource.ts";
import { paidSoFar } from "../../../src/server/stream/paidSoFar.ts";
import { fromPieces } from "../../../src/server/stream/source.ts";

const receipt = { method: "test", status: "success", timestamp: "2026-01-01T00:00:00Z", reference: "r" } as const;
const need: VoucherNeed = { channelId: "0x01", requiredCumulative: 2n, acceptedCumulative: 1n, deposit: 9n };

function stage(
	pieces: AsyncIterable<string>,
	{
		isEventStream = false,
		source = (_: MeterControl) => fromPieces(pieces),
		outcome = { kind: "captured", receipt } as Captured | Refused,
	} = {},
) {
	const log: string[] = [];
	const stopped = new AbortController();
	let listener: ((need: VoucherNeed) => void) | undefined;
	let standing: VoucherNeed | undefined;
	let takenSoon: () => Promise<void> | undefined = () => undefined;
	let charged = 0n;
	let unpaid: Promise<void> = Promise.resolve();
	const admitted: AdmittedMetered = {
		kind: "admitted",
		payment: { intent: "session", amount: 1n, payer: "p" },
		metered: {
			meter: { charge: async () => undefined, unitPrice: 1n, units: 0n, signal: stopped.signal },
			settings: { estimateUnits: 1n, blockUnits: 1n, stallMs: 1_000, isShared: false },
			onNeed: (heard) => {
				if (standing !== undefined) heard(standing);
				if (listener !== undefined) return () => undefined;
				listener = heard;
				return () => void log.push("hears no needs");
			},
			settled: () => unpaid,
			mark: () => charged,
			beforeBlock: (wait) => {
				takenSoon = wait;
			},
			delivered: (mark) => void log.push(mark === 0n ? "delivered" : `delivered up to ${mark}`),
			stop: (why: MeterStop) => stopped.abort(new MeterStoppedError(why)),
		},
		capture: async () => {
			log.push("captured");
			return outcome;
		},
		release: async () => void log.push("released"),
	};
	const body = new MeteredBody({
		source: source(admitted.metered),
		admitted,
		tariff: async () => undefined,
		isEventStream,
		stored: () => ({ status: 200, headers: {}, body: null }),
		onFault: (error) => void log.push(String(error)),
	});
	return {
		body,
		log,
		stop: admitted.metered.stop,
		takenSoon: () => takenSoon(),
		ask(asked = need) {
			standing = asked;
			listener?.(asked);
		},
		goOn() {
			standing = undefined;
		},
		/** Charges that are not paid for before `paid`. */
		charge(units: bigint, paid: Promise<void> = Promise.resolve()) {
			charged += units;
			unpaid = paid;
		},
	};
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

	it("does not ask for what has come meanwhile, and asks again where it is needed again", async () => {
		const gate = Promise.withResolvers<void>();
		const pieces = (async function* () {
			yield "data: a\n\n";
			await gate.promise;
			yield "data: b\n\n";
			await never[Symbol.asyncIterator]().next();
		})();
		const { body, ask, goOn } = stage(pieces, { isEventStream: true });
		expect(text(await body.next())).toBe("data: a\n\n");
		// Nobody reads.
		ask();
		goOn();
		const next = body.next();
		gate.resolve();
		expect(text(await next)).toBe("data: b\n\n");
		ask();
		expect(text(await body.next())).toContain("payment-need-voucher");
	});

	it("lets no piece leave before everything that was charged for it is paid for, waited for or not", async () => {
		const paid = Promise.withResolvers<void>();
		const { body, charge, log } = stage(texts("a"));
		charge(1n, paid.promise);
		let isHere = false;
		const next = body.next().then((bytes) => {
			isHere = true;
			return bytes;
		});
		await new Promise((resolve) => setTimeout(resolve, 20));
		expect(isHere).toBe(false);
		paid.resolve();
		expect(text(await next)).toBe("a");
		expect(log).toEqual(["delivered up to 1"]);
	});

	it("breaks off where a charge that nobody waited for is not paid, also one after the last piece", async () => {
		const { body, charge, stop, log } = stage(texts("a"));
		expect(text(await body.next())).toBe("a");
		const unpaid = Promise.withResolvers<void>();
		charge(1n, unpaid.promise);
		const next = body.next();
		unpaid.reject(new MeterStoppedError("stalled"));
		stop("stalled");
		await expect(next).rejects.toMatchObject({ why: "stalled" });
		expect(log).not.toContain("captured");
	});

	it("has delivered with a piece what was charged when it was made, not what was charged since", async () => {
		const { body, charge, log } = stage(texts("a", "b"));
		charge(2n);
		await body.begin();
		charge(5n);
		await body.next();
		expect(log).toEqual(["delivered up to 2"]);
		await body.next();
		expect(log).toEqual(["delivered up to 2", "delivered up to 7"]);
	});

	it("has delivered with a chunk of a Node stream what was charged when it was made, however far that reads ahead", async () => {
		const made: string[] = [];
		let charge: (units: bigint) => void = () => undefined;
		const chunks = (async function* () {
			for (const chunk of ["a", "b", "c", "d"]) {
				charge(1n);
				made.push(chunk);
				yield Buffer.from(chunk);
			}
		})();
		const stream = Readable.from(chunks);
		const it = stage(never, { source: (metered) => fromNode(stream, () => paidSoFar(metered)) });
		({ charge } = it);
		expect(text(await it.body.next())).toBe("a");
		await expect.poll(() => made.length).toBeGreaterThan(1);
		expect(it.log).toEqual(["delivered up to 1"]);
		expect(text(await it.body.next())).toBe("b");
		await it.body.leave();
		expect(it.log).toEqual(["delivered up to 1", "delivered up to 2", "hears no needs", "released"]);
	});

	it("that has failed after it began says so before its head leaves", async () => {
		const { body, stop } = stage(texts("a"));
		await body.begin();
		body.throwIfFailed();
		stop("replaced");
		expect(() => body.throwIfFailed()).toThrow(expect.objectContaining({ why: "replaced" }));
		await expect(body.begin()).rejects.toMatchObject({ why: "replaced" });
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

	it("as a Web stream gives buffers of their own: what others get is in none of them", async () => {
		const { body } = stage(texts("a", "b"));
		const reader = webBody(body).getReader();
		for (const expected of ["a", "b"]) {
			const { value } = await reader.read();
			expect(text(value)).toBe(expected);
			expect(value?.buffer.byteLength).toBe(1);
		}
		await reader.cancel();
	});

	describe("read by turns of the event loop", () => {
		it("gives together what is ready in the same turn, and waits for nothing that comes later", async () => {
			const later = Promise.withResolvers<void>();
			const pieces = (async function* () {
				yield* ["data: a\n\n", "data: b\n\n"];
				await later.promise;
				yield "data: c\n\n";
			})();
			const { body, log, charge } = stage(pieces, { isEventStream: true });
			charge(3n);
			expect(text(await body.nextOfTurn(1_000))).toBe("data: a\n\ndata: b\n\n");
			expect(log).toEqual(["delivered up to 3"]);
			later.resolve();
			expect(text(await body.nextOfTurn(1_000))).toBe("data: c\n\n");
		});

		it("asks for no more pieces when it has enough, nor while nobody reads", async () => {
			let asked = 0;
			const counting = (async function* () {
				for (;;) yield { data: `event ${++asked}` };
			})();
			const { body } = stage(counting as AsyncIterable<never>, { isEventStream: true });
			const once = text(await body.nextOfTurn(50)) ?? "";
			expect(once.length).toBeGreaterThanOrEqual(50);
			expect(asked).toBe(4);
			await new Promise((resolve) => setTimeout(resolve, 20));
			expect(asked).toBe(4);
			await body.leave();
		});

		it("delivers what its handler has made before it throws, and then fails", async () => {
			const pieces = (async function* () {
				yield* ["a", "b"];
				throw new Error("the model failed");
			})();
			const { body, log } = stage(pieces);
			expect(text(await body.nextOfTurn(1_000))).toBe("ab");
			await expect(body.nextOfTurn(1_000)).rejects.toThrow("the model failed");
			expect(log).toEqual(["delivered", "hears no needs", "released"]);
		});

		it("delivers nothing of a turn in which its meter stops", async () => {
			let stop: (why: MeterStop) => void = () => undefined;
			const pieces = (async function* () {
				yield "a";
				stop("replaced");
				yield "b";
			})();
			const { body, log, ...rest } = stage(pieces);
			({ stop } = rest);
			await expect(body.nextOfTurn(1_000)).rejects.toMatchObject({ why: "replaced" });
			expect(log).toEqual(["hears no needs", "released"]);
		});

		it("has delivered all that is ready when another block is about to be reserved; nobody waits for a reader who is not there", async () => {
			const gate = Promise.withResolvers<void>();
			let reserve: () => Promise<void> = async () => undefined;
			const pieces = (async function* () {
				yield* ["a", "b"];
				await reserve();
				await gate.promise;
				yield "c";
			})();
			const { body, log, takenSoon } = stage(pieces);
			reserve = async () => {
				await takenSoon();
				log.push("the next block");
			};
			expect(text(await body.nextOfTurn(1_000))).toBe("ab");
			await expect.poll(() => log).toEqual(["delivered", "the next block"]);
			gate.resolve();
			await new Promise((resolve) => setTimeout(resolve, 20));
			expect(takenSoon()).toBeUndefined();
			await body.leave();
		});

		it("puts events and bytes together in their order, as they are", async () => {
			const pieces = (async function* () {
				yield { data: "a" };
				yield "data: b\r\n\r";
				yield new TextEncoder().encode("\ndata: c\n");
				yield { data: "d\ne", id: "7", event: "x", retry: 5 };
				yield { data: "ü" };
			})();
			const { body } = stage(pieces as AsyncIterable<never>, { isEventStream: true });
			let all = "";
			for (let bytes = await body.nextOfTurn(1_000); bytes !== undefined; bytes = await body.nextOfTurn(1_000))
				all += text(bytes);
			expect(all).toMatch(
				/^data: a\n\ndata: b\r\n\r\ndata: c\nevent: x\nid: 7\nretry: 5\ndata: d\ndata: e\n\ndata: ü\n\n\n\nevent: payment-receipt/,
			);
		});
	});
});
