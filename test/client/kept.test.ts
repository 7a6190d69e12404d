/** A client and what it keeps: that nothing leaves before it is on disk, and that clients which share a store don't fork. */

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type StaleServer, verifyEvidence } from "../../src/client/index.ts";
import { Agents, amountsOf, asking, crash, idsOf } from "./agents.ts";
import type { RelayOptions } from "./relay.ts";
import { createStage, type Stage } from "./stage.ts";
import { codeOf, type Reply, type ScriptedServer, scriptedServer } from "./support.ts";

let stage: Stage;
let server: ScriptedServer;
beforeAll(async () => {
	stage = await createStage();
});
afterAll(() => stage.stop());
beforeEach(async () => {
	server = await scriptedServer();
});
afterEach(() => server.stop());

const agentsWith = (options?: RelayOptions) => Agents.create({ stage, server }, options);

describe("what is signed", () => {
	it("is kept before it leaves: the store knows the amount of every voucher that the server sees (I11)", async () => {
		const agents = await agentsWith();
		const { get, store } = agents.add();
		const kept: string[] = [];
		server.answer(async (call) => {
			const [one] = await store.list();
			if (call.credential !== undefined) kept.push(one?.record.state.signed ?? "nothing");
			return agents.relay.script(call);
		});
		for (let i = 0; i < 3; i++) expect((await get()).status).toBe(200);
		expect(kept).toEqual(["100", "200", "300"]);
		expect(amountsOf(server.calls)).toEqual(["100", "200", "300"]);
	});

	it("is not signed where it can't be kept, and the request tells why", async () => {
		const agents = await agentsWith();
		const { get, store, spy } = agents.add();
		await get();
		store.write = () => Promise.reject(new Error("the disk is full"));
		await expect(get()).rejects.toThrow("the disk is full");
		expect(spy.vouchers()).toEqual([100n]);
	});

	it("at the same moment is kept by fewer writes than there are vouchers", async () => {
		const agents = await agentsWith();
		const { get, store } = agents.add();
		await get();
		let writes = 0;
		const { write } = store;
		store.write = (change) => {
			writes++;
			return write.call(store, change);
		};
		const answers = await Promise.all(Array.from({ length: 20 }, () => get()));
		expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(200));
		expect(writes).toBeLessThan(20);
		expect(agents.books).toEqual([{ accepted: 2100n, spent: 2100n }]);
	});
});

describe("a limit", () => {
	const limited = { limits: { total: { ever: 250n } } };

	it("is kept to the unit, and what it refused is no credit for what comes after", async () => {
		const agents = await agentsWith();
		const { agent, get, spy } = agents.add(limited);
		await get();
		await get();
		await expect(get()).rejects.toMatchObject({ code: "POLICY_REFUSED", rule: "limit" });
		expect(spy.vouchers()).toEqual([100n, 200n]);
		expect(agent.channels).toMatchObject([{ signed: 200n, consumed: 200n }]);
		agent.setPolicy({ ...agents.policyOf(), limits: { total: { ever: 300n } } });
		expect((await get()).status).toBe(200);
		expect(spy.vouchers()).toEqual([100n, 200n, 300n]);
	});

	it("lets those of many requests at once through that it has room for", async () => {
		const agents = await agentsWith();
		const { get, spy } = agents.add({ limits: { total: { ever: 550n } } });
		await get();
		const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => get()));
		expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(4);
		expect(spy.vouchers().at(-1)).toBe(500n);
		expect(agents.books).toEqual([{ accepted: 500n, spent: 500n }]);
	});

	it("holds for all who share the store together, and after all of them have ended", async () => {
		const agents = await agentsWith();
		const policy = { limits: { host: { ever: 300n } } };
		const first = agents.add(policy);
		const second = agents.add(policy);
		await Promise.all([first.get(), second.get()]);
		await first.store.close();
		await second.store.close();
		const third = agents.add(policy);
		expect((await third.get()).status).toBe(200);
		await expect(third.get()).rejects.toThrow(/over its limit|300 of 300/);
	});

	it("counts every charge that is signed, whatever becomes of it", async () => {
		const agents = await agentsWith({ offers: (relay) => [relay.charge({ credentialTypes: ["authorization"] })] });
		const { get, spy } = agents.add({ limits: { total: { ever: 250n } } }, { retry: { retries: 0 } });
		server.answer((call): Reply | Promise<Reply> =>
			call.credential === undefined ? agents.relay.script(call) : "cut",
		);
		await expect(get()).rejects.toThrow();
		await expect(get()).rejects.toThrow();
		await expect(get()).rejects.toMatchObject({ rule: "limit" });
		expect(spy.charges()).toHaveLength(2);
	});
});

describe("clients that share a store", () => {
	it("use one channel after the other: one deposit, and no amount twice (I11)", async () => {
		const agents = await agentsWith();
		const first = agents.add();
		for (let i = 0; i < 2; i++) await first.get();
		await first.store.close();
		const second = agents.add();
		for (let i = 0; i < 2; i++) await second.get();
		expect(agents.relay.executed).toEqual(["open authorization"]);
		expect(second.spy.vouchers().at(-1)).toBe(400n);
		expect(agents.books).toEqual([{ accepted: 400n, spent: 400n }]);
	});

	it("give an idle channel to who needs it, and take it back", async () => {
		const agents = await agentsWith();
		const [first, second] = [agents.add(), agents.add()];
		for (let i = 0; i < 3; i++) {
			expect((await first.get()).status).toBe(200);
			expect((await second.get()).status).toBe(200);
		}
		expect(agents.relay.executed).toEqual(["open authorization"]);
		expect(agents.books).toEqual([{ accepted: 600n, spent: 600n }]);
		const all = [...first.spy.vouchers(), ...second.spy.vouchers()].filter(
			(amount, at, list) => list.indexOf(amount) === at,
		);
		expect(all.sort((a, b) => Number(a - b))).toEqual([100n, 200n, 300n, 400n, 500n, 600n]);
	});

	it("have a channel each while both are at it, within how many may be open for all together", async () => {
		const agents = await agentsWith();
		const gate = Promise.withResolvers<void>();
		const policy = { maxChannels: 2 };
		const [first, second, third] = [agents.add(policy), agents.add(policy), agents.add(policy)];
		await first.get();
		server.answer(async (call) => {
			if (call.credential?.payload.action === "voucher" || call.path === "/held") await gate.promise;
			return agents.relay.script(call);
		});
		const held = first.get();
		await expect.poll(() => server.payloads("voucher").length, { timeout: 20_000 }).toBe(1);
		expect((await second.get()).status).toBe(200);
		const other = second.get();
		await expect.poll(() => server.payloads("voucher").length, { timeout: 20_000 }).toBe(2);
		await expect(third.get()).rejects.toMatchObject({ rule: "channels" });
		gate.resolve();
		expect([(await held).status, (await other).status]).toEqual([200, 200]);
		expect(agents.relay.executed).toHaveLength(2);
		expect((await third.get()).status).toBe(200);
		expect(agents.relay.executed).toHaveLength(2);
	});

	it("don't fork an amount where one was taken for dead: the late one goes on with another channel (I11)", async () => {
		const agents = await agentsWith();
		const first = agents.add();
		await first.get();
		const [channelId] = idsOf(first.agent);
		// What the files say: this holder is gone.
		const { write } = first.store;
		await first.store.release(channelId ?? "0x", 1);
		const second = agents.add();
		await second.get();
		expect(idsOf(second.agent)).toEqual([channelId]);
		first.store.write = write;
		expect((await first.get()).status).toBe(200);
		const paid = server.calls.filter(({ method, credential }) => method === "GET" && credential !== undefined);
		const vouchers = paid.map(
			({ credential }) => `${credential?.payload.channelId} ${credential?.payload.cumulativeAmount}`,
		);
		expect(new Set(vouchers).size).toBe(3);
		expect(vouchers).toHaveLength(3);
	});
});

describe("a client that goes on after a crash", () => {
	it("asks the server first what was charged, and signs no amount for two requests' value (I11)", async () => {
		const agents = await agentsWith();
		const first = agents.add({}, { retry: { retries: 0 } });
		await first.get();
		server.answer(async (call): Promise<Reply> => {
			await agents.relay.script(call);
			return "cut";
		});
		await expect(first.get()).rejects.toThrow();
		await crash(first);
		server.answer(agents.relay.script);
		const before = server.calls.length;
		const second = agents.add();
		expect((await second.get()).status).toBe(200);
		const paid = server.calls.slice(before).filter(({ credential }) => credential !== undefined);
		expect(paid.map(({ method, credential }) => `${method} ${credential?.payload.cumulativeAmount}`)).toEqual([
			"HEAD 200",
			"GET 300",
		]);
		expect(agents.books).toEqual([{ accepted: 300n, spent: 300n }]);
	});

	it("uses what was signed and never arrived", async () => {
		const agents = await agentsWith();
		const first = agents.add({}, { retry: { retries: 0 } });
		await first.get();
		server.answer((call): Reply | Promise<Reply> =>
			call.credential === undefined ? agents.relay.script(call) : "cut",
		);
		await expect(first.get()).rejects.toThrow();
		await crash(first);
		server.answer(agents.relay.script);
		const second = agents.add();
		for (let i = 0; i < 2; i++) expect((await second.get()).status).toBe(200);
		expect(second.spy.vouchers().at(-1)).toBe(300n);
		expect(agents.books).toEqual([{ accepted: 300n, spent: 300n }]);
	});

	it("opens the channel that was to be opened, with the same salt: one deposit (I4)", async () => {
		const agents = await agentsWith();
		const first = agents.add({}, { retry: { retries: 0 } });
		server.answer(async (call): Promise<Reply> => {
			const answer = await agents.relay.script(call);
			return call.credential === undefined ? answer : "cut";
		});
		await expect(first.get()).rejects.toThrow();
		await crash(first);
		server.answer(agents.relay.script);
		const second = agents.add();
		expect((await second.get()).status).toBe(200);
		expect(agents.relay.executed).toEqual(["open authorization"]);
		expect(agents.books).toHaveLength(1);
	});

	it("closes what earlier ones have left, of every key, and gets the rest back", async () => {
		const agents = await agentsWith();
		const first = agents.add();
		await first.get();
		await crash(first);
		const second = agents.add();
		const closed = await second.agent.close();
		expect(closed).toHaveLength(1);
		expect(await stage.balance(agents.relay.address)).toBe(100n);
		expect((await second.store.list()).map(({ record }) => record.status)).toEqual(["closed"]);
	});

	it("knows what its server has forgotten: the deposit of that is not lost sight of", async () => {
		const agents = await agentsWith();
		const first = agents.add();
		await first.get();
		agents.relay.books.clear();
		expect((await first.get()).status).toBe(200);
		await first.agent.release();
		await first.store.close();
		const second = agents.add();
		const kept = (await second.store.list()).map(({ record }) => record.status).sort();
		expect(kept).toEqual(["forgotten", "open"]);
		expect((await second.get()).status).toBe(200);
		expect(agents.relay.executed).toHaveLength(2);
	});
});

describe("whoever approves", () => {
	it("is asked once for a channel's deposit, then for each request above the threshold", async () => {
		const agents = await agentsWith();
		const { asked, approve } = asking(true);
		const { get } = agents.add({ approveAbove: 50n }, { approve });
		await get();
		await get();
		expect(asked.map(({ kind, amount, host }) => ({ kind, amount, host }))).toEqual([
			{ kind: "open", amount: 1000n, host: server.host },
			{ kind: "request", amount: 100n, host: server.host },
		]);
	});

	it("is asked by many requests at once for one deposit, and for the price of each of the others", async () => {
		const agents = await agentsWith();
		const { asked, approve } = asking(true);
		const { get } = agents.add({ approveAbove: 50n }, { approve });
		await Promise.all([get(), get(), get()]);
		expect(asked.map(({ kind }) => kind).sort()).toEqual(["open", "request", "request"]);
	});

	it("is not asked below it", async () => {
		const agents = await agentsWith();
		const { asked, approve } = asking(true);
		const { get } = agents.add({ approveAbove: 1000n }, { approve });
		await get();
		expect(asked).toEqual([]);
	});

	it.each([
		["says no", { approve: () => false }],
		["is not there", {}],
	])("%s: nothing is signed", async (_, options) => {
		const agents = await agentsWith();
		const { get, spy } = agents.add({ approveAbove: 0n }, options);
		await expect(get()).rejects.toMatchObject({ code: "POLICY_REFUSED", rule: "approval" });
		expect(spy.signed).toEqual([]);
	});

	it("keeps nobody waiting longer than the request does", async () => {
		const agents = await agentsWith();
		const { get, spy } = agents.add({ approveAbove: 0n }, { approve: () => new Promise(() => undefined) });
		const outcome = get({ signal: AbortSignal.timeout(200) });
		await expect(outcome).rejects.toThrow();
		expect(spy.signed).toEqual([]);
	});

	it("is asked for a charge", async () => {
		const agents = await agentsWith({ offers: (relay) => [relay.charge({ credentialTypes: ["authorization"] })] });
		const { asked, approve } = asking(true);
		await agents.add({ approveAbove: 0n }, { approve }).get();
		expect(asked.map(({ kind, amount }) => ({ kind, amount }))).toEqual([{ kind: "charge", amount: 100n }]);
	});
});

describe("a dry run, and a pause", () => {
	it("signs nothing and says what it would have", async () => {
		const agents = await agentsWith();
		const { get, spy } = agents.add({ dryRun: true });
		await expect(get()).rejects.toThrow(/dry run.*1000/);
		expect(spy.signed).toEqual([]);
	});

	it("stops every process at once, and lets them close", async () => {
		const agents = await agentsWith();
		const { agent, get, spy } = agents.add();
		await get();
		await agents.store.setPaused("looks odd");
		expect(await codeOf(get())).toBe("PAUSED");
		expect(spy.vouchers()).toEqual([100n]);
		expect(await agent.close()).toHaveLength(1);
		await agents.store.setPaused(undefined);
		expect((await get()).status).toBe(200);
	});
});

describe("a server that knows less than it has acknowledged", () => {
	it("is told of", async () => {
		const agents = await agentsWith();
		const told: StaleServer[] = [];
		const { agent, get } = agents.add({}, { onStaleServer: (stale) => told.push(stale) });
		for (let i = 0; i < 2; i++) await get();
		const [channelId = "0x"] = idsOf(agent);
		agents.relay.remember(channelId, 0n, 0n);
		expect((await get()).status).toBe(200);
		expect(told).toMatchObject([{ channelId, before: { spent: 200n }, now: { spent: 100n }, fell: ["spent"] }]);
	});
});

describe("receipts", () => {
	it("of charges and channels are kept: of vouchers the last one", async () => {
		const agents = await agentsWith();
		const { agent, get, store } = agents.add();
		for (let i = 0; i < 3; i++) await get();
		await agent.close();
		const kept = await store.receipts();
		expect(kept.map(({ kind, amount }) => ({ kind, amount }))).toEqual(
			expect.arrayContaining([
				{ kind: "close", amount: "300" },
				{ kind: "voucher", amount: "100" },
				{ kind: "open", amount: "100" },
			]),
		);
		expect(kept).toHaveLength(3);
		expect(JSON.stringify(kept)).not.toContain("signature");
	});
});

// Last: it moves the chain's clock ahead of everybody else's.
describe("a channel whose money is to be got back", () => {
	it("is used no more: the next request opens another one, and the escrow gives back what is not settled (I11)", async () => {
		const agents = await agentsWith();
		await stage.giveGas(agents.account.address);
		const { agent, get, store } = agents.add();
		await get();
		const [channelId = "0x"] = idsOf(agent);
		expect(await agent.requestClose(channelId)).toMatchObject({ outcome: "requested" });
		expect(idsOf(agent)).toEqual([]);
		expect((await get()).status).toBe(200);
		expect(idsOf(agent)).not.toContain(channelId);
		expect(await codeOf(agent.withdraw(channelId, { wait: false }))).toBe("GRACE_PERIOD");
		await stage.chain.client.request({ method: "evm_increaseTime", params: [1_000] } as never);
		await stage.chain.client.request({ method: "evm_mine", params: [] } as never);
		expect(await agent.withdraw(channelId)).toMatchObject({ outcome: "withdrawn", refund: 1000n, settled: 0n });
		const kept = (await store.list()).find(({ record }) => record.state.channelId === channelId);
		expect(kept?.record.status).toBe("closed");
	});

	it("is proved by what is kept of it", async () => {
		const agents = await agentsWith();
		const { agent, get } = agents.add();
		for (let i = 0; i < 2; i++) await get();
		const [channelId = "0x"] = idsOf(agent);
		const document = JSON.parse(JSON.stringify(await agent.evidence(channelId)));
		expect(verifyEvidence(document).isConsistent).toBe(true);
	});
});
