/** A payer whose channel is being closed by its server, on a chain where that takes as long as a test wants. */

import { describe, expect, it } from "vitest";
import { rpc } from "../support/sessionDrafts.ts";
import { useWorld } from "../support/useWorld.ts";
import { FUNDS, PRICE, type TestChannel } from "../support/world.ts";
import { until } from "./streamStage.ts";
import { clientFor } from "./support.ts";

const world = useWorld();
const HOUR_SECONDS = 3_600;
const DAY_SECONDS = 86_400;

async function serve(retry = { retries: 40, minDelayMs: 20, maxDelayMs: 250 }) {
	const settlement = { maxAgeSeconds: 30 * DAY_SECONDS, idleSeconds: HOUR_SECONDS };
	const server = await world.serve({ engine: { settlement, watch: false } });
	const payer = await world.payer({ gas: true });
	const { account, address } = payer;
	const statuses: number[] = [];
	const agent = clientFor(
		world,
		account,
		[new URL(server.url).host],
		{},
		{
			retry,
			now: server.clock.now,
			fetch: async (input, init) => {
				const response = await fetch(input, init);
				statuses.push(response.status);
				return response;
			},
		},
	);
	const get = () => agent.fetch(`${server.url}/session`);
	expect((await get()).status).toBe(200);
	const [channel] = agent.channels;
	if (channel === undefined) throw new Error("no channel");
	return { server, payer, agent, get, channel, statuses, address };
}

/** Until `mine`, transactions wait. */
async function stopMining() {
	const { client } = world.chain;
	await rpc(client, "evm_setAutomine", [false]);
	return async () => {
		await rpc(client, "evm_setAutomine", [true]);
		await rpc(client, "evm_mine", []);
	};
}

/** The server closes it as idle; the transaction is on its way. */
async function closeIdle({ server, channel }: Pick<Awaited<ReturnType<typeof serve>>, "server" | "channel">) {
	server.clock.advance((HOUR_SECONDS + 60) * 1_000);
	const settled = server.engine.settle();
	await until(async () => (await server.ledger(channel))?.closingBy !== null, "the close");
	return settled;
}

describe("a request on a channel that its server is closing", () => {
	it("waits until that is paid out, and is paid for by another channel, once", async () => {
		const stage = await serve();
		const { server, agent, get, channel, statuses, address } = stage;
		const mine = await stopMining();
		const settled = closeIdle(stage);
		try {
			await until(async () => (await server.ledger(channel))?.closingBy !== null, "the close");
			const asked = Promise.all([get(), get()]);
			await until(() => statuses.filter((status) => status === 409).length === 2, "two refusals");
			expect(agent.channels).toEqual([channel]);
			await mine();
			await settled;
			expect((await asked).map(({ status }) => status)).toEqual([200, 200]);
		} finally {
			await mine();
		}
		expect(await world.onChain(channel)).toMatchObject({ settled: PRICE, finalized: true });
		expect(agent.channels).toHaveLength(1);
		expect(agent.channels[0]).not.toBe(channel);
		expect(agent.forgotten).toEqual([]);
		expect(server.calls("/session")).toBe(3);
		await agent.close();
		expect(FUNDS - (await world.balance(address))).toBe(3n * PRICE);
	});

	it("that takes longer than its retries is handed the server's refusal", async () => {
		const stage = await serve({ retries: 1, minDelayMs: 1, maxDelayMs: 1 });
		const { agent, get, channel } = stage;
		const mine = await stopMining();
		const settled = closeIdle(stage);
		try {
			await until(async () => (await stage.server.ledger(channel))?.closingBy !== null, "the close");
			const response = await get();
			expect({ status: response.status, body: await response.json() }).toMatchObject({
				status: 409,
				body: { title: "Channel Closing" },
			});
			expect(agent.channels).toEqual([channel]);
		} finally {
			await mine();
			await settled;
		}
		expect((await get()).status).toBe(200);
	});

	it("stops waiting when its caller does", async () => {
		const stage = await serve();
		const mine = await stopMining();
		const settled = closeIdle(stage);
		try {
			await until(async () => (await stage.server.ledger(stage.channel))?.closingBy !== null, "the close");
			const caller = new AbortController();
			const asked = stage.agent.fetch(`${stage.server.url}/session`, { signal: caller.signal });
			const failed = expect(asked).rejects.toThrow("enough");
			await until(() => stage.statuses.includes(409), "the refusal");
			caller.abort(new Error("enough"));
			await failed;
		} finally {
			await mine();
			await settled;
		}
	});

	it("whose close the payer has asked the escrow for does not wait for the grace period", async () => {
		const { server, payer, agent, get, channel, statuses } = await serve({ retries: 0, minDelayMs: 1, maxDelayMs: 1 });
		await payer.requestClose({ ...channel, escrow: world.escrow } as unknown as TestChannel);
		// Without a watch it is seen when a voucher comes.
		server.clock.advance(server.engine.limits.maxChainStateAgeMs + 1_000);
		expect((await get()).status).toBe(200);
		expect(statuses).toContain(409);
		expect(agent.forgotten).toEqual([channel]);
		expect(agent.channels).toHaveLength(1);
	});
});
