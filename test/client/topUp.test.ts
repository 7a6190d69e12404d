import { createPublicClient, http, type LocalAccount } from "viem";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { PaymentClientOptions, PaymentPolicy } from "../../src/client/index.ts";
import { approveCall, topUpWithAuthorizationCall } from "../../src/escrow/index.ts";
import { parseSessionPayload } from "../../src/protocol/index.ts";
import { topUpAuthorizationNonce } from "../../src/voucher/index.ts";
import { RpcProxy } from "../support/rpcProxy.ts";
import { Relay, type RelayOptions } from "./relay.ts";
import { createStage, type Stage } from "./stage.ts";
import {
	type Call,
	clientFor,
	codeOf,
	type Reply,
	receiptHeader,
	refusal,
	type Script,
	type ScriptedServer,
	type Spy,
	scriptedServer,
	spyOn,
} from "./support.ts";

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

/** A client whose channels hold 300, at a price of 100: every fourth request needs a top-up. */
function agentFor(
	account: LocalAccount,
	credentialTypes: readonly string[],
	policy: Partial<PaymentPolicy> = {},
	options: Partial<PaymentClientOptions> = {},
	relaying: RelayOptions = {},
) {
	const spy = spyOn(account);
	const relay = new Relay(stage, { details: { credentialTypes }, terms: { suggestedDeposit: "300" }, ...relaying });
	server.answer(relay.script);
	const agent = clientFor(stage, spy.account, [server.host], { maxDeposit: 300n, ...policy }, options);
	const get = (init?: RequestInit) => agent.fetch(`${server.url}/`, init);
	const serve = async (requests: number) => {
		for (let i = 0; i < requests; i++) expect(await (await get()).text()).toBe("served");
	};
	return { agent, spy, relay, get, serve };
}

const isTopUp = ({ credential }: Call) => {
	const { action, deposit } = credential?.payload ?? {};
	return action === "topUp" || deposit !== undefined;
};

/** Top-ups that could be executed: signatures of one nonce count once. */
const topUpsOf = ({ deposits }: Spy) => new Set(deposits().map(({ nonce }) => nonce)).size - 1;

const onChain = (agent: ReturnType<typeof agentFor>["agent"]) => stage.onChain(agent.channels[0]?.channelId ?? "0x");

describe("a channel is topped up before it runs dry", () => {
	it("by an authorization that goes with the voucher, as often as it takes: no gas, no further request (draft-evm-session-00, Voucher Payload)", async () => {
		const { agent, spy, relay, serve } = agentFor(await stage.payer(), ["authorization"]);
		await serve(10);
		expect(relay.executed).toEqual(["open authorization", ...Array(3).fill("topUp authorization")]);
		expect(server.calls).toHaveLength(1 + 10);
		expect(spy.transactions).toEqual([]);
		expect(agent.channels).toMatchObject([{ deposit: 1_200n, consumed: 1_000n, signed: 1_000n }]);
		expect(await onChain(agent)).toMatchObject({ deposit: 1_200n });
		await agent.close();
		expect(await stage.balance(relay.address)).toBe(1_000n);
	});

	it("by Permit2 that goes with the voucher", async () => {
		const { agent, spy, relay, serve } = agentFor(await stage.payer({ permit2: 10_000n }), ["permit2"]);
		await serve(7);
		expect(relay.executed).toEqual(["open permit2", "topUp permit2", "topUp permit2"]);
		expect([spy.transactions, spy.deposits()]).toEqual([[], []]);
		expect(await onChain(agent)).toMatchObject({ deposit: 900n });
	});

	it("by the payer's own transaction, of which the server is told before the voucher (draft-evm-session-00, TopUp Payload)", async () => {
		const { agent, spy, relay, serve } = agentFor(await stage.payer({ gas: true }), ["hash"]);
		await serve(7);
		expect(relay.executed).toEqual(["topUp hash", "topUp hash"]);
		expect(spy.transactions).toHaveLength(6);
		expect(server.payloads("topUp").map(({ type, additionalDeposit }) => [type, additionalDeposit])).toEqual([
			["hash", "300"],
			["hash", "300"],
		]);
		expect(await onChain(agent)).toMatchObject({ deposit: 900n });
	});

	it("by another type than it was opened with, if the server takes that now", async () => {
		let credentialTypes = ["authorization"];
		const offers = (relay: Relay) => [relay.session({}, { credentialTypes })];
		const { agent, relay, serve } = agentFor(await stage.payer({ permit2: 10_000n }), [], {}, {}, { offers });
		await serve(3);
		credentialTypes = ["permit2"];
		// A route whose price is not remembered.
		expect((await agent.fetch(`${server.url}/other`)).status).toBe(200);
		expect(relay.executed).toEqual(["open authorization", "topUp permit2"]);
	});

	it("earlier than it has to be where the client is told to, without a request having to wait for it", async () => {
		const account = await stage.payer();
		const early = { topUpBelow: 150n };
		const { agent, relay, serve } = agentFor(account, ["authorization"], { maxDeposit: 500n }, early);
		await serve(2);
		expect(relay.executed).toEqual(["open authorization", "topUp authorization"]);
		expect(agent.channels).toMatchObject([{ deposit: 600n, signed: 200n }]);
		expect(server.calls).toHaveLength(3);
	});

	it("but a server that refuses that serves the request all the same, and is asked again only when there is need", async () => {
		const early = { topUpBelow: 150n };
		const { agent, relay, get, serve } = agentFor(await stage.payer(), ["authorization"], { maxDeposit: 500n }, early);
		server.answer((call) => (isTopUp(call) ? refusal("verification-failed", {}, relay.session()) : relay.script(call)));
		await serve(3);
		expect(server.calls.filter(isTopUp)).toHaveLength(1);
		expect((await get()).status).toBe(402);
		server.answer(relay.script);
		await serve(1);
		expect(agent.channels).toMatchObject([{ consumed: 400n, topUp: undefined }]);
		expect(relay.executed).toEqual(["open authorization", "topUp authorization"]);
	});

	it.each([200, 404, 500])("but what another resource says to it (%i) is no answer to the request", async (status) => {
		const { agent, relay, get, serve } = agentFor(await stage.payer({ gas: true }), ["hash"]);
		await serve(3);
		server.answer((call) => (isTopUp(call) ? { status, body: "something else" } : relay.script(call)));
		expect(await codeOf(get())).toBe("TOP_UP_REFUSED");
		server.answer(relay.script);
		await serve(1);
		expect(agent.channels).toMatchObject([{ deposit: 600n, consumed: 400n }]);
		expect(relay.executed).toEqual(["topUp hash"]);
	});

	it("but not by less than it is told to keep, nor by what is not needed yet and can't be signed", async () => {
		const narrow = agentFor(await stage.payer(), ["authorization"], {}, { topUpBelow: 150n });
		await narrow.serve(2);
		expect(narrow.relay.executed).toEqual(["open authorization"]);
		const own = agentFor(await stage.payer({ gas: true }), ["hash"], { maxDeposit: 500n }, { topUpBelow: 150n });
		await own.serve(3);
		expect(own.spy.transactions).toHaveLength(2);
	});

	it("with as much as the request lacks, where the server suggests less", async () => {
		const relaying = { terms: { suggestedDeposit: "150" } };
		const { agent, spy, serve } = agentFor(await stage.payer(), ["authorization"], {}, {}, relaying);
		await serve(3);
		expect(spy.deposits().map(({ value }) => value)).toEqual([150n, 150n]);
		expect(agent.channels).toMatchObject([{ deposit: 300n }]);
	});

	it("by one request while 32 others wait for it, or go on where the deposit covers them", async () => {
		const account = await stage.payer();
		const { agent, spy, relay, get } = agentFor(account, ["authorization"], { maxDeposit: 5_000n });
		const answers = await Promise.all(Array.from({ length: 32 }, () => get()));
		expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
		expect(agent.channels).toMatchObject([{ consumed: 3_200n, signed: 3_200n }]);
		const deposited = spy.deposits().reduce((sum, { value }) => sum + (value as bigint), 0n);
		expect((await onChain(agent))?.deposit).toBe(deposited);
		expect(relay.executed).toHaveLength(spy.deposits().length);
	});

	it("under minVoucherDelta too: the step may go as far as the deposit with its top-up (D3, D4)", async () => {
		const relaying = { minVoucherDelta: 250n, details: { credentialTypes: ["authorization"], minVoucherDelta: "250" } };
		const { agent, serve } = agentFor(await stage.payer(), [], {}, {}, relaying);
		await serve(8);
		expect(agent.channels).toMatchObject([{ consumed: 800n }]);
		expect((await onChain(agent))?.deposit).toBeGreaterThanOrEqual(800n);
	});

	it("and a step that the server raises meanwhile is answered, not taken for a claim of more (D3)", async () => {
		const details: Record<string, unknown> = { credentialTypes: ["authorization"] };
		const relaying = { details } as { details: Record<string, unknown>; minVoucherDelta?: bigint };
		const { agent, serve } = agentFor(await stage.payer(), [], { maxDeposit: 5_000n }, {}, relaying);
		await serve(2);
		relaying.minVoucherDelta = 150n;
		details.minVoucherDelta = "150";
		await serve(2);
		expect(agent.channels).toMatchObject([{ consumed: 400n }]);
	});

	it("for what the server says is owed from lost answers, before it is signed (D3)", async () => {
		const { agent, relay, get, serve } = agentFor(
			await stage.payer(),
			["authorization"],
			{},
			{ retry: { retries: 0 } },
		);
		await serve(2);
		const cutting = async (call: Call): Promise<Reply> => {
			await relay.script(call);
			return "cut";
		};
		server.answer(cutting);
		await expect(get()).rejects.toThrow();
		server.answer(relay.script);
		await serve(1);
		expect(agent.channels).toMatchObject([{ consumed: 400n, deposit: 500n }]);
		expect(relay.executed).toEqual(["open authorization", "topUp authorization"]);
	});

	it("not by a HEAD, which costs nothing (D11)", async () => {
		const { relay, get, serve } = agentFor(await stage.payer(), ["authorization"]);
		await serve(3);
		expect((await get({ method: "HEAD" })).status).toBe(200);
		expect(relay.executed).toEqual(["open authorization"]);
	});
});

describe("the policy bounds what a channel may hold (I11)", () => {
	it("at any time maxDeposit of what was not consumed yet", async () => {
		const { agent, serve } = agentFor(await stage.payer(), ["authorization"], { maxDeposit: 250n });
		for (let request = 0; request < 9; request++) {
			await serve(1);
			const [channel] = agent.channels;
			expect((channel?.deposit ?? 0n) - (channel?.consumed ?? 0n)).toBeLessThanOrEqual(250n);
		}
	});

	it("and in all maxTotal: then the deposit is exhausted, nothing is signed, and a new channel can follow", async () => {
		const { agent, spy, get, serve } = agentFor(await stage.payer(), ["authorization"], { maxTotal: 450n });
		await serve(4);
		expect(await codeOf(get())).toBe("DEPOSIT_EXHAUSTED");
		expect(spy.deposits().map(({ value }) => value)).toEqual([300n, 150n]);
		await agent.close();
		await serve(1);
	});

	it("a payer that may send no transactions has an end where the server takes nothing else", async () => {
		const account = await stage.payer();
		let credentialTypes = ["authorization"];
		const offers = (relay: Relay) => [relay.session({}, { credentialTypes })];
		const parts = agentFor(account, [], { ownTransactions: false }, {}, { offers });
		await parts.serve(3);
		credentialTypes = ["hash"];
		await expect(parts.agent.fetch(`${server.url}/other`)).rejects.toMatchObject({ rule: "credential" });
		expect(parts.spy.transactions).toEqual([]);
	});
});

describe("a lost answer never means two top-ups (I4)", () => {
	/** Passes everything on, and loses the answers to top-ups as often as it is told. */
	const losing = (relay: Relay, times: number, isExecuted: boolean): Script => {
		let left = times;
		return async (call) => {
			if (!isTopUp(call) || left === 0) return relay.script(call);
			left--;
			if (isExecuted) await relay.script(call);
			return "cut";
		};
	};
	const withoutRetries = { retry: { retries: 0 } };

	it.each([
		["authorization", true],
		["authorization", false],
		["permit2", true],
		["permit2", false],
		["hash", true],
		["hash", false],
	])("%s, executed or not (%s): the next request finds out, and there is one", async (type, isExecuted) => {
		const account = await stage.payer({ gas: type === "hash", permit2: type === "permit2" ? 10_000n : 0n });
		const { agent, relay, get, serve } = agentFor(account, [type], {}, withoutRetries);
		await serve(3);
		server.answer(losing(relay, 2, isExecuted));
		const lost = isExecuted && type !== "hash" ? 1 : 2;
		for (let i = 0; i < lost; i++) await expect(get()).rejects.toThrow();
		expect(agent.channels[0]?.topUp).toMatchObject({ type });
		await serve(1);
		expect(await onChain(agent)).toMatchObject({ deposit: 600n });
		expect(agent.channels).toMatchObject([{ deposit: 600n, topUp: undefined }]);
		expect(relay.executed.filter((name) => name.startsWith("topUp"))).toHaveLength(1);
	});

	it("the same signature is sent again while it is good", async () => {
		const { relay, spy, get, serve } = agentFor(await stage.payer(), ["authorization"], {}, withoutRetries);
		await serve(3);
		server.answer(losing(relay, 2, false));
		for (let i = 0; i < 2; i++) await expect(get()).rejects.toThrow();
		await serve(1);
		expect(spy.deposits()).toHaveLength(2);
		const deposits = server.payloads("voucher").flatMap(({ deposit }) => (deposit === undefined ? [] : [deposit]));
		expect(deposits).toHaveLength(3);
		expect(new Set(deposits.map((deposit) => JSON.stringify(deposit))).size).toBe(1);
	});

	it("a later signature of it has the same nonce: both together can be executed once", async () => {
		let ahead = 0;
		const now = () => Date.now() + ahead;
		const account = await stage.payer();
		const { agent, relay, spy, get, serve } = agentFor(account, ["authorization"], {}, { ...withoutRetries, now });
		await serve(3);
		server.answer(losing(relay, 1, false));
		await expect(get()).rejects.toThrow();
		const [channel] = agent.channels;
		ahead = 280_000;
		await serve(1);
		expect(spy.deposits()).toHaveLength(3);
		expect(topUpsOf(spy)).toBe(1);
		expect(await stage.onChain(channel?.channelId ?? "0x")).toMatchObject({ deposit: 600n });
	});

	it("one that nobody can execute any more is forgotten, and another amount may follow", async () => {
		let ahead = 0;
		const now = () => Date.now() + ahead;
		const { relay, spy, agent, get, serve } = agentFor(
			await stage.payer(),
			["authorization"],
			{},
			{ ...withoutRetries, now },
			{ offers: (one) => [{ ...one.session(), expires: "2100-01-01T00:00:00Z" }] },
		);
		// A challenge is echoed, not checked, here.
		await serve(3);
		server.answer(losing(relay, 1, false));
		await expect(get()).rejects.toThrow();
		ahead = 361_000;
		await serve(1);
		expect(topUpsOf(spy)).toBe(2);
		expect(agent.channels[0]?.deposit).toBe(600n);
	});

	it("a server that executes it and says no gets it once: the payer's node knows better", async () => {
		const { agent, relay, spy, get, serve } = agentFor(await stage.payer(), ["authorization"]);
		await serve(3);
		server.answer(async (call) => {
			const payload = parseSessionPayload(call.credential?.payload);
			if (payload.action !== "voucher" || payload.deposit?.action !== "topUp") return relay.script(call);
			if (payload.deposit.type !== "authorization") throw new Error("another type");
			const { salt, authorization, signature } = payload.deposit;
			await stage.send(
				topUpWithAuthorizationCall(stage.escrow, payload.channelId, salt, { ...authorization, signature }),
			);
			return refusal("verification-failed", {}, relay.session());
		});
		expect((await get()).status).toBe(402);
		expect(agent.channels[0]).toMatchObject({ deposit: 300n });
		await serve(1);
		expect(agent.channels[0]).toMatchObject({ deposit: 600n });
		expect(topUpsOf(spy)).toBe(1);
		expect(server.payloads("voucher").filter(({ deposit }) => deposit !== undefined)).toHaveLength(1);
	});

	it("a server that says it has it, and has not, gets no second one to keep beside it", async () => {
		const { agent, spy, relay, get, serve } = agentFor(await stage.payer(), ["authorization"]);
		await serve(3);
		let spent = 300n;
		server.answer((call) => {
			spent += 100n;
			return { headers: receiptHeader(call, stage.chain.chainId, spent), body: "served" };
		});
		for (let i = 0; i < 3; i++) await get();
		expect(topUpsOf(spy)).toBe(1);
		expect(agent.channels[0]).toMatchObject({ deposit: 600n, consumed: 600n });
		expect(relay.executed).toEqual(["open authorization"]);
	});

	it("the payer's own transaction is sent once, also where its node fails while it is on its way", async () => {
		const rpc = await RpcProxy.start(stage.chain.url);
		const client = createPublicClient({
			transport: http(rpc.url, { retryCount: 0 }),
			pollingInterval: 20,
			cacheTime: 0,
		});
		const { agent, spy, get, serve } = agentFor(await stage.payer({ gas: true }), ["hash"], {}, { client });
		await serve(3);
		let sent = 0;
		rpc.fails = (method) => {
			if (method === "eth_sendRawTransaction") sent++;
			return method === "eth_getTransactionReceipt" && sent === 2;
		};
		await expect(get()).rejects.toThrow();
		rpc.up();
		await serve(1);
		expect(spy.transactions).toHaveLength(4);
		expect(await onChain(agent)).toMatchObject({ deposit: 600n });
		await rpc.stop();
	});

	it("it is counted once, also where the payer's node shows nothing of the deposit for a while", async () => {
		const rpc = await RpcProxy.start(stage.chain.url);
		const client = createPublicClient({
			transport: http(rpc.url, { retryCount: 0 }),
			pollingInterval: 20,
			cacheTime: 0,
		});
		const account = await stage.payer({ gas: true });
		const { agent, spy, serve } = agentFor(account, ["hash"], {}, { client });
		await serve(3);
		let sent = 0;
		rpc.fails = (method) => {
			if (method === "eth_sendRawTransaction") sent++;
			return method === "eth_call" && sent === 2;
		};
		await serve(3);
		rpc.up();
		expect(agent.channels).toMatchObject([{ deposit: 600n, consumed: 600n }]);
		expect(await onChain(agent)).toMatchObject({ deposit: 600n });
		await serve(1);
		expect(spy.transactions).toHaveLength(6);
		expect(agent.channels).toMatchObject([{ deposit: 900n }]);
		await rpc.stop();
	});

	it("one that reverts is not remembered: it can be tried again", async () => {
		const account = await stage.payer({ gas: true, funds: 300n });
		const { agent, get, serve } = agentFor(account, ["hash"]);
		await serve(3);
		expect(await codeOf(get())).toBe("TRANSACTION_REVERTED");
		expect(agent.channels[0]?.topUp).toBeUndefined();
	});
});

describe("what a top-up is signed for", () => {
	it("is this channel, this amount, this payer, the escrow, a fresh salt each time (draft-evm-session-00, Front-Running Protection)", async () => {
		const { agent, spy, serve } = agentFor(await stage.payer(), ["authorization"]);
		await serve(7);
		const merged = server.payloads("voucher").flatMap((payload) => {
			const parsed = parseSessionPayload(payload);
			return parsed.action === "voucher" && parsed.deposit?.type === "authorization" ? [parsed] : [];
		});
		expect(merged).toHaveLength(2);
		const salts = merged.map(({ channelId, deposit }) => {
			if (deposit?.action !== "topUp" || deposit.type !== "authorization") throw new Error("no top-up");
			const { salt, authorization } = deposit;
			expect(channelId).toBe(agent.channels[0]?.channelId);
			expect(authorization).toMatchObject({
				from: spy.account.address.toLowerCase(),
				to: stage.escrow,
				nonce: topUpAuthorizationNonce({
					channelId,
					additionalDeposit: authorization.value,
					from: authorization.from,
					topUpSalt: salt,
				}),
			});
			return salt;
		});
		expect(new Set(salts).size).toBe(2);
	});

	it("is not more than the vouchers may go up to: none is signed above what is there or comes with it", async () => {
		const { agent, spy, relay, get, serve } = agentFor(await stage.payer(), ["authorization"]);
		await serve(3);
		// Never executed, and never answered with anything but a claim.
		server.answer(() => refusal("session/insufficient-balance", { requiredCumulative: 601n }, relay.session()));
		expect(await codeOf(get())).toBe("OVERCHARGE");
		expect(Math.max(...spy.vouchers().map(Number))).toBe(400);
		expect(agent.channels[0]).toMatchObject({ deposit: 300n });
	});

	it("does not use up an allowance that is not its own", async () => {
		const account = await stage.payer({ gas: true });
		await stage.send(approveCall(stage.token, stage.escrow, 7n), account);
		const { serve } = agentFor(account, ["hash"]);
		await serve(4);
		expect(await stage.allowance(account.address, stage.escrow)).toBe(0n);
	});
});
