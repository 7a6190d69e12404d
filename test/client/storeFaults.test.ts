/** A client whose store fails at any call, before or after it is carried out: nothing is forked, and nothing is dead. */

import fc from "fast-check";
import type { Hex, LocalAccount } from "viem";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { Agents, AUTHORIZED, type Fault, faultyStore, heldIn, raisesOf } from "./agents.ts";
import { createStage, type Stage } from "./stage.ts";
import { type ScriptedServer, type Signed, scriptedServer } from "./support.ts";

let stage: Stage;
let server: ScriptedServer;
const unhandled: unknown[] = [];
const onUnhandled = (reason: unknown) => void unhandled.push(reason);
beforeAll(async () => {
	process.on("unhandledRejection", onUnhandled);
	stage = await createStage();
});
afterAll(async () => {
	process.off("unhandledRejection", onUnhandled);
	await stage.stop();
});
beforeEach(async () => {
	server = await scriptedServer();
});
afterEach(() => server.stop());

/** Calls that fail in turn; the rest are carried out. */
const faults = (): fc.Arbitrary<Fault> =>
	fc.constantFrom(undefined, undefined, undefined, undefined, "before" as const, "after" as const);

it("signs no amount twice nor uncounted, leaves nothing held, and pays as before when the faults have ended (I11)", async () => {
	const course = fc.record({
		faults: fc.array(faults(), { minLength: 1, maxLength: 24, size: "max" }),
		/** How many requests at a time, wave after wave. */
		waves: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 }),
		minVoucherDelta: fc.constantFrom(0n, 250n),
		isLimited: fc.boolean(),
	});
	const seen = { failed: 0, paid: 0, refused: 0 };
	await fc.assert(
		fc.asyncProperty(course, async ({ faults, waves, minVoucherDelta, isLimited }) => {
			const details = {
				...AUTHORIZED.details,
				...(minVoucherDelta > 0n && { minVoucherDelta: String(minVoucherDelta) }),
			};
			const agents = await Agents.create({ stage, server }, { details });
			let isFailing = true;
			let calls = 0;
			const store = faultyStore(agents.store.share(), () => {
				const fault = isFailing ? faults[calls++ % faults.length] : undefined;
				if (fault !== undefined) seen.failed++;
				return fault;
			});
			const uncounted: string[] = [];
			const account = watched(agents.account, async (channelId, amount) => {
				const kept = (await agents.store.list()).find(({ record }) => record.state.channelId === channelId);
				if (BigInt(kept?.record.state.signed ?? 0) < amount) uncounted.push(`${channelId} ${amount}`);
			});
			const policy = isLimited ? { limits: { total: { ever: 100_000n } } } : {};
			const { agent, get, spy } = agents.add(policy, { store, account });
			for (const wave of waves) {
				const outcomes = await Promise.allSettled(Array.from({ length: wave }, () => get()));
				for (const outcome of outcomes) {
					if (outcome.status === "rejected") {
						seen.refused++;
						expect(outcome.reason).toBeInstanceOf(Error);
					} else {
						seen.paid++;
						expect(outcome.value.status).toBe(200);
					}
				}
			}
			isFailing = false;
			expect((await get()).status).toBe(200);
			expect(uncounted).toEqual([]);
			for (const channelId of channelsOf(spy.signed)) {
				const raises = raisesOf(spy.vouchers(channelId));
				expect(raises).toEqual([...raises].sort((a, b) => Number(a - b)));
			}
			await agent.release();
			expect(await heldIn(agents.store)).toEqual([]);
			expect((await get()).status).toBe(200);
		}),
		{ numRuns: 25, seed: 5 },
	);
	expect(Math.min(...Object.values(seen))).toBeGreaterThan(10);
	expect(unhandled).toEqual([]);
}, 120_000);

/** An account that lets each voucher be looked at before it is signed. */
function watched(account: LocalAccount, look: (channelId: Hex, amount: bigint) => Promise<void>): LocalAccount {
	return {
		...account,
		async signTypedData(typed) {
			const { primaryType, message } = typed as unknown as Signed;
			if (primaryType === "Voucher") await look(String(message.channelId) as Hex, message.cumulativeAmount as bigint);
			return account.signTypedData(typed);
		},
	};
}

const channelsOf = (signed: readonly Signed[]) =>
	new Set(signed.flatMap(({ primaryType, message }) => (primaryType === "Voucher" ? [String(message.channelId)] : [])));
