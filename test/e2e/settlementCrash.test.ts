import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { CRASH_POINTS, type CrashPoint } from "../../src/cli/demo/crash.ts";
import type { CrashSettings } from "./crashServer.ts";
import { moved, type Outcome } from "./outcome.ts";
import { DEPOSIT, type OpenedChannel, PRICE, Stage } from "./stage.ts";

/** Only the run at the start, and those that a test asks for. */
const HOUR_MS = 3_600_000;

/** How long the last conclusions may take. */
const DEADLINE_MS = 20_000;

/** No request waits for a settlement. */
const POINTS: readonly CrashPoint[] = ["record", "recorded", "broadcast", "mined", "concluded"];

/** Paid, and credit for one more request: all that was accepted is captured. */
const OWED = 3n * PRICE;

type Kind = Readonly<{
	title: string;
	kind: "settle" | "retire";
	settlement: NonNullable<CrashSettings["settlement"]>;
	movements: Outcome;
	finalized: boolean;
}>;

const KINDS: readonly Kind[] = [
	{
		title: "a settlement",
		kind: "settle",
		settlement: { maxUnsettled: "1" },
		movements: { transactions: 1, payer: 0n, payee: OWED, escrow: -OWED },
		finalized: false,
	},
	{
		title: "a close of an idle channel",
		kind: "retire",
		settlement: { idleSeconds: 1 },
		movements: { transactions: 1, payer: DEPOSIT - OWED, payee: OWED, escrow: -DEPOSIT },
		finalized: true,
	},
];

describe.each(KINDS)("$title, killed on its way (I4, I5)", ({ kind, settlement, movements, finalized }) => {
	let stage: Stage;
	beforeAll(async () => {
		stage = await Stage.create({ settlement, limits: { settleEveryMs: HOUR_MS } });
	});
	afterAll(() => stage?.stop());
	beforeEach(() => stage.up());

	/** Runs the policy until it has done something: an idle channel is not idle at once. */
	async function settleUntil(isDone: (died: string | undefined) => Promise<boolean> | boolean): Promise<void> {
		const deadline = Date.now() + DEADLINE_MS;
		while (!(await isDone(await stage.settle()))) {
			if (Date.now() >= deadline) throw new Error("the policy has done nothing");
			await new Promise((resolve) => setTimeout(resolve, 100));
		}
	}

	const isSettled = async ({ channelId }: OpenedChannel) => {
		const { channel, pending } = await stage.inspect(channelId);
		return channel?.settledOnChain === String(OWED) && pending.length === 0;
	};

	async function settle(point?: CrashPoint) {
		const payer = await stage.payer();
		const channel = await payer.open();
		const { status } = await stage.send("/session", await payer.voucher(channel, OWED), randomUUID());
		expect(status).toBe(200);
		const outcome = await moved(stage, payer, async () => {
			if (point !== undefined) {
				await stage.arm({ kind, point });
				await settleUntil((died) => {
					if (died !== undefined) expect(died).toBe(`${kind} ${point}`);
					return died !== undefined;
				});
				await stage.up();
			}
			await settleUntil(() => isSettled(channel));
			// There is nothing left to do.
			await stage.settle();
		});
		return { movements: outcome.movements, channel };
	}

	async function expectSettled({ channelId }: OpenedChannel): Promise<void> {
		expect(await stage.channelOnChain(channelId)).toMatchObject({ settled: OWED, finalized });
		expect(await stage.inspect(channelId)).toMatchObject({
			channel: {
				acceptedCumulative: String(OWED),
				spent: String(2n * PRICE),
				reserved: "0",
				settledOnChain: String(OWED),
			},
			finalized,
			closing: false,
			pending: [],
		});
	}

	it("without a crash: one transaction, the payee paid all that was accepted", async () => {
		const outcome = await settle();
		expect(outcome.movements).toEqual(movements);
		await expectSettled(outcome.channel);
	});

	for (const point of POINTS) {
		it(`moves the money once when the server dies ${CRASH_POINTS[point]}`, async () => {
			const outcome = await settle(point);
			expect(outcome.movements).toEqual(movements);
			await expectSettled(outcome.channel);
		});
	}

	it("is not held up by a stranger who copies the call: it is good for nobody but the payee (D12)", async () => {
		const payer = await stage.payer();
		const channel = await payer.open();
		await stage.send("/session", await payer.voucher(channel, OWED), randomUUID());
		const outcome = await moved(stage, payer, async () => {
			await stage.arm({ kind, point: "recorded" });
			await settleUntil((died) => died !== undefined);
			await expect(stage.copyPendingTransaction()).rejects.toThrow();
			await stage.up();
			await settleUntil(() => isSettled(channel));
		});
		expect(outcome.movements).toEqual(movements);
		await expectSettled(channel);
	});
});
