import { describe, expect, it } from "vitest";
import { formatTimestamp, problem } from "../../../src/protocol/index.ts";
import { type Admission, type Admitted, refused } from "../../../src/server/admission.ts";
import type { EngineContext } from "../../../src/server/context.ts";
import { once } from "../../../src/server/session/once.ts";
import { MemoryStore } from "../../../src/server/store/memoryStore.ts";

const challenge = { id: "abc", expires: formatTimestamp(Date.now() + 60_000) } as never;
const context = { store: new MemoryStore(), now: Date.now } as unknown as EngineContext;

/** A request that is admitted; what became of it. */
function admitted(): { admission: Admitted; ends: string[] } {
	const ends: string[] = [];
	const admission: Admitted = {
		kind: "admitted",
		payment: { intent: "session", amount: 1n, payer: "0x" },
		capture: async () => {
			ends.push("captured");
			return { kind: "captured", receipt: {} as never };
		},
		release: async () => void ends.push("released"),
	};
	return { admission, ends };
}

const take = (id: string, admit: () => Promise<Admission>) =>
	once(context, { ...(challenge as object), id } as never, admit);
const isTaken = async (id: string) => {
	const looked = await take(id, async () => refused(problem("bad-request", "only a look")));
	return looked.kind === "refused" && looked.problem.status === 402;
};

describe("a challenge that is good once", () => {
	it("is written down for no credential that is refused: a bad signature costs no write", async () => {
		let writes = 0;
		const store = new MemoryStore();
		const transact: MemoryStore["transact"] = (keys, decide) =>
			store.transact(keys, (view) => {
				const turn = decide(view);
				if (turn.writes !== undefined) writes++;
				return turn;
			});
		const counted = new Proxy(store, {
			get: (_, name) => (name === "transact" ? transact : (store as never)[name]),
		});
		const counting = { ...context, store: counted } as EngineContext;
		const bad = refused(problem("session/invalid-signature", "not yours"));
		for (let i = 0; i < 3; i++) expect(await once(counting, challenge, async () => bad)).toBe(bad);
		expect(writes).toBe(0);
		expect((await once(counting, challenge, async () => admitted().admission)).kind).toBe("admitted");
		expect(writes).toBe(1);
	});

	it("is taken by one of several at the same time, and by none once it is in the store, in whatever process", async () => {
		const { promise, resolve } = Promise.withResolvers<Admission>();
		const first = take("raced", () => promise);
		expect(await isTaken("raced")).toBe(true);
		resolve(admitted().admission);
		expect((await first).kind).toBe("admitted");
		expect(await isTaken("raced")).toBe(true);
		const other = { ...context, store: new MemoryStore() } as EngineContext;
		const { admission, ends } = admitted();
		const late = await once(other, challenge, async () => {
			// Meanwhile another process has it.
			const proof = { key: "once:abc", state: "used", owner: "x", usedBy: "abc", expiresAt: Date.now() + 60_000 };
			await other.store.transact({ proofs: [proof.key] }, () => ({
				value: undefined,
				writes: { proofs: [proof as never] },
			}));
			return admission;
		});
		expect([late.kind, ends]).toEqual(["refused", ["released"]]);
	});

	it("stays used when what it was used for was captured, whatever is released afterwards", async () => {
		const { admission, ends } = admitted();
		const taken = (await take("captured", async () => admission)) as Admitted;
		expect(await isTaken("captured")).toBe(true);
		await taken.capture(() => ({ status: 200, headers: {}, body: null }));
		await taken.release();
		expect(ends).toEqual(["captured", "released"]);
		expect(await isTaken("captured")).toBe(true);
	});

	it("is given back once by what was released, not taken from whoever has it next", async () => {
		const { admission } = admitted();
		const first = (await take("released", async () => admission)) as Admitted;
		await first.release();
		const second = (await take("released", async () => admitted().admission)) as Admitted;
		expect(second.kind).toBe("admitted");
		await first.release();
		expect(await isTaken("released")).toBe(true);
	});

	it("is given back by a refusal, and by a fault", async () => {
		expect(await isTaken("refused")).toBe(false);
		expect(await isTaken("refused")).toBe(false);
		const fault = new Error("the chain does not answer");
		await expect(take("fault", () => Promise.reject(fault))).rejects.toBe(fault);
		expect(await isTaken("fault")).toBe(false);
	});
});
