import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { ChannelStore, TurnView, TurnWrites } from "../../../src/server/store/store.ts";
import { channel, id, idempotency, proof } from "./records.ts";

/** One turn on up to one channel, a few proofs and one idempotency key. */
type Step = Readonly<{
	channel: number | undefined;
	proofs: readonly string[];
	/** Whether the store is told that the first of them will be looked at. */
	seeks: boolean;
	idempotency: string | undefined;
	kind: "write" | "delete" | "read" | "throw";
	/** Lets other turns begin first. */
	pause: number;
}>;

/** What a turn saw: each record as the number of the turn that wrote it. */
type Seen = Readonly<Record<string, string | undefined>>;

const steps = fc.array(
	fc.record<Step>({
		channel: fc.option(fc.nat(3), { nil: undefined }),
		proofs: fc.uniqueArray(fc.constantFrom("p", "q", "r", "s"), { maxLength: 3 }),
		seeks: fc.boolean(),
		idempotency: fc.option(fc.constantFrom("k", "l"), { nil: undefined }),
		kind: fc.constantFrom("write", "write", "delete", "read", "throw"),
		pause: fc.nat(3),
	}),
	{ minLength: 1, maxLength: 60 },
);

/** Runs one step, and logs what it saw at the moment it ran. */
async function run(store: ChannelStore, step: Step, number: number, log: [Step, number, Seen][]): Promise<void> {
	for (let i = 0; i < step.pause; i++) await new Promise((resolve) => setImmediate(resolve));
	const named = {
		...(step.channel !== undefined && { channel: id(step.channel) }),
		...(step.idempotency !== undefined && { idempotency: step.idempotency }),
		proofs: step.proofs,
		sought: step.seeks ? step.proofs[0] : undefined,
	};
	const turn = (view: TurnView) => {
		log.push([step, number, seen(step, view)]);
		if (step.kind === "throw") throw new Error("thrown by the turn");
		return { value: number, ...(step.kind !== "read" && { writes: writes(step, number) }) };
	};
	try {
		const { durable } = await store.transact(named, turn);
		await durable;
	} catch (error) {
		if (step.kind !== "throw") throw error;
	}
}

function seen(step: Step, view: TurnView): Seen {
	const all: Record<string, string | undefined> = {};
	if (step.channel !== undefined) all[`c${step.channel}`] = view.channel?.acceptedCumulative.toString();
	for (const key of step.proofs) all[key] = view.proof(key)?.usedBy;
	if (step.idempotency !== undefined) all[step.idempotency] = view.idempotency?.fingerprint;
	return all;
}

function writes(step: Step, number: number): TurnWrites {
	const gone = step.kind === "delete";
	const by = String(number);
	return {
		...(step.channel !== undefined && { channel: channel(step.channel, { acceptedCumulative: BigInt(number) }) }),
		...(gone
			? { deletedProofs: step.proofs }
			: { proofs: step.proofs.map((key) => proof(key, { usedBy: by, expiresAt: number })) }),
		...(step.idempotency !== undefined && {
			// One that is done is not kept in memory once it is on disk.
			idempotency: gone ? null : idempotency(step.idempotency, { fingerprint: by, state: "done" }),
		}),
	};
}

/** The same steps, in the order they ran, on plain records. */
function expectSerial(log: readonly [Step, number, Seen][]): Record<string, string | undefined> {
	const model: Record<string, string | undefined> = {};
	for (const [step, number, saw] of log) {
		for (const [key, value] of Object.entries(saw)) expect(value, `turn ${number} reads ${key}`).toBe(model[key]);
		if (step.kind === "read" || step.kind === "throw") continue;
		for (const key of Object.keys(saw))
			model[key] = step.kind === "delete" && !key.startsWith("c") ? undefined : String(number);
	}
	return model;
}

export function describeInterleaving(open: () => Promise<ChannelStore>): void {
	describe("interleaved turns", () => {
		it("are the same as the same turns one after the other, on any overlapping keys (I4)", async () => {
			await fc.assert(
				fc.asyncProperty(steps, async (all) => {
					const store = await open();
					const log: [Step, number, Seen][] = [];
					await Promise.all(all.map((step, i) => run(store, step, i + 1, log)));
					expect(log).toHaveLength(all.length);
					const model = expectSerial(log);
					for (const n of [0, 1, 2, 3]) {
						expect((await store.channel(id(n)))?.acceptedCumulative.toString()).toBe(model[`c${n}`]);
					}
					await store.close();
				}),
				{ numRuns: 60 },
			);
		});
	});
}
