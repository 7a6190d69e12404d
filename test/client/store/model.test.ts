/** Random agents on a few channels: whatever they do, in whatever order, the amounts hold. fast-check prints the seed of a failure. */
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import type { BookHandle } from "../../../src/client/store/bookHandle.ts";
import { LevelPayerStore } from "../../../src/client/store/levelStore.ts";
import { MemoryPayerStore } from "../../../src/client/store/memoryStore.ts";
import type { SharedStore } from "../../../src/client/store/sharedStore.ts";
import type { HeldChannel, PayerStore } from "../../../src/client/store/store.ts";
import { channel, id, KEY, signed } from "./records.ts";
import { freshFolder, openDatabase, removeFolders } from "./stages.ts";

afterAll(removeFolders);

const CHANNELS = [1, 2];
const HOLDERS = 3;
const MAX = 60n;

type Step = Readonly<
	| { do: "take"; who: number; byId: number | undefined }
	| { do: "write"; who: number; hold: number; raise: number; counts: boolean }
	| { do: "confirm"; who: number; hold: number }
	| { do: "pause"; who: number; isPaused: boolean }
	| { do: "release"; who: number; hold: number }
	| { do: "add"; who: number; number: number; signed: number }
	| { do: "kill"; who: number }
	| { do: "back"; who: number }
>;

const who = fc.nat(HOLDERS - 1);
const step: fc.Arbitrary<Step> = fc.oneof(
	{
		weight: 3,
		arbitrary: fc.record({
			do: fc.constant("take"),
			who,
			byId: fc.option(fc.constantFrom(...CHANNELS), { nil: undefined }),
		}),
	},
	{
		weight: 6,
		arbitrary: fc.record({
			do: fc.constant("write"),
			who,
			hold: fc.nat(9),
			raise: fc.integer({ min: -5, max: 9 }),
			counts: fc.boolean(),
		}),
	},
	{ weight: 4, arbitrary: fc.record({ do: fc.constant("confirm"), who, hold: fc.nat(9) }) },
	{ weight: 1, arbitrary: fc.record({ do: fc.constant("pause"), who, isPaused: fc.boolean() }) },
	{ weight: 2, arbitrary: fc.record({ do: fc.constant("release"), who, hold: fc.nat(9) }) },
	{
		weight: 1,
		arbitrary: fc.record({ do: fc.constant("add"), who, number: fc.constantFrom(...CHANNELS), signed: fc.nat(200) }),
	},
	{ weight: 1, arbitrary: fc.record({ do: fc.constant("kill"), who }) },
	{ weight: 1, arbitrary: fc.record({ do: fc.constant("back"), who }) },
) as fc.Arbitrary<Step>;

/** A process of the agent: it remembers every hold that it was ever given, and writes by any of them. */
type Agent = { store: BookHandle; holds: HeldChannel[] };

/** What was acknowledged, in the order in which it was; each hold before later ones. */
type Written = Readonly<{ channelId: string; fence: number; amount: bigint }>;

function writtenBy({ record, fence }: HeldChannel): Written {
	const { channelId, signed } = record.state;
	return { channelId, fence, amount: BigInt(signed) };
}

class Play {
	readonly #first: SharedStore;
	readonly #agents: Agent[];
	readonly written: Written[] = [];
	counted = 0n;
	/** How often somebody has begun to let spending go on. */
	#unpauses = 0;
	/** After how many of those it was paused last. */
	#pausedAfter = -1;

	constructor(first: SharedStore) {
		this.#first = first;
		this.#agents = Array.from({ length: HOLDERS }, () => ({ store: first.share(), holds: [] }));
	}

	/** Does a step. What must be refused is; that it was, is the only thing it may say. */
	async run(step: Step): Promise<void> {
		const agent = this.#agents[step.who];
		if (agent === undefined) throw new Error("no such agent");
		try {
			await this.#do(agent, step);
		} catch (error) {
			const { code } = error as { code?: string };
			if (!["HOLDER_LOST", "SIGNED_LOWERED", "PAYER_STORE", "PAUSED"].includes(code ?? "")) throw error;
		}
	}

	async #do({ store, holds }: Agent, step: Step): Promise<void> {
		switch (step.do) {
			case "take": {
				const held = await (step.byId === undefined ? store.take(KEY) : store.takeById(id(step.byId)));
				this.#given(holds, held);
				return;
			}
			case "add": {
				const held = await store.add(channel(step.number, { signed: String(step.signed) }), 9);
				this.#given(holds, held);
				return;
			}
			case "write":
				return await this.#write(store, holds, step);
			case "confirm":
				return await this.#confirm(store, holds[step.hold % holds.length]);
			case "pause":
				return await this.#pause(store, step.isPaused);
			case "release": {
				const held = holds[step.hold % holds.length];
				if (held !== undefined) await store.release(held.record.state.channelId, held.fence);
				return;
			}
			case "kill":
				return await store.book.holderGone(store.holder);
			case "back":
				await store.book.holderBack(
					store.holder,
					holds.map(({ record, fence }) => ({ channelId: record.state.channelId, fence })),
				);
		}
	}

	async #write(store: PayerStore, holds: HeldChannel[], step: Step & { do: "write" }): Promise<void> {
		const place = step.hold % holds.length;
		const held = holds[place];
		if (held === undefined) return;
		const amount = BigInt(held.record.state.signed) + BigInt(step.raise);
		const next = signed(held, amount < 0n ? 0n : amount);
		const add = 7n;
		const counters = step.counts ? [{ key: "x", add, max: MAX }] : [];
		if ((await store.write({ channel: next, counters })) !== undefined) return;
		holds[place] = next;
		if (step.counts) this.counted += add;
		this.written.push(writtenBy(next));
	}

	async #pause(store: PayerStore, isPaused: boolean): Promise<void> {
		const unpauses = isPaused ? this.#unpauses : ++this.#unpauses;
		await store.setPaused(isPaused ? "paused" : undefined);
		if (isPaused && unpauses === this.#unpauses) this.#pausedAfter = unpauses;
	}

	/** What is confirmed was nobody else's when it was asked, and nobody had paused by then. */
	async #confirm(store: PayerStore, held: HeldChannel | undefined): Promise<void> {
		if (held === undefined) return;
		const { channelId } = held.record.state;
		const fences = this.written.filter((one) => one.channelId === channelId).map(({ fence }) => fence);
		const unpauses = this.#unpauses;
		const isPaused = this.#pausedAfter === unpauses;
		await store.confirm(channelId, held.fence);
		expect(held.fence).toBe(Math.max(...fences, held.fence));
		if (isPaused) expect(this.#unpauses).toBeGreaterThan(unpauses);
	}

	#given(holds: HeldChannel[], held: HeldChannel | undefined): void {
		if (held === undefined) return;
		holds.push(held);
		const given = writtenBy(held);
		const isOwn = ({ channelId }: Written) => channelId === given.channelId;
		expect(this.written.filter((one) => isOwn(one) && one.fence === given.fence)).toEqual([]);
		// Of two holds that were given at nearly the same time, the later one may be heard of first.
		const next = this.written.findIndex((one) => isOwn(one) && one.fence > given.fence);
		this.written.splice(next < 0 ? this.written.length : next, 0, given);
	}

	/** What has to be true at any moment. */
	async check(): Promise<void> {
		const [count = -1n] = await this.#first.counts(["x"]);
		expect(count).toBe(this.counted);
		expect(count).toBeLessThanOrEqual(MAX);
		const listed = await this.#first.list();
		for (const { record } of listed) {
			const own = this.written.filter(({ channelId }) => channelId === record.state.channelId);
			// Neither the amount nor the fence ever falls: nobody wrote by an older hold, or a lower amount.
			for (const [index, { amount, fence }] of own.entries()) {
				const before = own[index - 1];
				expect(amount).toBeGreaterThanOrEqual(before?.amount ?? 0n);
				expect(fence).toBeGreaterThanOrEqual(before?.fence ?? 0);
			}
			expect(BigInt(record.state.signed)).toBe(own.at(-1)?.amount ?? 0n);
		}
	}
}

const steps = fc.array(step, { minLength: 1, maxLength: 60, size: "max" });

describe("a payer's store under random use", () => {
	it("never lets a signed amount fall, nor two holders write, nor a count pass its limit (I11)", async () => {
		await fc.assert(
			fc.asyncProperty(steps, async (all) => {
				const play = new Play(new MemoryPayerStore());
				for (const one of all) await play.run(one);
				await play.check();
			}),
			{ numRuns: 300 },
		);
	});

	it("nor where all of it happens at the same time (I11)", async () => {
		await fc.assert(
			fc.asyncProperty(steps, fc.integer({ min: 2, max: 12 }), async (all, atOnce) => {
				const play = new Play(new MemoryPayerStore());
				for (let from = 0; from < all.length; from += atOnce) {
					await Promise.all(all.slice(from, from + atOnce).map((one) => play.run(one)));
				}
				await play.check();
			}),
			{ numRuns: 300 },
		);
	});

	it("nor on a disk that is closed and opened again in between (I11)", async () => {
		await fc.assert(
			fc.asyncProperty(
				fc.array(fc.array(step, { maxLength: 12, size: "max" }), { minLength: 1, maxLength: 4 }),
				async (parts) => {
					const folder = await freshFolder();
					const written: Written[] = [];
					let counted = 0n;
					for (const part of parts) {
						const store = await LevelPayerStore.open({ db: openDatabase(folder) });
						const play = new Play(store);
						play.written.push(...written);
						play.counted = counted;
						await Promise.all(part.map((one) => play.run(one)));
						await play.check();
						written.splice(0, written.length, ...play.written);
						counted = play.counted;
						await store.book.close();
					}
				},
			),
			{ numRuns: 15 },
		);
	});

	it("gives every amount of a channel to one of those who take turns with it (I11)", async () => {
		await fc.assert(
			fc.asyncProperty(
				fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 6, maxLength: 12, size: "max" }),
				async (turns) => {
					const first = new MemoryPayerStore();
					const held = await first.add(channel(1), 1);
					await first.release(id(1), held?.fence ?? 0);
					const amounts: string[] = [];
					const turn = async (writes: number): Promise<void> => {
						const store = first.share();
						let own = await store.take(KEY, 20_000);
						for (let n = 0; n < writes && own !== undefined; n++) {
							own = signed(own, BigInt(own.record.state.signed) + 1n);
							await store.write({ channel: own });
							amounts.push(own.record.state.signed);
						}
						await store.release(id(1), own?.fence ?? 0);
					};
					await Promise.all(turns.map(turn));
					const all = turns.reduce((a, b) => a + b, 0);
					expect(amounts).toEqual(Array.from({ length: all }, (_, index) => String(index + 1)));
				},
			),
			{ numRuns: 50 },
		);
	});
});
