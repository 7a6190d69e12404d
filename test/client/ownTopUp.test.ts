/** Top-ups that may be on their way: none is made twice, and none is signed again that is not allowed any more. */
import type { LocalAccount } from "viem";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
	type ApprovalRequest,
	MemoryPayerStore,
	type PayerStore,
	type PaymentClientOptions,
	type PaymentPolicy,
} from "../../src/client/index.ts";
import type { BookHandle } from "../../src/client/store/bookHandle.ts";
import { topUpCall } from "../../src/escrow/index.ts";
import { forgetfulAccount, type Going } from "./forgetfulAccount.ts";
import { Relay } from "./relay.ts";
import { createStage, type Stage } from "./stage.ts";
import { type Call, clientFor, codeOf, type ScriptedServer, scriptedServer, spyOn } from "./support.ts";

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

/** The processes of one agent, whose channels hold 300, at a price of 100: every fourth request needs a top-up. */
class Agents {
	readonly store = new MemoryPayerStore();
	readonly relay: Relay;

	constructor(...credentialTypes: readonly string[]) {
		this.relay = new Relay(stage, { details: { credentialTypes }, terms: { suggestedDeposit: "300" } });
		server.answer(this.relay.script);
	}

	policy(policy: Partial<PaymentPolicy> = {}): PaymentPolicy {
		const { chain, token, escrow } = stage;
		const places = { chainIds: [chain.chainId], tokens: [token], escrows: [escrow], hosts: [server.host] };
		return { ...places, maxDeposit: 300n, maxPrice: 1_000n, ...policy };
	}

	add(
		account: PaymentClientOptions["account"],
		policy: Partial<PaymentPolicy> = {},
		options: Partial<PaymentClientOptions> = {},
	) {
		const store: PayerStore = this.store.share();
		const agent = clientFor(stage, account, [server.host], this.policy(policy), { ...options, store });
		const get = () => agent.fetch(`${server.url}/`);
		const serve = async (requests: number) => {
			for (let i = 0; i < requests; i++) expect(await (await get()).text()).toBe("served");
		};
		return { agent, store, get, serve };
	}
}

const isTopUp = ({ credential }: Call) => {
	const { action, deposit } = credential?.payload ?? {};
	return action === "topUp" || deposit !== undefined;
};

/** As if its process were killed. */
async function kill(store: PayerStore): Promise<void> {
	const { book, holder } = store as BookHandle;
	await book.holderGone(holder);
}

describe("a top-up that an account sends by itself", () => {
	/** Its first two transactions open the channel, the next two top it up. */
	const forgetful = async (going: (nth: number) => Going) =>
		forgetfulAccount(stage, await stage.payer({ gas: true }), going);
	const depositIn = async ({ agent }: ReturnType<Agents["add"]>) =>
		(await stage.onChain(agent.channels[0]?.channelId ?? "0x"))?.deposit;

	it("and does not tell of is found on chain: the server is told of it, and no second one is sent", async () => {
		const agents = new Agents("hash");
		const wallet = await forgetful((nth) => (nth === 4 ? "untold" : "told"));
		const one = agents.add(wallet.account);
		await one.serve(3);
		await expect(one.get()).rejects.toThrow("no answer");
		await one.serve(3);
		expect(wallet.asked).toHaveLength(4);
		expect(await depositIn(one)).toBe(600n);
		expect(server.payloads("topUp")).toMatchObject([{ type: "hash", hash: wallet.sent[3] }]);
		await one.serve(1);
		expect(await depositIn(one)).toBe(900n);
	});

	it("and does not tell of is found by the next process too", async () => {
		const agents = new Agents("hash");
		const wallet = await forgetful((nth) => (nth === 4 ? "untold" : "told"));
		const first = agents.add(wallet.account);
		await first.serve(3);
		await expect(first.get()).rejects.toThrow("no answer");
		await kill(first.store);
		const next = agents.add(wallet.account);
		await next.serve(3);
		expect(wallet.asked).toHaveLength(4);
		expect(await depositIn(next)).toBe(600n);
		expect(agents.relay.executed).toEqual(["topUp hash"]);
	});

	it("or may have sent is not sent again, by any process, and is used when it is there", async () => {
		const agents = new Agents("hash");
		const payer = await stage.payer({ gas: true });
		const wallet = forgetfulAccount(stage, payer, (nth) => (nth === 4 ? "failed" : "told"));
		const first = agents.add(wallet.account);
		await first.serve(3);
		await expect(first.get()).rejects.toThrow("out of order");
		expect(await codeOf(first.get())).toBe("TOP_UP_UNTOLD");
		await kill(first.store);
		const next = agents.add(wallet.account);
		for (let i = 0; i < 2; i++) expect(await codeOf(next.get())).toBe("TOP_UP_UNTOLD");
		expect(wallet.asked).toHaveLength(4);
		// The wallet had it all the time.
		await stage.send(topUpCall(stage.escrow, next.agent.channels[0]?.channelId ?? "0x", 300n), payer);
		await next.serve(3);
		expect(await depositIn(next)).toBe(600n);
		expect(wallet.asked).toHaveLength(4);
	});

	it("and its owner refuses is asked for again, by the next process as well", async () => {
		const agents = new Agents("hash");
		const wallet = await forgetful((nth) => (nth === 4 || nth === 6 ? "rejected" : "told"));
		const first = agents.add(wallet.account);
		await first.serve(3);
		for (let i = 0; i < 2; i++) expect(await codeOf(first.get())).toBe("USER_REJECTED");
		await kill(first.store);
		const next = agents.add(wallet.account);
		await next.serve(3);
		expect(await depositIn(next)).toBe(600n);
	});

	it("is not sent where it can't be kept that it may be", async () => {
		const agents = new Agents("hash");
		const wallet = await forgetful(() => "told");
		const one = agents.add(wallet.account);
		await one.serve(3);
		const { write } = one.store;
		one.store.write = (change) =>
			wallet.asked.length === 3 ? Promise.reject(new Error("the disk is full")) : write.call(one.store, change);
		await expect(one.get()).rejects.toThrow("the disk is full");
		expect(wallet.asked).toHaveLength(3);
	});
});

describe("a top-up that was signed, and whose answer was lost, is signed again only as far as the policy goes by now", () => {
	/** A client whose top-up was signed and never used. */
	async function pending(policy: Partial<PaymentPolicy> = {}, options: Partial<PaymentClientOptions> = {}) {
		const agents = new Agents("authorization");
		const spy = spyOn(await stage.payer());
		const one = agents.add(spy.account, policy, { retry: { retries: 0 }, ...options });
		await one.serve(3);
		server.answer((call) => (isTopUp(call) ? "cut" : agents.relay.script(call)));
		await expect(one.get()).rejects.toThrow();
		server.answer(agents.relay.script);
		const topUps = () => spy.deposits().length - 1;
		expect(topUps()).toBe(1);
		return { ...one, agents, spy, topUps };
	}

	it.each([
		["maxDeposit", { maxDeposit: 299n }],
		["maxTotal", { maxTotal: 599n }],
	])("not above %s", async (_name, less) => {
		const { agents, agent, get, serve, topUps } = await pending();
		agent.setPolicy(agents.policy(less));
		const calls = server.calls.length;
		await expect(get()).rejects.toMatchObject({ code: "POLICY_REFUSED", rule: "deposit" });
		expect([topUps(), server.calls.length]).toEqual([1, calls]);
		agent.setPolicy(agents.policy());
		await serve(1);
		expect(agents.relay.executed).toEqual(["open authorization", "topUp authorization"]);
	});

	it("nor by another process, which has another policy", async () => {
		const { agents, store, spy } = await pending();
		await kill(store);
		const next = agents.add(spy.account, { maxDeposit: 299n });
		await expect(next.get()).rejects.toMatchObject({ code: "POLICY_REFUSED", rule: "deposit" });
		expect(server.calls.filter(isTopUp)).toHaveLength(1);
	});

	it("not above approveAbove, unless somebody approves, who is asked once", async () => {
		const asked: ApprovalRequest[] = [];
		let answer = false;
		const approve = (request: ApprovalRequest) => {
			if (request.kind === "topUp") asked.push(request);
			return request.kind === "topUp" ? answer : true;
		};
		const { agents, agent, get, serve } = await pending({}, { approve });
		expect(asked).toEqual([]);
		agent.setPolicy(agents.policy({ approveAbove: 299n }));
		await expect(get()).rejects.toMatchObject({ code: "POLICY_REFUSED", rule: "approval" });
		expect(server.calls.filter(isTopUp)).toHaveLength(1);
		answer = true;
		server.answer((call) => (isTopUp(call) ? "cut" : agents.relay.script(call)));
		for (let i = 0; i < 2; i++) await expect(get()).rejects.toThrow();
		server.answer(agents.relay.script);
		await serve(1);
		expect(asked.map(({ amount }) => amount)).toEqual([300n, 300n]);
	});

	it("not while the wallet is paused", async () => {
		const { store, get, serve, topUps } = await pending();
		await store.setPaused("for the night");
		expect(await codeOf(get())).toBe("PAUSED");
		expect(topUps()).toBe(1);
		expect(server.calls.filter(isTopUp)).toHaveLength(1);
		await store.setPaused(undefined);
		await serve(1);
	});
});

describe("while the wallet is paused, or in a dry run, nothing is sent for a deposit, not even an approval (I11)", () => {
	const stops: readonly (readonly [string, (one: ReturnType<Agents["add"]>, agents: Agents) => unknown])[] = [
		["a pause of the wallet", ({ store }) => store.setPaused("now")],
		["a pause of the policy", ({ agent }, agents) => agent.setPolicy(agents.policy({ paused: true }))],
		["a dry run", ({ agent }, agents) => agent.setPolicy(agents.policy({ dryRun: true }))],
	];
	const cases = ["hash", "permit2"].flatMap((type) =>
		(["open", "topUp"] as const).flatMap((kind) => stops.map(([name, stop]) => [type, kind, name, stop] as const)),
	);
	it.each(cases)("by %s, to %s: %s", async (type, kind, _name, stop) => {
		const agents = new Agents(type);
		const account: LocalAccount = await stage.payer({ gas: true });
		const spy = spyOn(account);
		// As late as can be: when the deposit itself was allowed, and the channel's first voucher too.
		let stopped = false;
		const stopNow = async () => {
			if (stopped) return;
			stopped = true;
			await stop(one, agents);
		};
		const approve = async (request: ApprovalRequest) => {
			if (request.kind === "topUp") await stopNow();
			return true;
		};
		const one = agents.add(spy.account, { approveAbove: 0n }, { approve });
		const { write } = one.store;
		one.store.write = async (change) => {
			const refusal = await write.call(one.store, change);
			if (kind === "open" && change.counters?.length) await stopNow();
			return refusal;
		};
		if (kind === "topUp") await one.serve(3);
		const before = spy.transactions.length;
		await expect(one.get()).rejects.toThrow();
		expect(stopped).toBe(true);
		expect(spy.transactions).toHaveLength(before);
	});
});
