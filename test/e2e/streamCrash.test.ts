import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { streamAgent } from "../../src/cli/demo/stream.ts";
import { until } from "../../src/cli/demo/until.ts";
import { Wire } from "../../src/cli/demo/wire.ts";
import { createWorld, PRICE } from "../../src/cli/demo/world.ts";
import { LevelStore } from "../../src/server/index.ts";
import { random, seedOfThisRun } from "./random.ts";

const TOKENS = 800;
const AHEAD = 200;
const KILLS = 3;
/** What a metered route reserves at a time by default. */
const BLOCK = 32;

const folders: string[] = [];
afterAll(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true, force: true }))));

describe("SIGKILL in the middle of a paid stream", () => {
	it("costs the server a block at most, and the payer nothing that it did not get; the stream goes on (I5, I6)", async () => {
		const seed = seedOfThisRun();
		console.log(`SLUICE_SEED=${seed}`);
		const next = random(seed);
		const part = Math.floor(TOKENS / (KILLS + 1));
		const killsAt = Array.from({ length: KILLS }, (_, index) => index * part + 1 + Math.floor(next() * (part - 2)));

		const folder = await mkdtemp(join(tmpdir(), "sluice-stream-kill-"));
		folders.push(folder);
		const world = await createWorld(join(folder, "store"), TOKENS);
		const wire = await Wire.open(world.server.url, PRICE);
		try {
			const agent = streamAgent(world, wire.url, PRICE * BigInt(TOKENS), {
				stream: { aheadUnits: AHEAD, stepUnits: AHEAD / 2 },
				retry: { retries: 12, minDelayMs: 50, maxDelayMs: 1_000 },
			});
			/** At each death: what had reached the client in all, and what the dead server's ledger says. */
			const deaths: Readonly<{ delivered: number; spent: bigint; acceptedCumulative: bigint; signed: bigint }>[] = [];

			async function kill(): Promise<void> {
				const { process: server } = world.server;
				const ended = once(server, "exit");
				server.kill("SIGKILL");
				await ended;
				await until("all that the server had sent has arrived", () => wire.underWay === 0);
				const store = await LevelStore.open({ folder: world.storePath });
				for await (const { acceptedCumulative, spent } of store.channels()) {
					const signed = agent.channels[0]?.signed ?? 0n;
					deaths.push({ delivered: wire.lead.delivered, spent, acceptedCumulative, signed });
				}
				await store.close();
				await world.restartServer();
			}

			const ids: number[] = [];
			let killing: Promise<void> = Promise.resolve();
			for await (const { id } of agent.stream(`${wire.url}/stream?tokens=${TOKENS}&pauseMs=2`)) {
				ids.push(Number(id));
				if (!killsAt.includes(ids.length)) continue;
				killing = killing.then(kill);
				killing.catch(() => undefined);
			}
			await killing;

			// Every token, once each, over as many connections as it took.
			expect(ids).toEqual(Array.from({ length: TOKENS }, (_, index) => index + 1));
			expect(deaths).toHaveLength(KILLS);
			const resumed = wire.passed.filter(({ lastEventId }) => lastEventId !== undefined);
			expect(resumed.length).toBeGreaterThanOrEqual(KILLS);
			const streams = wire.passed.filter(({ method }) => method === "GET");
			expect(new Set(streams.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(1);
			// What a broken connection had brought, and the client had not read, comes once more: never more than its credit.
			const { delivered: allDelivered } = wire.lead;
			expect(allDelivered).toBeGreaterThanOrEqual(TOKENS);
			expect(allDelivered).toBeLessThanOrEqual(TOKENS + AHEAD * KILLS);

			for (const [index, { delivered, spent, acceptedCumulative, signed }] of deaths.entries()) {
				const units = Number(spent / PRICE);
				// Nothing is charged that has not arrived; of each life, a block at most was not.
				expect(units, `death ${index + 1}`).toBeLessThanOrEqual(delivered);
				expect(units, `death ${index + 1}`).toBeGreaterThanOrEqual(delivered - BLOCK * (index + 1));
				// It was paid for, and known to be, when it was delivered.
				expect(acceptedCumulative).toBeGreaterThanOrEqual(spent);
				expect(signed).toBeGreaterThanOrEqual(acceptedCumulative);
			}

			const [closed] = await agent.close();
			if (closed === undefined) throw new Error("the agent had no channel to close");
			const { channelId, consumed } = closed.channel;
			const store = await world.openStore();
			const ledger = await store.channel(channelId);
			await store.close();
			const spent = ledger?.spent ?? 0n;
			expect(spent).toBeLessThanOrEqual(PRICE * BigInt(allDelivered));
			expect(spent).toBeGreaterThanOrEqual(PRICE * BigInt(allDelivered - BLOCK * KILLS));
			expect(consumed).toBe(spent);
			expect(ledger).toMatchObject({ settledOnChain: spent, finalized: true, reservations: {} });
			expect(await world.channelOnChain(channelId)).toMatchObject({ settled: spent, finalized: true });
			expect(await world.balance(world.payee.address)).toBe(spent);
			expect(await world.balance(world.payer.address)).toBe(world.funds - spent);
			expect(await world.balance(world.escrow)).toBe(0n);
			expect(await world.transactionsTo(world.escrow)).toBe(2);
		} finally {
			await world.stop();
			await wire.close();
		}
	});
});
