/** Who has a channel: nothing is signed by who has given it back or lost it, and nobody is left with one that nobody has. */

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { MemoryPayerStore } from "../../src/client/index.ts";
import { closeCall } from "../../src/escrow/index.ts";
import { Agents, AUTHORIZED, amountsOf, faultyStore, heldIn, idsOf, metered, raisesOf } from "./agents.ts";
import { Relay, type RelayOptions } from "./relay.ts";
import { createStage, type Stage } from "./stage.ts";
import { codeOf, type Reply, refusal, type ScriptedServer, scriptedServer } from "./support.ts";

/** How long a test waits for what has to come. */
const SOON = { timeout: 20_000 };

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

/** What the server was paid with by `GET`. */
const paidWith = () =>
	server.calls.flatMap(({ method, credential }) =>
		method === "GET" && credential !== undefined
			? [`${credential.payload.channelId} ${credential.payload.cumulativeAmount}`]
			: [],
	);

describe("an answer that nobody has read yet", () => {
	let over: PromiseWithResolvers<void>;
	beforeEach(() => {
		over = Promise.withResolvers<void>();
	});
	afterEach(() => over.resolve());

	async function unreadAnswer(options: RelayOptions = AUTHORIZED) {
		const agents = await agentsWith(options);
		const payer = () => agents.add({}, { stream: { aheadUnits: 1, stepUnits: 1 } });
		const first = payer();
		server.answer(metered(agents.relay.script, { required: (paid) => paid + 100n, over: over.promise }));
		const answer = await first.get();
		server.answer(agents.relay.script);
		const [channelId = "0x"] = idsOf(first.agent);
		return { agents, payer, first, answer, channelId };
	}

	it.each([
		["by no voucher", "1000"],
		["by no top-up", "100"],
	])("is paid %s once the close of its channel was requested (I11)", async (_, suggestedDeposit) => {
		const { agents, first, answer, channelId } = await unreadAnswer({ ...AUTHORIZED, terms: { suggestedDeposit } });
		await stage.giveGas(agents.account.address);
		expect(await first.agent.requestClose(channelId)).toMatchObject({ outcome: "requested" });
		const signed = first.spy.signed.length;
		expect(await codeOf(answer.text())).toBe("HOLDER_LOST");
		expect(first.spy.signed).toHaveLength(signed);
		expect(server.calls.filter(({ method }) => method === "HEAD")).toEqual([]);
		expect((await stage.onChain(channelId))?.closeRequestedAt).toBeGreaterThan(0);
	});

	it.each([
		["is not paid by who has given the channel to another", false],
		["is not paid by the channel that its reader has taken anew", true],
	])("%s: no amount is signed twice, and the channel is free afterwards (I11)", async (_, takesAnew) => {
		const { agents, payer, first, answer, channelId } = await unreadAnswer();
		const second = payer();
		for (let i = 0; i < 3; i++) expect((await second.get()).status).toBe(200);
		expect(idsOf(second.agent)).toEqual([channelId]);
		await second.agent.release();
		if (takesAnew) expect((await first.get()).status).toBe(200);
		const signed = first.spy.vouchers();
		expect(await codeOf(answer.text())).toBe("HOLDER_LOST");
		expect(first.spy.vouchers()).toEqual(signed);
		expect((await first.get()).status).toBe(200);
		expect(agents.relay.executed).toEqual(["open authorization"]);
		await first.agent.release();
		expect(await heldIn(agents.store)).toEqual([]);
		const gets = paidWith();
		expect(new Set(gets).size).toBe(gets.length);
	});
});

describe("a state that knows less than the store", () => {
	it.each([
		["free", true],
		["held by another", false],
	])("of a channel that is %s: no amount is signed twice, and the client goes on (I11)", async (_, isFree) => {
		const agents = await agentsWith();
		const first = agents.add();
		await first.get();
		const resume = first.agent.channels.map((channel) => channel.state());
		for (let i = 0; i < 2; i++) await first.get();
		if (isFree) await first.agent.release();
		const second = agents.add({}, { resume });
		for (let i = 0; i < 2; i++) expect((await second.get()).status).toBe(200);
		expect(second.spy.vouchers().every((amount) => amount >= 300n)).toBe(true);
		expect(second.spy.vouchers().at(-1)).toBe(500n);
		expect(agents.relay.executed).toEqual(["open authorization"]);
		expect(agents.books).toEqual([{ accepted: 500n, spent: 500n }]);
	});
});

describe("a store that fails", () => {
	it("once, of three vouchers at the same time: all goes on, and what is signed never falls (I11)", async () => {
		const agents = await agentsWith();
		let counted = 0;
		const store = faultyStore(agents.store.share(), (call, [change]) => {
			const isCounted = call === "write" && (change as { counters?: unknown[] }).counters?.length;
			return isCounted && ++counted === 3 ? "before" : undefined;
		});
		const { get, spy } = agents.add({ limits: { total: { ever: 100_000n } } }, { store });
		await get();
		await Promise.allSettled([get(), get(), get()]);
		expect(counted).toBeGreaterThanOrEqual(3);
		for (let i = 0; i < 3; i++) expect((await get()).status).toBe(200);
		const raises = raisesOf(spy.vouchers());
		expect(raises).toEqual([...raises].sort((a, b) => Number(a - b)));
		expect(agents.relay.executed).toEqual(["open authorization"]);
	});

	it.each([
		["and gives the channel back", 0],
		["and is silent for a while", 2],
		["and is silent for longer than the channel waits to be given back", 3],
	])("when it has carried a write out %s: the next request goes on (I11)", async (_, silences) => {
		const agents = await agentsWith();
		let isFailing = false;
		let releases = 0;
		const store = faultyStore(agents.store.share(), (call) => {
			if (!isFailing) return undefined;
			if (call === "release") return releases++ < silences ? "before" : undefined;
			return call === "write" ? "after" : undefined;
		});
		const { get, spy, agent } = agents.add({}, { store });
		await get();
		isFailing = true;
		// What each of them has left on disk is more than the client knows to have signed.
		const outcomes = await Promise.allSettled([get(), get(), get()]);
		expect(outcomes.map(({ status }) => status)).toContain("rejected");
		await expect.poll(() => releases, SOON).toBeGreaterThanOrEqual(silences);
		isFailing = false;
		for (let i = 0; i < 2; i++) expect((await get()).status).toBe(200);
		const raises = raisesOf(spy.vouchers());
		expect(raises).toEqual([...raises].sort((a, b) => Number(a - b)));
		expect(agents.relay.executed).toEqual(["open authorization"]);
		await agent.release();
		expect(await heldIn(agents.store)).toEqual([]);
	});
});

describe("room for channels", () => {
	/** Several payees, each at a path of its own. */
	async function payees(count: number, options: RelayOptions = AUTHORIZED) {
		const agents = await agentsWith(options);
		const relays = Array.from({ length: count }, () => new Relay(stage, options));
		const relayOf = (path: string) => relays[Number(path.slice(1))] ?? agents.relay;
		server.answer((call) => relayOf(call.path).script(call));
		return { agents, relayOf };
	}

	it("is not taken by what the policy has refused", async () => {
		const { agents } = await payees(3);
		const { agent, get, spy } = agents.add({ maxChannels: 2, limits: { total: { ever: 50n } } });
		for (const path of ["/0", "/1"]) await expect(get({ path })).rejects.toMatchObject({ rule: "limit" });
		expect(spy.signed).toEqual([]);
		agent.setPolicy(agents.policyOf({ maxChannels: 2, limits: { total: { ever: 1_000n } } }));
		for (const path of ["/2", "/0"]) expect((await get({ path })).status).toBe(200);
	});

	it("is there again when what a hostile server has refused can't be funded any more", async () => {
		let ahead = 0;
		const now = () => Date.now() + ahead;
		const { agents, relayOf } = await payees(4, { ...AUTHORIZED, now });
		const { get } = agents.add({ maxChannels: 2 }, { now });
		server.answer((call): Reply | Promise<Reply> =>
			call.credential === undefined ? relayOf(call.path).script(call) : refusal("verification-failed"),
		);
		for (const path of ["/0", "/1"]) expect((await get({ path })).status).not.toBe(200);
		await expect(get({ path: "/2" })).rejects.toMatchObject({ rule: "channels" });
		server.answer((call) => relayOf(call.path).script(call));
		ahead = 600_000;
		for (const path of ["/2", "/3"]) expect((await get({ path })).status).toBe(200);
	});

	it("is not taken by a channel that its server has closed", async () => {
		const { agents, relayOf } = await payees(2);
		const { agent, get } = agents.add({ maxChannels: 1 });
		await get({ path: "/0" });
		const [channelId = "0x"] = idsOf(agent);
		await expect(get({ path: "/1" })).rejects.toMatchObject({ rule: "channels" });
		const voucher = server.payloads("open")[0]?.voucherSignature as `0x${string}`;
		const { payee } = relayOf("/0");
		await stage.send(closeCall(stage.escrow, channelId, 100n, voucher), payee);
		expect((await get({ path: "/1" })).status).toBe(200);
	});
});

describe("a paused store", () => {
	it("lets no deposit be signed for a HEAD", async () => {
		const agents = await agentsWith();
		const { get, spy } = agents.add();
		await agents.store.setPaused("looks odd");
		expect(await codeOf(get({ method: "HEAD" }))).toBe("PAUSED");
		expect(spy.signed).toEqual([]);
	});

	it.each([["hash"], ["permit2"]])(
		"lets no transaction of a top-up leave, nor an approval for it (%s)",
		async (type) => {
			const agents = await Agents.create(
				{ stage, server },
				{ details: { credentialTypes: [type] }, terms: { suggestedDeposit: "100" } },
				await stage.payer({ gas: true }),
			);
			const { get, spy } = agents.add();
			expect((await get()).status).toBe(200);
			await agents.store.setPaused("looks odd");
			const before = { sent: spy.transactions.length, signed: spy.signed.length, hashes: spy.hashes.length };
			expect(await codeOf(get())).toBe("PAUSED");
			const after = { sent: spy.transactions.length, signed: spy.signed.length, hashes: spy.hashes.length };
			expect(after).toEqual(before);
			await agents.store.setPaused(undefined);
			expect((await get()).status).toBe(200);
		},
	);

	it("lets no credit be used that a step has left, and lets the channel be closed", async () => {
		const agents = await agentsWith({ details: { ...AUTHORIZED.details, minVoucherDelta: "300" } });
		const { agent, get, spy } = agents.add();
		for (let i = 0; i < 2; i++) await get();
		expect(spy.vouchers()).toEqual([100n, 400n]);
		await agents.store.setPaused("looks odd");
		const paid = paidWith();
		expect(await codeOf(get())).toBe("PAUSED");
		expect(paidWith()).toEqual(paid);
		expect(await agent.close()).toHaveLength(1);
		expect(await stage.balance(agents.relay.address)).toBe(200n);
	});

	it("lets the close of a channel be requested", async () => {
		const agents = await agentsWith();
		await stage.giveGas(agents.account.address);
		const { agent, get } = agents.add();
		await get();
		const [channelId = "0x"] = idsOf(agent);
		await agents.store.setPaused("looks odd");
		expect(await agent.requestClose(channelId)).toMatchObject({ outcome: "requested" });
	});
});

describe("a channel that a client was given by its state", () => {
	async function stateOf(agents: Agents) {
		const first = agents.add({}, { store: new MemoryPayerStore() });
		await first.get();
		return first.agent.channels.map((channel) => channel.state());
	}

	it("can have its close requested before anything else", async () => {
		const agents = await agentsWith();
		await stage.giveGas(agents.account.address);
		const resume = await stateOf(agents);
		const { agent } = agents.add({}, { resume });
		expect(await agent.requestClose(resume[0]?.channelId ?? "0x")).toMatchObject({ outcome: "requested" });
	});

	it("is used after it was let go", async () => {
		const agents = await agentsWith();
		const { agent, get } = agents.add({}, { resume: await stateOf(agents) });
		await agent.release();
		expect(await heldIn(agents.store)).toEqual([]);
		expect((await get()).status).toBe(200);
		expect(agents.relay.executed).toEqual(["open authorization"]);
		expect(agents.books).toEqual([{ accepted: 200n, spent: 200n }]);
	});
});

describe("a channel that is given back while another one is opened for its key", () => {
	/** A client that is about to keep a channel of its own, while the one that another has kept from it comes free. */
	async function race() {
		const agents = await agentsWith();
		const first = agents.add();
		await first.get();
		const answers = Promise.withResolvers<void>();
		server.answer(async (call) => {
			if (call.path === "/slow" && call.credential !== undefined) await answers.promise;
			return agents.relay.script(call);
		});
		const slow = first.get({ path: "/slow" });
		await expect.poll(() => server.payloads("voucher").length, SOON).toBe(1);
		const store = agents.store.share();
		const adds = Promise.withResolvers<void>();
		let adding = 0;
		const { add } = store;
		store.add = async (...args) => {
			adding++;
			await adds.promise;
			return add.apply(store, args);
		};
		const second = agents.add({}, { store });
		const opening = second.get();
		await expect.poll(() => adding, SOON).toBe(1);
		answers.resolve();
		expect((await slow).status).toBe(200);
		await first.agent.release();
		return { agents, second, opening, adds };
	}

	async function expectFree({ agents, second }: Awaited<ReturnType<typeof race>>) {
		await second.agent.release();
		expect(await heldIn(agents.store)).toEqual([]);
		expect((await second.get()).status).toBe(200);
	}

	it("is left to others by the requests that wait for the new one", async () => {
		const raced = await race();
		const other = raced.second.get();
		raced.adds.resolve();
		expect([(await raced.opening).status, (await other).status]).toEqual([200, 200]);
		await expectFree(raced);
	});

	it("is closed, or used, and no other one is opened over it", async () => {
		const raced = await race();
		const closing = raced.second.agent.close();
		await expect.poll(() => raced.second.agent.channels.length, SOON).toBe(1);
		raced.adds.resolve();
		expect((await raced.opening).status).toBe(200);
		await closing;
		const opens = server.payloads("open").map(({ channelId }) => channelId);
		expect(new Set(opens).size).toBe(opens.length);
		await expectFree(raced);
	});
});

describe("a server that never answers", () => {
	it("keeps nobody from requesting the close of its channel", async () => {
		const agents = await agentsWith();
		await stage.giveGas(agents.account.address);
		const { agent, get, spy } = agents.add();
		await get();
		const [channelId = "0x"] = idsOf(agent);
		const never = Promise.withResolvers<void>();
		server.answer(async (call) => {
			await never.promise;
			return agents.relay.script(call);
		});
		const end = new AbortController();
		const hanging = get({ signal: end.signal });
		hanging.catch(() => undefined);
		await expect.poll(() => server.payloads("voucher").length, SOON).toBe(1);
		let outcome: string | undefined;
		agent.requestClose(channelId, { signal: AbortSignal.timeout(5_000) }).then(
			({ outcome: is }) => {
				outcome = is;
			},
			(error: unknown) => {
				outcome = `failed: ${error}`;
			},
		);
		await expect.poll(() => outcome, SOON).toBe("requested");
		expect(spy.vouchers()).toEqual([100n, 200n]);
		end.abort();
		never.resolve();
		await expect(hanging).rejects.toThrow();
	});
});

describe("a wallet of several keys", () => {
	it("has a channel of its own for each: the other's is left as it is", async () => {
		const agents = await agentsWith();
		const first = agents.add();
		await first.get();
		await first.agent.release();
		const before = await first.store.list();
		const second = agents.add({}, { account: await stage.payer() });
		expect((await second.get()).status).toBe(200);
		const [channelId] = idsOf(second.agent);
		const others = (await first.store.list()).filter(({ record }) => record.state.channelId !== channelId);
		expect(others).toEqual(before);
		expect(agents.relay.executed).toHaveLength(2);
		expect(await second.agent.close()).toHaveLength(1);
		expect((await first.get()).status).toBe(200);
		expect(agents.relay.executed).toHaveLength(2);
	});

	it("pays and closes the rest where a session key is no longer given", async () => {
		const agents = await agentsWith();
		const first = agents.add({}, { authorizedSigner: await stage.payer() });
		await first.get();
		const [lost = "0x"] = idsOf(first.agent);
		await first.agent.release();
		for (let i = 0; i < 2; i++) {
			const next = agents.add();
			// By then there is more left in the one that can't be used.
			for (let paid = 0; paid < 2; paid++) expect((await next.get()).status).toBe(200);
			expect(idsOf(next.agent)).not.toContain(lost);
			await next.agent.release();
		}
		// One of the session key, and one for all who come after it.
		expect(agents.relay.executed).toHaveLength(2);
		const closed = await agents.add().agent.close();
		expect(closed).toHaveLength(1);
		expect(closed[0]?.channel.channelId).not.toBe(lost);
		expect((await stage.onChain(lost))?.finalized).toBe(false);
	});
});

describe("a channel that was lost to another process", () => {
	it("is not paid with, also where a step has left credit (I11)", async () => {
		const agents = await agentsWith({ details: { ...AUTHORIZED.details, minVoucherDelta: "300" } });
		const first = agents.add();
		for (let i = 0; i < 2; i++) await first.get();
		expect(first.spy.vouchers()).toEqual([100n, 400n]);
		const [channelId = "0x"] = idsOf(first.agent);
		// What the files say: this holder is gone.
		await first.store.release(channelId, 1);
		const second = agents.add();
		for (let i = 0; i < 2; i++) expect((await second.get()).status).toBe(200);
		expect(agents.books).toEqual([{ accepted: 400n, spent: 400n }]);
		const before = server.calls.length;
		expect((await first.get()).status).toBe(200);
		const gets = server.calls.slice(before).filter(({ method }) => method === "GET");
		expect(amountsOf(gets)).toEqual(["700"]);
		expect(agents.relay.executed).toHaveLength(1);
	});

	it("is not closed by who has lost it", async () => {
		const agents = await agentsWith();
		const first = agents.add();
		await first.get();
		const [channelId = "0x"] = idsOf(first.agent);
		await first.store.release(channelId, 1);
		const second = agents.add();
		expect((await second.get()).status).toBe(200);
		const answers = Promise.withResolvers<void>();
		server.answer(async (call) => {
			await answers.promise;
			return agents.relay.script(call);
		});
		const paying = second.get();
		await expect.poll(() => server.payloads("voucher").length, SOON).toBe(3);
		expect(await first.agent.close()).toEqual([]);
		expect(server.payloads("close")).toEqual([]);
		answers.resolve();
		expect((await paying).status).toBe(200);
		expect(await first.agent.close()).toEqual([]);
		expect(await second.agent.close()).toHaveLength(1);
		expect(await stage.balance(agents.relay.address)).toBe(300n);
	});
});
