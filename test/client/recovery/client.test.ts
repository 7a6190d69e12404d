/** Getting money back by the client itself, which goes on paying meanwhile. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { PayerStore, WatchEvent } from "../../../src/client/index.ts";
import { MemoryPayerStore } from "../../../src/client/store/memoryStore.ts";
import { Relay } from "../relay.ts";
import { createStage, FUNDS, type Stage } from "../stage.ts";
import { clientFor, type ScriptedServer, scriptedServer, spyOn } from "../support.ts";
import { advance, GRACE_SECONDS, recordOf, until } from "./support.ts";

let stage: Stage;
let server: ScriptedServer;
let store: MemoryPayerStore;
beforeAll(async () => {
	stage = await createStage();
});
afterAll(() => stage.stop());
beforeEach(async () => {
	server = await scriptedServer();
	store = new MemoryPayerStore();
});
afterEach(async () => {
	await store.close();
	await server.stop();
});

async function payingAgent(shared: PayerStore = store) {
	const account = await stage.payer({ gas: true });
	const spy = spyOn(account);
	server.answer(new Relay(stage, { details: { credentialTypes: ["authorization"] } }).script);
	const agent = clientFor(stage, spy.account, [server.host], {}, { store: shared });
	const pay = async () => (await agent.fetch(`${server.url}/`)).status;
	expect(await pay()).toBe(200);
	const [channel] = agent.channels;
	if (channel === undefined) throw new Error("the agent has no channel");
	return { account, agent, spy, pay, channelId: channel.channelId, deposit: channel.deposit };
}

describe("I11: a client that has asked for a channel's close", () => {
	it("while requests are on their way waits for them first", async () => {
		const { agent, spy, pay, channelId } = await payingAgent();
		const paying = Promise.all(Array.from({ length: 5 }, pay));
		const [statuses, request] = await Promise.all([paying, agent.requestClose(channelId)]);
		expect(statuses).toEqual([200, 200, 200, 200, 200]);
		expect(request).toMatchObject({ outcome: "requested" });
		const highest = spy.vouchers(channelId).reduce((most, amount) => (amount > most ? amount : most), 0n);
		expect(BigInt((await recordOf(store, channelId))?.state.signed ?? 0)).toBe(highest);
	});

	it("gets a channel from another process of the agent that has no use for it right now", async () => {
		const { account, channelId } = await payingAgent();
		const other = clientFor(stage, account, [server.host], {}, { store: store.share() });
		expect(await other.requestClose(channelId)).toMatchObject({ outcome: "requested" });
	});

	// Last: it moves the chain's clock ahead of what is signed by the local one.
	it("signs no voucher for it any more, pays by another channel, and gets the money back", async () => {
		const { account, agent, spy, pay, channelId, deposit } = await payingAgent();
		const events: WatchEvent[] = [];
		const end = new AbortController();
		const watch = agent.watch({ onEvent: (event) => void events.push(event), signal: end.signal, pollMs: 20 });
		expect(await agent.requestClose(channelId)).toMatchObject({ outcome: "requested", settled: 0n });
		const signed = spy.vouchers(channelId);
		expect(await Promise.all([pay(), pay(), pay()])).toEqual([200, 200, 200]);
		expect(spy.vouchers(channelId)).toEqual(signed);
		const others = agent.channels.map((channel) => channel.channelId);
		expect(others).toHaveLength(1);
		expect(others).not.toContain(channelId);

		const back = agent.withdraw(channelId, { pollMs: 20 });
		await until("it is seen", () => events.some(({ kind }) => kind === "close-requested"));
		await advance(stage, GRACE_SECONDS);
		expect(await back).toMatchObject({ outcome: "withdrawn", deposit, settled: 0n, refund: deposit });
		await until("it is seen", () => events.some(({ kind }) => kind === "finalized"));
		end.abort();
		await watch;
		expect(await recordOf(store, channelId)).toMatchObject({ status: "closed" });
		expect(events.map(({ kind }) => kind)).not.toContain("over-settled");
		expect(await stage.balance(account.address)).toBe(FUNDS - deposit);
	});
});
