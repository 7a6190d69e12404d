import { createPublicClient, custom, type Hex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { pooled } from "../../src/cli/demo/chainControl.ts";
import type { OutboxEntry } from "../../src/escrow/outbox.ts";
import { MemoryStore, PaymentEngine, unsettled } from "../../src/server/index.ts";
import { rpc } from "../support/sessionDrafts.ts";
import { useWorld } from "../support/useWorld.ts";
import type { PaidServer, Payer, TestChannel } from "../support/world.ts";
import { PRICE } from "../support/world.ts";
import { type Program, run } from "./process.ts";
import { openBooks, owing } from "./settlement/support.ts";
import type { StopSettings } from "./stopStage.ts";
import { until } from "./watchStage.ts";

/** Longer than any test waits. */
const LATE_MS = 600_000;

const world = useWorld();
let payer: Payer;
let server: PaidServer;
let privateKey: Hex;
const programs: Program[] = [];

beforeEach(async () => {
	payer = await world.payer({ gas: true });
	privateKey = generatePrivateKey();
	const settlement = { maxUnsettled: 1n };
	server = await world.serve({
		account: privateKeyToAccount(privateKey),
		engine: { settlement, watch: { pollMs: 20 }, limits: { settleEveryMs: 3_600_000 } },
	});
});
afterEach(async () => {
	for (const { child } of programs.splice(0)) child.kill("SIGKILL");
	await mining(true);
});

const client = () => world.chain.client;

/** Whether transactions get into blocks. */
async function mining(goesOn: boolean): Promise<void> {
	await rpc(client(), "evm_setAutomine", [goesOn]);
	if (goesOn) await rpc(client(), "evm_mine");
}

/** Transactions of the store whose outcome is unknown. */
async function pending(): Promise<OutboxEntry[]> {
	const entries: OutboxEntry[] = [];
	for await (const entry of server.store.outbox({ state: "pending" })) entries.push(entry);
	return entries;
}

/** A channel that owes, and its settlement in no block yet. */
async function settlementUnderWay(): Promise<TestChannel> {
	const channel = await owing(server, payer, PRICE);
	await mining(false);
	void server.engine.settle();
	await until("the settlement is on its way", async () => (await pooled(client())) > 0);
	return channel;
}

/** After a restart all that was owed is on chain, by the one settlement, and nothing is left to be done. */
async function expectSettledOnce(channel: TestChannel): Promise<void> {
	await server.restart();
	await until("the settlement is concluded", async () => (await pending()).length === 0);
	const known = await server.ledger(channel);
	expect(known).toMatchObject({ acceptedCumulative: PRICE, spent: PRICE, settledOnChain: PRICE, behind: null });
	expect(await world.balance(server.payee)).toBe(PRICE);
	// The opening, and the settlement.
	expect(await server.transactions()).toBe(2);
}

describe("stopping an engine", () => {
	it("takes until a settlement under way is done", async () => {
		const books = await openBooks(world, server, [payer]);
		const channel = await settlementUnderWay();
		let isStopped = false;
		const stopping = server.engine.stop({ deadlineMs: LATE_MS }).then(() => {
			isStopped = true;
		});
		await new Promise((resolve) => setTimeout(resolve, 300));
		expect(isStopped).toBe(false);
		await mining(true);
		await stopping;
		const known = await server.ledger(channel);
		expect(known && unsettled(known)).toBe(0n);
		expect(await pending()).toEqual([]);
		await expectSettledOnce(channel);
		await books.balance([channel]);
	});

	it("ends at its deadline otherwise, and loses nothing: the next start concludes the settlement (I5)", async () => {
		const books = await openBooks(world, server, [payer]);
		const channel = await settlementUnderWay();
		await server.engine.stop({ deadlineMs: 50 });
		expect(await pending()).toMatchObject([{ purpose: { kind: "settle" } }]);
		await server.stop();
		await mining(true);
		await expectSettledOnce(channel);
		await books.balance([channel]);
	});

	it("ends at its deadline also where the node says nothing any more (I10)", async () => {
		let isSilent = false;
		const node = createPublicClient({
			transport: custom(
				{
					request: async (call: { method: string }) =>
						isSilent ? new Promise(() => undefined) : client().request(call as never),
				},
				{ retryCount: 0 },
			),
			cacheTime: 0,
		});
		const engine = await PaymentEngine.start({
			realm: "stop.sluice.test",
			client: node,
			chainId: world.chain.chainId,
			escrow: world.escrow,
			currency: world.token,
			account: server.account,
			secrets: ["a secret of a test, which is 32 bytes long"],
			store: new MemoryStore(),
			watch: { pollMs: 5 },
		});
		isSilent = true;
		// The watch and the settlement each ask for something, and are never answered.
		void engine.settle();
		await new Promise((resolve) => setTimeout(resolve, 50));
		await engine.stop({ deadlineMs: 50 });
	});

	it("asks the chain nothing more", async () => {
		await server.engine.stop();
		const calls = server.rpc.calls();
		await new Promise((resolve) => setTimeout(resolve, 300));
		expect(server.rpc.calls()).toBe(calls);
	});
});

describe("a program of its own", () => {
	/** Starts one on the server's folder, which the server lets go of. */
	async function start(mode: StopSettings["mode"], deadlineMs = LATE_MS): Promise<Program> {
		await server.stop();
		const { chain, escrow, token } = world;
		const { folder } = server;
		const settings: StopSettings = {
			mode,
			deadlineMs,
			rpcUrl: chain.url,
			chainId: chain.chainId,
			escrow,
			token,
			privateKey,
			folder,
		};
		const program = run("stopProcess.ts", JSON.stringify(settings));
		programs.push(program);
		return program;
	}

	it("ends by itself when it has stopped its engine: no timer of ours keeps it alive", async () => {
		const channel = await owing(server, payer, PRICE);
		const { ended, said } = await start("script");
		const code = await ended;
		expect(said()).toBe("done\n");
		expect(code).toBe(0);
		await expectSettledOnce(channel);
	});

	/** A server that has a settlement on its way. */
	async function underWay(deadlineMs?: number) {
		const channel = await owing(server, payer, PRICE);
		await mining(false);
		const program = await start("server", deadlineMs);
		await program.says("ready");
		await until("the settlement is on its way", async () => (await pooled(client())) > 0);
		return { channel, ...program };
	}

	it("that gets a signal ends what is under way, and then with 0", async () => {
		const { channel, child, says, ended } = await underWay();
		child.kill("SIGTERM");
		await says("SIGTERM: stopping");
		await mining(true);
		expect(await ended).toBe(0);
		await expectSettledOnce(channel);
	});

	it("that gets a second one ends at once with 1: its store opens again, and nothing is lost (I5)", async () => {
		const { channel, child, says, ended } = await underWay();
		child.kill("SIGTERM");
		await says("SIGTERM: stopping");
		child.kill("SIGTERM");
		expect(await ended).toBe(1);
		await mining(true);
		await expectSettledOnce(channel);
	});

	it("that is not done at its deadline ends with 1, and loses nothing either (I5)", async () => {
		const { channel, child, ended, said } = await underWay(200);
		child.kill("SIGINT");
		expect(await ended).toBe(1);
		expect(said()).toContain("not stopped within 200 ms");
		await mining(true);
		await expectSettledOnce(channel);
	});
});
