import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { createWorld, PRICE } from "../../src/cli/demo/world.ts";
import { decodeReceipt, PAYMENT_RECEIPT, type SessionReceipt } from "../../src/protocol/index.ts";
import { LevelStore } from "../../src/server/index.ts";
import { random, seedOfThisRun } from "./random.ts";

const REQUESTS = 400;
const CONCURRENCY = 32;
const KILLS = 3;

const folders: string[] = [];
afterAll(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true, force: true }))));

/** A receipt, and which life of the server it came from. */
type Seen = Readonly<{ receipt: SessionReceipt; life: number }>;

function highest(seen: readonly Seen[], name: "acceptedCumulative" | "spent"): bigint {
	return seen.reduce((most, { receipt }) => (receipt[name] > most ? receipt[name] : most), 0n);
}

describe("SIGKILL in the middle of the demo run", () => {
	it("loses nothing acknowledged and charges nothing twice, and the run goes on (I5, I6)", async () => {
		const seed = seedOfThisRun();
		console.log(`SLUICE_SEED=${seed}`);
		const next = random(seed);
		// One in each part of the run, so that none falls together with another.
		const part = Math.floor(REQUESTS / KILLS);
		const killsAt = Array.from({ length: KILLS }, (_, index) => index * part + 1 + Math.floor(next() * (part - 2)));

		const folder = await mkdtemp(join(tmpdir(), "sluice-kill-"));
		folders.push(folder);
		const world = await createWorld(join(folder, "store"), REQUESTS);
		try {
			const seen: Seen[] = [];
			const ledgers: Readonly<{ acceptedCumulative: bigint; spent: bigint }>[] = [];
			let life = 0;
			let attempts = 0;
			const agent = world.agent({
				// A killed server takes its time to be there again where other tests run beside it.
				retry: { retries: 40, minDelayMs: 50, maxDelayMs: 1_000 },
				fetch: async (input, init) => {
					const bornIn = life;
					attempts++;
					const response = await fetch(input, init);
					const header = response.headers.get(PAYMENT_RECEIPT);
					const receipt = header === null ? undefined : decodeReceipt(header);
					if (receipt?.intent === "session") seen.push({ receipt, life: bornIn });
					return response;
				},
			});

			async function kill(): Promise<void> {
				const { process: server } = world.server;
				const ended = once(server, "exit");
				server.kill("SIGKILL");
				await ended;
				const store = await LevelStore.open({ folder: world.storePath });
				for await (const { acceptedCumulative, spent } of store.channels()) ledgers.push({ acceptedCumulative, spent });
				await store.close();
				life++;
				await world.restartServer();
			}

			let started = 0;
			let acknowledged = 0;
			let killing: Promise<void> = Promise.resolve();
			const statuses: number[] = [];
			async function worker(): Promise<void> {
				while (started < REQUESTS) {
					started++;
					const response = await agent.fetch(`${world.server.url}/session`);
					await response.arrayBuffer();
					statuses.push(response.status);
					if (killsAt.includes(++acknowledged)) killing = killing.then(kill);
				}
			}
			await Promise.all(Array.from({ length: CONCURRENCY }, worker));
			await killing;

			// The run went on.
			expect(statuses).toEqual(Array(REQUESTS).fill(200));
			expect(life).toBe(KILLS);
			expect(attempts, "requests were cut off and sent again").toBeGreaterThan(REQUESTS + 1);

			// What was acknowledged before a kill was on disk when the server was dead.
			expect(ledgers).toHaveLength(KILLS);
			for (const [index, ledger] of ledgers.entries()) {
				const before = seen.filter((one) => one.life <= index);
				expect(before.length).toBeGreaterThan(0);
				expect(ledger.acceptedCumulative).toBeGreaterThanOrEqual(highest(before, "acceptedCumulative"));
				expect(ledger.spent).toBeGreaterThanOrEqual(highest(before, "spent"));
			}

			// Each delivery has a charge of its own, and each charge was delivered.
			const charges = new Set(seen.map(({ receipt }) => receipt.spent));
			const expected = Array.from({ length: REQUESTS }, (_, index) => PRICE * BigInt(index + 1));
			expect([...charges].sort((a, b) => (a < b ? -1 : 1))).toEqual(expected);

			const [closed] = await agent.close();
			if (closed === undefined) throw new Error("the agent had no channel to close");
			const { channelId, consumed } = closed.channel;
			const paid = PRICE * BigInt(REQUESTS);
			expect(consumed).toBe(paid);
			const store = await world.openStore();
			const ledger = await store.channel(channelId);
			const pending: string[] = [];
			for await (const { purpose } of store.outbox({ state: "pending" })) pending.push(purpose.kind);
			await store.close();
			expect(ledger).toMatchObject({ acceptedCumulative: paid, spent: paid, settledOnChain: paid, finalized: true });
			expect(ledger?.reservations).toEqual({});
			expect(pending).toEqual([]);

			const onChain = await world.channelOnChain(channelId);
			expect(onChain).toMatchObject({ settled: paid, finalized: true });
			expect(await world.balance(world.payee.address)).toBe(paid);
			expect(await world.balance(world.payer.address)).toBe(world.funds - paid);
			expect(await world.balance(world.escrow)).toBe(0n);
			expect(await world.transactionsTo(world.escrow)).toBe(2);
		} finally {
			await world.stop();
		}
	});
});
