/** Charges by the payer's own transfers: what was paid is found again, by whichever process, and counted when it leaves. */
import { createPublicClient, encodeFunctionData, http, type LocalAccount } from "viem";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { testUsdcAbi } from "../../src/cli/demo/generated/testUsdc.ts";
import {
	MemoryPayerStore,
	type PayerStore,
	type PaymentClientOptions,
	type PaymentPolicy,
} from "../../src/client/index.ts";
import type { BookHandle } from "../../src/client/store/bookHandle.ts";
import { parseChargePayload } from "../../src/protocol/index.ts";
import { RpcProxy } from "../support/rpcProxy.ts";
import { forgetfulAccount, type Going } from "./forgetfulAccount.ts";
import { Relay } from "./relay.ts";
import { createStage, FUNDS, type Stage } from "./stage.ts";
import { clientFor, codeOf, type Reply, type Script, type ScriptedServer, scriptedServer, spyOn } from "./support.ts";

const TYPES = ["transaction", "hash"] as const;
const NO_RETRIES = { retry: { retries: 0 } };

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

const by =
	(...credentialTypes: readonly string[]) =>
	(relay: Relay) => [relay.charge({ credentialTypes })];

/** The processes of one agent, and whom they pay. */
class Agents {
	readonly store = new MemoryPayerStore();
	readonly relay: Relay;

	constructor(...credentialTypes: readonly string[]) {
		this.relay = new Relay(stage, { offers: by(...credentialTypes) });
		server.answer(this.relay.script);
	}

	add(
		account: PaymentClientOptions["account"],
		policy: Partial<PaymentPolicy> = {},
		options: Partial<PaymentClientOptions> = {},
	) {
		const store: PayerStore = this.store.share();
		const agent = clientFor(stage, account, [server.host], policy, { ...NO_RETRIES, ...options, store });
		return { agent, store, get: () => agent.fetch(`${server.url}/`) };
	}

	/** Answers everything but payments. */
	readonly cutting: Script = (call) => (call.credential === undefined ? this.relay.script(call) : "cut");
}

const payloads = () =>
	server.calls.flatMap(({ credential }) => (credential === undefined ? [] : [parseChargePayload(credential.payload)]));

const paidBy = async ({ address }: Pick<LocalAccount, "address">) => FUNDS - (await stage.balance(address));

/** As if its process were killed: it tells the store nothing more. */
async function kill(store: PayerStore): Promise<void> {
	const { book, holder } = store as BookHandle;
	await book.holderGone(holder);
}

describe("what a process has paid that is gone", () => {
	it.each(TYPES)("by a %s is presented by the next one: nothing is paid twice", async (type) => {
		const agents = new Agents(type);
		const spy = spyOn(await stage.payer({ gas: true }));
		const first = agents.add(spy.account);
		first.store.freePayment = () => new Promise(() => undefined);
		server.answer(agents.cutting);
		void first.get().catch(() => undefined);
		await expect.poll(() => payloads().length, { timeout: 20_000 }).toBe(1);
		await kill(first.store);
		server.answer(agents.relay.script);
		const next = agents.add(spy.account);
		expect((await next.get()).status).toBe(200);
		expect(spy.transactions).toHaveLength(1);
		expect(await paidBy(spy.account)).toBe(100n);
		expect((await next.get()).status).toBe(200);
		expect(await paidBy(spy.account)).toBe(200n);
	});

	it("and had not broadcast when it ended is made anew, and at most one of the two is mined", async () => {
		const agents = new Agents("hash");
		const spy = spyOn(await stage.payer({ gas: true }));
		const first = agents.add(spy.account);
		const { keepPayment } = first.store;
		first.store.keepPayment = async (...given) => {
			await keepPayment.apply(first.store, given);
			throw new Error("killed");
		};
		await expect(first.get()).rejects.toThrow("killed");
		await kill(first.store);
		const next = agents.add(spy.account);
		expect((await next.get()).status).toBe(200);
		expect(spy.transactions.map(({ nonce }) => nonce)).toEqual([0, 0]);
		expect(await paidBy(spy.account)).toBe(100n);
		expect(await stage.chain.client.getTransactionCount({ address: spy.account.address })).toBe(1);
	});

	it.each(TYPES)("is on disk before a %s leaves", async (type) => {
		const agents = new Agents(type);
		const rpc = await RpcProxy.start(stage.chain.url);
		const client = createPublicClient({
			transport: http(rpc.url, { retryCount: 0 }),
			pollingInterval: 20,
			cacheTime: 0,
		});
		const order: string[] = [];
		const { get, store } = agents.add(await stage.payer({ gas: true }), {}, { client });
		const { keepPayment, dropPayment } = store;
		store.keepPayment = async (...given) => {
			await keepPayment.apply(store, given);
			order.push("kept");
		};
		store.dropPayment = (...given) => {
			order.push("dropped");
			return dropPayment.apply(store, given);
		};
		rpc.fails = (method) => {
			if (method === "eth_sendRawTransaction") order.push("broadcast");
			return false;
		};
		server.answer((call) => {
			if (call.credential !== undefined) order.push("presented");
			return agents.relay.script(call);
		});
		expect((await get()).status).toBe(200);
		const leaves = type === "hash" ? ["broadcast", "presented"] : ["presented"];
		expect(order).toEqual(["kept", ...leaves, "dropped"]);
		await rpc.stop();
	});

	it("is not made where it can't be kept", async () => {
		for (const type of TYPES) {
			const agents = new Agents(type);
			const account = await stage.payer({ gas: true });
			const { get, store } = agents.add(account);
			store.keepPayment = () => Promise.reject(new Error("the disk is full"));
			await expect(get()).rejects.toThrow("the disk is full");
			expect(await stage.chain.client.getTransactionCount({ address: account.address })).toBe(0);
		}
		expect(payloads()).toEqual([]);
	});

	it.each(TYPES)("by a %s pays for one of the requests of several processes", async (type) => {
		const agents = new Agents(type);
		const spy = spyOn(await stage.payer({ gas: true }));
		const first = agents.add(spy.account);
		server.answer(agents.cutting);
		await expect(first.get()).rejects.toThrow();
		await first.store.close();
		server.answer(agents.relay.script);
		const [a, b] = [agents.add(spy.account), agents.add(spy.account)];
		// One after the other reaches the chain: two processes have no row of nonces in common.
		const answers = [await a.get(), await b.get()];
		expect(answers.map(({ status }) => status)).toEqual([200, 200]);
		expect(spy.transactions).toHaveLength(2);
		expect(await paidBy(spy.account)).toBe(200n);
	});

	it("is used by one process at a time, and by the next when that one is done", async () => {
		const agents = new Agents("hash");
		const account = await stage.payer({ gas: true });
		const first = agents.add(account);
		server.answer(agents.cutting);
		await expect(first.get()).rejects.toThrow();
		let answer = (_reply: Reply): void => undefined;
		const held = new Promise<Reply>((resolve) => {
			answer = resolve;
		});
		server.answer((call) => (call.credential === undefined ? agents.relay.script(call) : held));
		const slow = first.get().catch(() => undefined);
		await expect.poll(() => payloads().length, { timeout: 20_000 }).toBe(2);
		server.answer(agents.relay.script);
		const second = agents.add(account);
		expect((await second.get()).status).toBe(200);
		expect(await paidBy(account)).toBe(200n);
		answer({ status: 500 });
		await slow;
		expect((await second.get()).status).toBe(200);
		expect(await paidBy(account)).toBe(200n);
	});

	it("is not used by another account of the same wallet", async () => {
		const agents = new Agents("hash");
		const [one, two] = [await stage.payer({ gas: true }), await stage.payer({ gas: true })];
		server.answer(agents.cutting);
		await expect(agents.add(one).get()).rejects.toThrow();
		server.answer(agents.relay.script);
		expect((await agents.add(two).get()).status).toBe(200);
		expect([await paidBy(one), await paidBy(two)]).toEqual([100n, 100n]);
	});

	it("is not presented while the wallet is paused, and is afterwards", async () => {
		const agents = new Agents("transaction");
		const spy = spyOn(await stage.payer({ gas: true }));
		const { get, store } = agents.add(spy.account);
		server.answer(agents.cutting);
		await expect(get()).rejects.toThrow();
		server.answer(agents.relay.script);
		await store.setPaused("for the night");
		expect(await codeOf(get())).toBe("PAUSED");
		expect(payloads()).toHaveLength(1);
		await store.setPaused(undefined);
		expect((await get()).status).toBe(200);
		expect(spy.transactions).toHaveLength(1);
	});
});

describe("a limit", () => {
	const limited = { limits: { total: { ever: 250n } } };

	it.each(TYPES)("counts a %s when it leaves: what would revert counts nothing", async (type) => {
		const agents = new Agents(type);
		const account = await stage.payer({ gas: true, funds: 99n });
		const { get, store } = agents.add(account, limited);
		for (let i = 0; i < 3; i++) expect(await codeOf(get())).toBe("TRANSACTION_REVERTED");
		const counter = `${stage.chain.chainId}:${stage.token} total ever`;
		expect(await store.counts([counter])).toEqual([0n]);
		const mint = encodeFunctionData({ abi: testUsdcAbi, functionName: "mint", args: [account.address, 1_000n] });
		await stage.send({ to: stage.token, data: mint }, stage.chain.account(0));
		for (let i = 0; i < 2; i++) expect((await get()).status).toBe(200);
		expect(await store.counts([counter])).toEqual([200n]);
		await expect(get()).rejects.toMatchObject({ code: "POLICY_REFUSED", rule: "limit" });
		expect(await stage.balance(account.address)).toBe(899n);
	});

	it("keeps a transaction for others from being signed, and the payer's own from leaving (I11)", async () => {
		for (const type of TYPES) {
			const agents = new Agents(type);
			const spy = spyOn(await stage.payer({ gas: true }));
			const { get } = agents.add(spy.account, { limits: { total: { ever: 99n } } });
			await expect(get()).rejects.toMatchObject({ code: "POLICY_REFUSED", rule: "limit" });
			if (type === "transaction") expect(spy.transactions).toEqual([]);
			expect(await stage.chain.client.getTransactionCount({ address: spy.account.address })).toBe(0);
			expect(await paidBy(spy.account)).toBe(0n);
		}
	});
});

describe("a transfer that an account sends by itself", () => {
	const forgetful = async (going: (nth: number) => Going) =>
		forgetfulAccount(stage, await stage.payer({ gas: true }), going);

	it("and does not tell of is found on chain by the next process: nothing is paid twice", async () => {
		const agents = new Agents("hash");
		const wallet = await forgetful((nth) => (nth === 1 ? "untold" : "told"));
		const first = agents.add(wallet.account);
		await expect(first.get()).rejects.toThrow("no answer");
		await kill(first.store);
		const next = agents.add(wallet.account);
		expect((await next.get()).status).toBe(200);
		expect(payloads()).toMatchObject([{ type: "hash", hash: wallet.sent[0] }]);
		expect((await next.get()).status).toBe(200);
		expect(wallet.sent).toHaveLength(2);
		expect(await paidBy(wallet.account)).toBe(200n);
	});

	it("or may have sent is not sent again for a while, by any process", async () => {
		let ahead = 0;
		const now = () => Date.now() + ahead;
		let expires = new Date(now() + 300_000).toISOString();
		const agents = new Agents("hash");
		const relay = new Relay(stage, { offers: (one) => by("hash")(one).map((offer) => ({ ...offer, expires })) });
		server.answer(relay.script);
		const wallet = await forgetful((nth) => (nth === 1 ? "failed" : "told"));
		const { get } = agents.add(wallet.account, {}, { now });
		await expect(get()).rejects.toThrow("out of order");
		const other = agents.add(wallet.account, {}, { now });
		for (const one of [get, other.get]) expect(await codeOf(one())).toBe("PAYMENT_UNTOLD");
		expect(wallet.asked).toHaveLength(1);
		ahead = 600_000;
		expires = new Date(now() + 300_000).toISOString();
		expect((await get()).status).toBe(200);
		expect(await paidBy(wallet.account)).toBe(100n);
	});

	it("and its owner refuses is asked for again by the next request", async () => {
		const agents = new Agents("hash");
		const wallet = await forgetful((nth) => (nth === 1 ? "rejected" : "told"));
		const { get } = agents.add(wallet.account);
		expect(await codeOf(get())).toBe("USER_REJECTED");
		expect((await get()).status).toBe(200);
		expect(await paidBy(wallet.account)).toBe(100n);
	});
});
