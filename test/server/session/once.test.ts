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
