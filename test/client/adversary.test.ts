import fc from "fast-check";
import { type Address, bytesToHex, decodeFunctionData, type Hex, isAddressEqual, type LocalAccount } from "viem";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, test } from "vitest";
import type { PaymentClientOptions, PaymentPolicy } from "../../src/client/index.ts";
import {
	approveCall,
	erc3009Abi,
	openCall,
	openWithAuthorizationCall,
	paymentChannelEscrowAbi,
	topUpWithAuthorizationCall,
} from "../../src/escrow/index.ts";
import {
	type Challenge,
	formatChallenge,
	formatTimestamp,
	type ProblemName,
	parseChargePayload,
	parseSessionPayload,
} from "../../src/protocol/index.ts";
import {
	CANONICAL_PERMIT2,
	computeChannelId,
	createPermit2Domain,
	paymentPermitDigest,
	ZERO_ADDRESS,
} from "../../src/voucher/index.ts";
import { LIES, lieOf } from "./lies.ts";
import { createStage, type Stage } from "./stage.ts";
import {
	type Call,
	challengeOf,
	clientFor,
	codeOf,
	paymentRequired,
	QUICK,
	type Reply,
	receiptHeader,
	refusal,
	type Script,
	type ScriptedServer,
	type Signed,
	type Spy,
	STRANGER,
	scriptedServer,
	sessionTerms,
	spyOn,
	type Terms,
} from "./support.ts";

const PAYEE: Address = `0x${"bb".repeat(20)}`;

let world: Stage;
let payer: LocalAccount;
let server: ScriptedServer;
let chainId: number;
beforeAll(async () => {
	world = await createStage();
	payer = await world.payer();
	({ chainId } = world.chain);
});
afterAll(() => world.stop());
beforeEach(async () => {
	server = await scriptedServer();
});
afterEach(() => server.stop());

function agentFor(policy: Partial<PaymentPolicy> = {}, options: Partial<PaymentClientOptions> = {}, existing = payer) {
	const spy = spyOn(existing);
	const agent = clientFor(world, spy.account, [server.host], { payees: [PAYEE], ...policy }, options);
	return { agent, spy, get: (path = "/", init?: RequestInit) => agent.fetch(`${server.url}${path}`, init) };
}

const offer = (changes: Terms = {}, details: Terms = {}, payee = PAYEE) =>
	challengeOf(sessionTerms(world, payee, changes, details));
const chargeOffer = (changes: Terms = {}) =>
	challengeOf(
		{
			amount: "100",
			currency: world.token,
			recipient: PAYEE,
			methodDetails: { chainId, credentialTypes: ["authorization"] },
			...changes,
		},
		{ intent: "charge" },
	);

const amountOf = ({ credential }: Call) => BigInt(String(credential?.payload.cumulativeAmount ?? 0));

/** Asks for payment, and serves whoever pays with a receipt that says `spent`. */
const honest = (price = 100n, spentBefore = 0n): Script => {
	let spent = spentBefore;
	return (call) => {
		const fresh = offer({ amount: String(price) });
		if (call.credential === undefined) return paymentRequired(fresh);
		const requiredCumulative = spent + price;
		if (amountOf(call) < requiredCumulative)
			return refusal("session/insufficient-balance", { requiredCumulative }, fresh);
		spent += price;
		return { headers: receiptHeader(call, chainId, spent), body: "served" };
	};
};

/** Opens a channel by one honest request at 100, then lies. */
async function opened(lies: Script, policy: Partial<PaymentPolicy> = {}, options: Partial<PaymentClientOptions> = {}) {
	const parts = agentFor(policy, options);
	server.answer(honest());
	expect((await parts.get()).status).toBe(200);
	server.answer(lies);
	return parts;
}

const noncesOf = ({ deposits }: Spy) => [...new Set(deposits().map(({ nonce }) => nonce))];

describe("a 402 without end", () => {
	it.each([
		"payment-required",
		"payment-insufficient",
		"payment-expired",
		"verification-failed",
		"malformed-credential",
		"invalid-challenge",
		"session/invalid-signature",
		"session/signer-mismatch",
		"session/amount-exceeds-deposit",
		"session/delta-too-small",
		"session/challenge-not-found",
		"session/insufficient-balance",
		"session/channel-not-found",
		"session/channel-finalized",
		"session/channel-closing",
		"session/transaction-reverted",
	] as const satisfies readonly ProblemName[])("ends: %s", async (name) => {
		const lies: Script = ({ credential }) =>
			credential === undefined ? paymentRequired(offer()) : refusal(name, { requiredCumulative: 200n }, offer());
		const { spy, get } = await opened(lies);
		const answer = await get();
		expect(answer.status).toBeGreaterThanOrEqual(402);
		expect(answer.bodyUsed).toBe(false);
		// The channel that was open, and another one where the server says it does not know that.
		expect(spy.vouchers(String(server.payloads("open")[0]?.channelId)).at(-1)).toBeLessThanOrEqual(200n);
		expect(noncesOf(spy).length).toBeLessThanOrEqual(2);
		expect(server.calls.length).toBeLessThan(15);
	});

	it("ends for a request that never had a channel, with one deposit signed for", async () => {
		const { agent, spy, get } = agentFor();
		server.answer(() => refusal("session/challenge-not-found", {}, offer()));
		expect((await get()).status).toBe(402);
		expect(noncesOf(spy)).toHaveLength(1);
		expect(spy.vouchers().every((amount) => amount === 100n)).toBe(true);
		expect(agent.channels).toMatchObject([{ open: false }]);
	});

	it("of charges ends with one signature", async () => {
		const { spy, get } = agentFor();
		server.answer(() => refusal("verification-failed", {}, chargeOffer()));
		expect((await get()).status).toBe(402);
		expect(spy.charges()).toHaveLength(1);
	});

	it("without any challenge is handed on as it is", async () => {
		const { spy, get } = agentFor();
		server.answer(() => ({ status: 402, body: "pay me" }));
		const answer = await get();
		expect(await answer.text()).toBe("pay me");
		expect(spy.signed).toEqual([]);
	});

	it("with Retry-After and 503 ends, and the price is held for one claim only", async () => {
		const { spy, get } = await opened(() => ({ ...refusal("service-unavailable"), headers: { "retry-after": "0" } }));
		expect((await get()).status).toBe(503);
		expect(spy.vouchers()).toEqual([100n, 200n]);
		expect(server.calls.filter(({ credential }) => credential !== undefined)).toHaveLength(1 + QUICK.retries + 1);
	});
});

describe("terms that change to what the policy does not allow are refused, nothing is signed (I11, D13)", () => {
	const changes: [string, string, () => Challenge][] = [
		["payee", "payee", () => offer({}, {}, STRANGER)],
		["token", "token", () => offer({ currency: STRANGER })],
		["escrow", "escrow", () => offer({}, { escrowContract: STRANGER })],
		["chain", "chain", () => offer({}, { chainId: 1 })],
		["price", "price", () => offer({ amount: "1001" })],
		["price, absurdly", "price", () => offer({ amount: String(2n ** 128n - 1n) })],
	];

	it.each(changes)("%s, at the first 402", async (_name, rule, change) => {
		const { spy, get } = agentFor();
		server.answer(() => paymentRequired(change()));
		await expect(get()).rejects.toMatchObject({ code: "POLICY_REFUSED", rule });
		expect(spy.signed).toEqual([]);
	});

	it.each(changes)("%s, at a later one", async (_name, rule, change) => {
		const { spy, get } = await opened(() => refusal("session/challenge-not-found", {}, change()));
		await expect(get()).rejects.toMatchObject({ code: "POLICY_REFUSED", rule });
		// The one voucher that the remembered terms allowed.
		expect(spy.vouchers()).toEqual([100n, 200n]);
		expect(spy.deposits()).toHaveLength(1);
	});

	it("and an allowed offer beside them is taken instead", async () => {
		const { spy, get } = agentFor();
		const bad = changes.map(([, , change]) => change());
		server.answer((call) =>
			call.credential === undefined
				? paymentRequired(...bad, offer())
				: { headers: receiptHeader(call, chainId, 100n) },
		);
		expect((await get()).status).toBe(200);
		expect(spy.signed).toHaveLength(2);
	});

	it("a deposit that can't pay the price is not signed for", async () => {
		const { spy, get } = agentFor();
		server.answer(() => paymentRequired(offer({ suggestedDeposit: "99" })));
		await expect(get()).rejects.toMatchObject({ rule: "deposit" });
		expect(spy.signed).toEqual([]);
	});

	it("a suggested deposit above the limit is cut to the limit", async () => {
		const { spy, get } = agentFor();
		server.answer((call) =>
			call.credential === undefined
				? paymentRequired(offer({ suggestedDeposit: String(2n ** 127n) }))
				: { headers: receiptHeader(call, chainId, 100n) },
		);
		await get();
		expect(spy.deposits().map(({ value }) => value)).toEqual([10_000n]);
	});

	it("a challenge for ever does not make an authorization for ever", async () => {
		const { spy, get } = agentFor();
		const eternal = challengeOf(sessionTerms(world, PAYEE), { expires: "9999-12-31T23:59:59Z" });
		server.answer((call) =>
			call.credential === undefined ? paymentRequired(eternal) : { headers: receiptHeader(call, chainId, 100n) },
		);
		await get();
		expect(Number(spy.deposits()[0]?.validBefore)).toBeLessThanOrEqual(Date.now() / 1_000 + 300);
	});
});

describe("a server that claims more than is owed gets nothing more signed (I11)", () => {
	const claiming =
		(required: unknown, price = 100n): Script =>
		() =>
			refusal("session/insufficient-balance", { requiredCumulative: required }, offer({ amount: String(price) }));

	it.each([["201"], ["1000"], ["10000"], [String(2n ** 128n - 1n)]])("requiredCumulative %s", async (required) => {
		const { agent, spy, get } = await opened(claiming(required));
		expect(await codeOf(get())).toBe("OVERCHARGE");
		expect(spy.vouchers()).toEqual([100n, 200n]);
		expect(agent.channels[0]).toMatchObject({ consumed: 100n, signed: 200n });
	});

	it.each([["-5"], ["1e9"], ["0x100"], [""], [null], [{}], ["9".repeat(40)]])(
		"requiredCumulative %j is no amount",
		async (required) => {
			const { spy, get } = await opened(claiming(required));
			expect((await get()).status).toBe(402);
			expect(spy.vouchers()).toEqual([100n, 200n]);
		},
	);

	it("nor with a higher price beside it: the voucher covers the price and no more", async () => {
		const { spy, get } = await opened(claiming("900", 300n));
		expect(await codeOf(get())).toBe("OVERCHARGE");
		expect(spy.vouchers()).toEqual([100n, 200n, 400n]);
	});

	it("the channel goes on when the claims stop", async () => {
		const { spy, get } = await opened(claiming("201"));
		expect(await codeOf(get())).toBe("OVERCHARGE");
		server.answer(honest(100n, 100n));
		expect((await get()).status).toBe(200);
		expect(spy.vouchers()).toEqual([100n, 200n, 200n]);
	});

	it("32 requests at a time that are all refused raise what could be captured by their prices, once", async () => {
		const refusing: Script = ({ credential }) =>
			credential === undefined ? paymentRequired(offer()) : refusal("session/invalid-signature", {}, offer());
		const { agent, spy, get } = await opened(refusing);
		for (let i = 0; i < 3; i++) await Promise.all(Array.from({ length: 32 }, () => get()));
		expect(agent.channels[0]).toMatchObject({ signed: 3_300n, consumed: 100n });
		expect(Math.max(...spy.vouchers().map(Number))).toBe(3_300);
	});
});

describe("receipts that lie", () => {
	/** What the voucher after an answer with such a receipt says. */
	async function nextVoucher(headers: (call: Call) => Record<string, string>, status = 200) {
		const { agent, spy, get } = await opened((call) => ({ status, headers: headers(call) }));
		await get();
		server.answer((call) => ({ headers: receiptHeader(call, chainId, amountOf(call)) }));
		await get();
		return { next: spy.vouchers().at(-1), consumed: agent.channels[0]?.consumed };
	}
	const other: Hex = `0x${"c2".repeat(32)}`;

	it("spent too high does not raise the next voucher", async () => {
		expect(await nextVoucher((call) => receiptHeader(call, chainId, 9_999n))).toMatchObject({ next: 300n });
	});

	it("spent too low does not lower what was signed, and is taken at its word", async () => {
		expect(await nextVoucher((call) => receiptHeader(call, chainId, 0n))).toMatchObject({ next: 200n });
	});

	it("spent above what was signed is not paid at the close either", async () => {
		const { agent, spy, get } = await opened(() => ({ body: "no receipt" }));
		for (let i = 0; i < 3; i++) await get();
		server.answer((call) => ({ headers: receiptHeader(call, chainId, 9_999n) }));
		await get();
		expect(agent.channels[0]).toMatchObject({ consumed: 200n, signed: 200n });
		expect(await codeOf(agent.close())).toBe("CLOSE_REFUSED");
		expect(server.payloads("close").map(({ cumulativeAmount }) => cumulativeAmount)).toEqual(["200"]);
		expect(Math.max(...spy.vouchers().map(Number))).toBe(200);
	});

	it.each<[string, (call: Call) => Record<string, string>]>([
		["of another channel", (call) => receiptHeader(call, chainId, 200n, { channelId: other, reference: other })],
		["of another chain", (call) => receiptHeader(call, chainId + 1, 200n)],
		["that are garbage", () => ({ "payment-receipt": "garbage" })],
		["that are missing", () => ({})],
	])("%s prove nothing: the credit is not signed for twice", async (_name, headers) => {
		expect(await nextVoucher(headers)).toMatchObject({ next: 200n });
	});

	it("on a failure do not make it a delivery", async () => {
		expect(await nextVoucher((call) => receiptHeader(call, chainId, 200n), 500)).toMatchObject({ next: 200n });
	});
});

describe("a success without a receipt: delivered, but not proven to be charged", () => {
	/** Charges, never gives a receipt, and asks for a voucher when it has none that covers the price. */
	const silent = (spentBefore: bigint): Script => {
		let spent = spentBefore;
		return (call) => {
			const fresh = offer();
			if (call.credential === undefined) return paymentRequired(fresh);
			const requiredCumulative = spent + 100n;
			if (amountOf(call) < requiredCumulative)
				return refusal("session/insufficient-balance", { requiredCumulative }, fresh);
			spent += 100n;
			return { body: "served" };
		};
	};

	it("is signed for when the server claims it, once, and the channel never gets stuck", async () => {
		const { agent, spy, get } = await opened(silent(100n));
		for (let served = 2n; served <= 6n; served++) {
			expect((await get()).status).toBe(200);
			expect(agent.channels[0]?.signed).toBe(served * 100n);
		}
		expect(Math.max(...spy.vouchers().map(Number))).toBe(600);
		// In the end a claim of one unit more than all that was asked for.
		server.answer(() => refusal("session/insufficient-balance", { requiredCumulative: 701n }, offer()));
		expect(await codeOf(get())).toBe("OVERCHARGE");
		server.answer(honest(100n, 600n));
		expect((await get()).status).toBe(200);
		expect(agent.channels[0]).toMatchObject({ consumed: 700n, signed: 700n });
	});

	it("is not paid for where the server does not claim it, for example because the route is free now", async () => {
		const { agent, spy, get } = await opened(() => ({ body: "free" }));
		for (let i = 0; i < 5; i++) await get();
		expect(spy.vouchers()).toEqual([100n, 200n, 200n, 200n, 200n, 200n]);
		expect(agent.channels[0]).toMatchObject({ consumed: 100n, signed: 200n });
	});

	it("also as the answer to the opening leaves one channel, not two", async () => {
		const { spy, get } = agentFor();
		server.answer(silent(0n));
		await get();
		await get();
		expect(noncesOf(spy)).toHaveLength(1);
		expect(new Set(server.payloads().map(({ channelId }) => channelId)).size).toBe(1);
	});

	it("from a gateway that lost the real answer (504) can be claimed too", async () => {
		const { get } = await opened(() => ({ status: 504 }));
		expect((await get()).status).toBe(504);
		server.answer(silent(200n));
		expect((await get()).status).toBe(200);
	});

	it("is not proof of a second price where the answer before was lost and the retry is refused", async () => {
		const { agent, get } = await opened(({ index }) =>
			index === 2 ? "cut" : refusal("session/invalid-signature", {}, offer()),
		);
		expect((await get()).status).toBe(402);
		server.answer(silent(200n));
		expect((await get()).status).toBe(200);
		expect(agent.channels[0]).toMatchObject({ signed: 300n });
	});
});

describe("a request is charged once, however often it is tried (I6, I11)", () => {
	const isPaid = ({ credential }: Call) => credential !== undefined;
	/** Breaks the connection of the first paid try, and refuses the others for their challenge. */
	const cutThenRefusing = (...offers: readonly (() => Challenge)[]): Script => {
		let tries = 0;
		return (call) => {
			const fresh = offers.map((one) => one());
			if (!isPaid(call)) return paymentRequired(...fresh);
			tries++;
			return tries === 1 ? "cut" : refusal("session/challenge-not-found", {}, ...fresh);
		};
	};
	const claiming =
		(requiredCumulative: bigint): Script =>
		() =>
			refusal("session/insufficient-balance", { requiredCumulative }, offer());

	it("its lost answer is owed for once, though it was refused four times after", async () => {
		const { agent, spy, get } = await opened(cutThenRefusing(offer));
		expect((await get()).status).toBe(402);
		expect(server.payloads("voucher").length).toBeGreaterThanOrEqual(4);
		server.answer(claiming(301n));
		expect(await codeOf(get())).toBe("OVERCHARGE");
		expect(spy.vouchers().at(-1)).toBe(200n);
		server.answer(honest(100n, 200n));
		expect((await get()).status).toBe(200);
		expect(agent.channels[0]).toMatchObject({ consumed: 300n, signed: 300n });
	});

	it("nor is it owed for any more when a later try of it was served", async () => {
		let tries = 0;
		const { agent, get } = await opened((call) => {
			tries++;
			if (tries === 1) return "cut";
			if (tries === 2) return refusal("session/challenge-not-found", {}, offer());
			return { headers: receiptHeader(call, chainId, 200n) };
		});
		expect((await get()).status).toBe(200);
		expect(agent.channels[0]).toMatchObject({ consumed: 200n });
		server.answer(claiming(301n));
		expect(await codeOf(get())).toBe("OVERCHARGE");
	});

	it("nor by a charge when its answer was lost on a channel", async () => {
		const { spy, get } = await opened(cutThenRefusing(chargeOffer));
		await expect(get()).rejects.toMatchObject({ code: "POLICY_REFUSED", rule: "credential" });
		expect(spy.charges()).toEqual([]);
	});

	it("and ten lost answers under one voucher are owed for once: more can't have been charged", async () => {
		const { agent, spy, get } = await opened(() => "cut", {}, { retry: { retries: 0 } });
		for (let i = 0; i < 10; i++) await expect(get()).rejects.toThrow();
		expect(new Set(spy.vouchers())).toEqual(new Set([100n, 200n]));
		server.answer(claiming(301n));
		expect(await codeOf(get())).toBe("OVERCHARGE");
		server.answer(honest(100n, 200n));
		expect((await get()).status).toBe(200);
		expect(agent.channels[0]).toMatchObject({ consumed: 300n, signed: 300n });
		expect(await codeOf(agent.close())).toBe("CLOSE_REFUSED");
		expect(new Set(server.payloads("close").map(({ cumulativeAmount }) => cumulativeAmount))).toEqual(new Set(["300"]));
	});
});

describe("a deposit that a server takes while it says no", () => {
	/** Uses the authorization of an open, past the client. */
	async function take({ credential }: Call): Promise<void> {
		const payload = parseSessionPayload(credential?.payload);
		if (payload.action !== "open" || payload.type !== "authorization") throw new Error("not an open");
		const { authorization, salt, authorizedSigner, signature } = payload;
		const channel = { payee: PAYEE, token: world.token, salt, authorizedSigner };
		const call = openWithAuthorizationCall(world.escrow, channel, { ...authorization, signature });
		await world.send(call);
	}

	it("is taken once, found on chain, and used: the payer's node knows better than the server (I4, I11)", async () => {
		const liar = await world.payer();
		const { agent, spy, get } = agentFor({}, {}, liar);
		server.answer(async (call) => {
			if (call.credential === undefined) return paymentRequired(offer());
			await take(call);
			return refusal("verification-failed", {}, offer());
		});
		expect((await get()).status).toBe(402);
		server.answer(honest());
		expect((await get()).status).toBe(200);
		expect((await get()).status).toBe(200);
		expect(spy.deposits()).toHaveLength(1);
		expect(agent.channels).toMatchObject([{ open: true, signed: 200n, consumed: 200n }]);
		expect(server.payloads().map(({ action }) => action)).toEqual(["open", "voucher", "voucher"]);
		expect(await world.balance(world.escrow)).toBeGreaterThanOrEqual(10_000n);
	});

	it("could be taken only once however often it was refused: the nonce stays the same (I4)", async () => {
		const { spy, get } = agentFor();
		server.answer(({ credential }) =>
			credential === undefined ? paymentRequired(offer()) : refusal("verification-failed", {}, offer()),
		);
		for (let i = 0; i < 5; i++) expect((await get()).status).toBe(402);
		expect(spy.deposits()).toHaveLength(5);
		expect(noncesOf(spy)).toHaveLength(1);
		expect(new Set(spy.vouchers())).toEqual(new Set([100n]));
	});

	it("is given up when nobody can take it any more, and another one is signed for", async () => {
		let ahead = 0;
		const { spy, get } = agentFor({}, { now: () => Date.now() + ahead });
		const expires = () => formatTimestamp(Date.now() + ahead + 60_000);
		server.answer(({ credential }) => {
			const fresh = challengeOf(sessionTerms(world, PAYEE), { expires: expires() });
			return credential === undefined ? paymentRequired(fresh) : refusal("verification-failed", {}, fresh);
		});
		await get();
		ahead = 361_000;
		await get();
		expect(noncesOf(spy)).toHaveLength(2);
	});
});

describe("410: a channel that the server says it does not know", () => {
	/** Opens whatever it is asked to, and knows nothing of it afterwards. */
	const forgetful: Script = (call) => {
		const { credential } = call;
		if (credential === undefined) return paymentRequired(offer());
		if (credential.payload.action === "open") return { headers: receiptHeader(call, chainId, 100n) };
		return refusal("session/channel-not-found");
	};

	it("is forgotten, another one is opened once, and the request is served (D10)", async () => {
		const { agent, spy, get } = await opened(forgetful);
		expect((await get()).status).toBe(200);
		expect(noncesOf(spy)).toHaveLength(2);
		expect(agent.channels).toHaveLength(1);
		expect(agent.forgotten).toHaveLength(1);
		expect(agent.forgotten[0]).toMatchObject({ signed: 200n });
	});

	it("32 requests that learn it at the same time open one other channel (D10)", async () => {
		const { agent, spy, get } = await opened(forgetful);
		const known = agent.channels[0]?.channelId;
		server.answer((call) =>
			call.credential === undefined || call.credential.payload.channelId === known
				? forgetful(call)
				: { headers: receiptHeader(call, chainId, amountOf(call)) },
		);
		const answers = await Promise.all(Array.from({ length: 32 }, () => get()));
		expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
		expect(noncesOf(spy)).toHaveLength(2);
	});

	it("does not loop: what is forgotten twice in one request is handed on (D10)", async () => {
		const { spy, get } = await opened(({ credential }) =>
			credential === undefined ? paymentRequired(offer()) : refusal("session/channel-not-found"),
		);
		expect((await get()).status).toBe(410);
		expect(noncesOf(spy)).toHaveLength(2);
	});

	it("again and again locks up no more than the policy's channels (I11)", async () => {
		const { agent, spy, get } = await opened(forgetful, { maxChannels: 3 });
		await get();
		await get();
		await expect(get()).rejects.toMatchObject({ code: "POLICY_REFUSED", rule: "channels" });
		await expect(get()).rejects.toMatchObject({ rule: "channels" });
		expect(noncesOf(spy)).toHaveLength(3);
		expect(agent.forgotten.length + agent.channels.length).toBe(3);
	});

	it("makes room when its deposit can't be taken any more", async () => {
		let ahead = 0;
		const now = () => Date.now() + ahead;
		const { spy, get } = await opened(
			(call) => (call.credential === undefined ? paymentRequired(eternal) : forgetful(call)),
			{ maxChannels: 2 },
			{ now },
		);
		const { expires: _, ...eternal } = offer();
		await get();
		await expect(get()).rejects.toMatchObject({ rule: "channels" });
		ahead = 361_000;
		expect((await get()).status).toBe(200);
		expect(noncesOf(spy)).toHaveLength(3);
	});
});

describe("a host that may be paid, whoever it names as payee", () => {
	it("can't make the client open channels without end (I11)", async () => {
		const { agent, spy, get } = agentFor({ payees: undefined as never, maxChannels: 4 });
		const payees = Array.from({ length: 10 }, (_, i): Address => `0x${String(i + 10).repeat(20)}`);
		server.answer((call) =>
			call.credential === undefined
				? paymentRequired(offer({}, {}, payees[call.index % 10]))
				: { headers: receiptHeader(call, chainId, 100n) },
		);
		const outcomes = await Promise.allSettled(Array.from({ length: 12 }, (_, i) => get(`/${i}`)));
		expect(outcomes.filter(({ status }) => status === "rejected").length).toBeGreaterThan(0);
		expect(noncesOf(spy).length).toBeLessThanOrEqual(4);
		expect(agent.channels.length).toBeLessThanOrEqual(4);
	});
});

describe("a credential stays with its origin", () => {
	let elsewhere: ScriptedServer;
	beforeEach(async () => {
		elsewhere = await scriptedServer((call) =>
			call.credential === undefined ? paymentRequired(offer()) : { headers: receiptHeader(call, chainId, 100n) },
		);
	});
	afterEach(() => elsewhere.stop());

	it.each([301, 302, 303, 307, 308])("a paid answer that redirects (%i) is handed on, not followed", async (status) => {
		const { agent, get } = await opened((call) =>
			call.credential === undefined
				? paymentRequired(offer())
				: { status, headers: { location: `${elsewhere.url}/steal`, ...receiptHeader(call, chainId, 200n) } },
		);
		const answer = await get("/", { method: "POST", body: "secret" });
		expect(answer.status).toBe(status);
		expect(elsewhere.calls).toEqual([]);
		expect(agent.channels[0]).toMatchObject({ consumed: 200n });
	});

	it("nor is a redirect within the origin followed with it: it was for this resource", async () => {
		const { get } = await opened((call) =>
			call.path === "/" ? { status: 302, headers: { location: "/other" } } : { body: "other" },
		);
		expect((await get()).status).toBe(302);
		expect(server.calls.filter(({ path }) => path === "/other")).toEqual([]);
	});

	it("a caller who allows no redirect gets an error, as from fetch", async () => {
		const { get } = await opened(
			() => ({ status: 302, headers: { location: "/other" } }),
			{},
			{ retry: { retries: 0 } },
		);
		await expect(get("/", { redirect: "error" })).rejects.toThrow(TypeError);
	});

	it("a 402 of another origin behind a redirect is not paid: the policy speaks of hosts", async () => {
		const { spy, get } = agentFor({ hosts: [server.host, elsewhere.host] });
		server.answer(() => ({ status: 302, headers: { location: `${elsewhere.url}/pay` } }));
		expect((await get()).status).toBe(402);
		expect(spy.signed).toEqual([]);
		expect(elsewhere.calls.map(({ credential }) => credential)).toEqual([undefined]);
	});

	it("a 402 of the same origin behind a redirect is paid where it came from", async () => {
		const { get } = agentFor();
		const paid = honest();
		server.answer((call) => (call.path === "/" ? { status: 302, headers: { location: "/moved?a=1" } } : paid(call)));
		expect(await (await get()).text()).toBe("served");
		expect(server.calls.filter(({ credential }) => credential !== undefined).map(({ path }) => path)).toEqual([
			"/moved?a=1",
		]);
	});

	it("a 402 behind the redirect of a POST is handed on: nobody knows what became of the body", async () => {
		const { spy, get } = agentFor();
		server.answer((call) => (call.path === "/" ? { status: 307, headers: { location: "/moved" } } : honest()(call)));
		expect((await get("/", { method: "POST", body: "x" })).status).toBe(402);
		expect(spy.signed).toEqual([]);
	});

	it("two origins that name the same payee have a channel each: neither sees the other's vouchers", async () => {
		const { agent, get } = await opened(honest(), { hosts: [server.host, elsewhere.host] });
		await agent.fetch(`${elsewhere.url}/`);
		await get();
		expect(agent.channels).toHaveLength(2);
		const [here, there] = [server, elsewhere].map(
			({ payloads }) => new Set(payloads().map(({ channelId }) => String(channelId))),
		);
		expect([...(here ?? [])].filter((id) => there?.has(id))).toEqual([]);
	});

	it("is never sent over plain http to another machine (core, Transport Security)", async () => {
		const spy = spyOn(payer);
		const fetch = async () =>
			new Response(null, { status: 402, headers: { "www-authenticate": formatChallenge(offer()) } });
		const agent = clientFor(world, spy.account, ["api.example.com"], {}, { fetch });
		await expect(agent.fetch("http://api.example.com/")).rejects.toMatchObject({ rule: "transport" });
		expect(spy.signed).toEqual([]);
	});
});

describe("what is sent again", () => {
	it("is the same request: method, headers, query, body of any kind", async () => {
		const { get } = agentFor();
		server.answer((call) => {
			if (call.credential === undefined) return paymentRequired(offer());
			return call.index < 3 ? "cut" : { headers: receiptHeader(call, chainId, 100n) };
		});
		const form = new FormData();
		form.append("text", "ünïcode");
		form.append("file", new Blob([new Uint8Array([0, 255, 10, 13])]), "a.bin");
		await get("/path?q=1&q=2", { method: "PUT", body: form, headers: { "x-mine": "kept" } });
		expect(server.calls.length).toBe(4);
		const distinct = (pick: (call: Call) => unknown) => new Set(server.calls.map(pick)).size;
		expect(distinct(({ body }) => body)).toBe(1);
		expect(server.calls[0]?.body).toContain("ünïcode");
		expect(distinct(({ method, path }) => `${method} ${path}`)).toBe(1);
		for (const name of ["content-type", "x-mine", "idempotency-key", "content-length"]) {
			expect(server.calls[0]?.headers[name]).toBeDefined();
			expect(distinct(({ headers }) => headers[name])).toBe(1);
		}
	});

	it("is a streamed body too, read once", async () => {
		const { get } = agentFor();
		server.answer(honest());
		const stream = new Blob(["one, ", "two"]).stream();
		await get("/", { method: "POST", body: stream, duplex: "half" } as RequestInit);
		expect(server.calls.map(({ body }) => body)).toEqual(["one, two", "one, two"]);
	});

	it("is not a POST that nobody is known to heed the Idempotency-Key of", async () => {
		const { get } = agentFor();
		server.answer(() => "cut");
		await expect(get("/", { method: "POST", body: "order" })).rejects.toThrow(TypeError);
		expect(server.calls).toHaveLength(1);
		await expect(get()).rejects.toThrow(TypeError);
		expect(server.calls).toHaveLength(1 + 1 + QUICK.retries);
	});
});

describe("a close that lies", () => {
	it.each<[string, Script]>([
		["a receipt, but nothing on chain", (call) => ({ headers: receiptHeader(call, chainId, 100n) })],
		["410, but nothing on chain", () => refusal("session/channel-finalized")],
		["that it does not know the channel", () => refusal("session/channel-not-found")],
		["402 for ever", () => refusal("session/insufficient-balance", { requiredCumulative: 9_999n }, offer())],
		["402 with other terms", () => refusal("session/challenge-not-found", {}, offer({}, {}, STRANGER))],
		["nothing of sense", () => ({ status: 200, body: "closed!" })],
		["a redirect", () => ({ status: 302, headers: { location: "/elsewhere" } })],
	])("%s: the channel is kept, so that the escrow can be asked for the money (I11)", async (_name, lies) => {
		const { agent, spy } = await opened(lies);
		expect(await codeOf(agent.close())).toBe("CLOSE_REFUSED");
		expect(agent.channels).toMatchObject([{ consumed: 100n, signed: 100n }]);
		expect(Math.max(...spy.vouchers().map(Number))).toBe(100);
	});

	it("a price above the limit does not keep the client from closing", async () => {
		let ahead = 0;
		const { agent } = await opened(
			({ credential }) => paymentRequired(...(credential === undefined ? [offer({ amount: "99999" })] : [])),
			{},
			{ now: () => Date.now() + ahead },
		);
		ahead = 301_000;
		server.answer(({ credential }) =>
			credential === undefined
				? paymentRequired(
						challengeOf(sessionTerms(world, PAYEE, { amount: "99999" }), {
							expires: formatTimestamp(Date.now() + ahead + 60_000),
						}),
					)
				: { status: 500 },
		);
		expect(await codeOf(agent.close())).toBe("CLOSE_REFUSED");
		expect(server.payloads("close")).toHaveLength(1);
	});
});

describe("whatever a server says (I11)", () => {
	const OTHER_PAYEE: Address = `0x${"ba".repeat(20)}`;
	const SPLIT: Address = `0x${"5b".repeat(20)}`;
	const limits = { maxPrice: 1_000n, maxDeposit: 2_000n, maxChannels: 2 };
	/** A channel of the payer's that the clients below have no record of. */
	let known: Hex = "0x";
	const amounts = fc.constantFrom<unknown>(
		"0",
		"1",
		"100",
		"1000",
		"1001",
		String(2n ** 128n),
		"-1",
		"1e3",
		"007",
		5,
		null,
		"9".repeat(5_000),
	);
	const chains = () => fc.constantFrom<unknown>(chainId, chainId, chainId, 1, 0, -1, 2 ** 60, String(chainId), null);
	const one = (...usual: Address[]) => fc.constantFrom<unknown>(...usual, ...usual, ...usual, STRANGER, "0x", 7, null);
	const types = fc.constantFrom<unknown>(
		["authorization"],
		["authorization", "hash"],
		["hash"],
		["permit2"],
		["permit2", "authorization", "transaction", "hash"],
		["transaction"],
		["transaction", "hash"],
		[],
		undefined,
		"authorization",
		[1],
	);
	const splits = fc.constantFrom<unknown>(
		[{ recipient: SPLIT, amount: "1" }],
		[
			{ recipient: SPLIT, amount: "10" },
			{ recipient: SPLIT, amount: "20", memo: "again" },
		],
		[{ recipient: SPLIT, amount: "100000" }],
		[{ recipient: STRANGER, amount: "1" }],
		[{ recipient: SPLIT, amount: "-1" }],
		[],
		Array(11).fill({ recipient: SPLIT, amount: "1" }),
	);

	const details = () =>
		fc.record(
			{
				chainId: chains(),
				escrowContract: one(world.escrow),
				credentialTypes: types,
				channelId: fc.constantFrom<unknown>(`0x${"c1".repeat(32)}`, known, known, "x"),
				minVoucherDelta: amounts,
				feePayer: fc.constantFrom<unknown>(true, false, "yes"),
				splits,
				permit2Contract: one(CANONICAL_PERMIT2),
				permit2Address: one(CANONICAL_PERMIT2),
			},
			{ requiredKeys: ["chainId", "escrowContract", "credentialTypes"] },
		);
	const terms = () =>
		fc.record(
			{
				amount: amounts,
				currency: one(world.token),
				recipient: one(PAYEE, OTHER_PAYEE),
				methodDetails: details(),
				suggestedDeposit: amounts,
				unitType: fc.string(),
				description: fc.constantFrom("free of charge", "x".repeat(3_000)),
			},
			{ requiredKeys: ["amount", "currency", "recipient", "methodDetails"] },
		);
	/** What an honest server says. */
	const sane = () =>
		fc
			.record({
				credentialTypes: fc.constantFrom(
					["authorization"],
					["authorization"],
					["permit2"],
					["permit2"],
					["hash"],
					["transaction"],
				),
				amount: fc.constantFrom("100", "1000"),
				splits: fc.constantFrom(undefined, undefined, [{ recipient: SPLIT, amount: "7" }]),
				channelId: fc.constantFrom(undefined, undefined, undefined, known),
			})
			.map(({ amount, ...details }) => sessionTerms(world, PAYEE, { amount }, details));
	const requests = () => fc.oneof({ weight: 3, arbitrary: sane() }, { weight: 3, arbitrary: terms() });
	const challenges = () =>
		fc
			.record({
				request: requests(),
				realm: fc.constantFrom("test.example", "", "évil", "x".repeat(500)),
				intent: fc.constantFrom("session", "session", "charge", "authorize"),
				method: fc.constantFrom("evm", "evm", "evm", "tempo"),
				expires: fc.constantFrom(formatTimestamp(Date.now() + 120_000), "9999-12-31T23:59:59Z", "2001-01-01T00:00:00Z"),
			})
			.map(({ request, ...params }) => {
				// A value of undefined is a member left out.
				const json = JSON.parse(JSON.stringify(request)) as Terms;
				return formatChallenge(challengeOf(json, params));
			});
	const broken = fc.constantFrom(
		"Payment",
		'Payment id="", realm="r", method="evm", intent="session", request="e30"',
		'Payment id="a", id="b", realm="r", method="evm", intent="session", request="e30"',
		'Payment id="a", realm="r", method="evm", intent="session", request="bm8"',
		'Basic realm="x"',
	);
	const headers = () =>
		fc.array(fc.oneof({ weight: 5, arbitrary: challenges() }, { weight: 1, arbitrary: broken }), { maxLength: 4 });

	type Lie = Readonly<{ kind: string; offers: readonly string[]; amount: bigint }>;
	const lies = (): fc.Arbitrary<Lie> =>
		fc.record({
			kind: fc.constantFrom("receipt", "receipt", "receipt", "take", ...LIES),
			offers: headers(),
			amount: fc.oneof(fc.bigInt({ min: 0n, max: 3_000n }), fc.constant(2n ** 128n - 1n)),
		});

	/** Executes what it was sent, whatever it says then. */
	async function take({ credential }: Call): Promise<void> {
		if (credential?.payload.channelId === undefined) return;
		const payload = parseSessionPayload(credential.payload);
		const { channelId } = payload;
		const deposit = payload.action === "voucher" ? payload.deposit : undefined;
		if (payload.action === "open" && payload.type === "authorization") {
			const { authorization, salt, authorizedSigner, signature } = payload;
			const channel = { payee: PAYEE, token: world.token, salt, authorizedSigner };
			await world
				.send(openWithAuthorizationCall(world.escrow, channel, { ...authorization, signature }))
				.catch(() => undefined);
		}
		if (deposit?.action === "topUp" && deposit.type === "authorization") {
			const { authorization, salt, signature } = deposit;
			await world
				.send(topUpWithAuthorizationCall(world.escrow, channelId, salt, { ...authorization, signature }))
				.catch(() => undefined);
		}
	}

	async function reply(call: Call, { kind, offers, amount }: Lie): Promise<Reply> {
		const asking = (answer: Exclude<Reply, "cut">) => ({
			...answer,
			headers: { ...answer.headers, ...(offers.length > 0 && { "www-authenticate": offers }) },
		});
		if (call.credential === undefined) return asking(refusal("payment-required"));
		const isSession = call.credential.payload.channelId !== undefined;
		switch (kind) {
			case "receipt":
				return isSession ? { headers: receiptHeader(call, chainId, amount) } : {};
			case "take":
				await take(call);
				return amount % 2n === 0n ? { status: 500 } : asking(refusal("verification-failed"));
			default:
				return lieOf(kind, { call, chainId, amount }, asking);
		}
	}

	/** All that the policy says, on all that was signed. `asked`: how many requests the caller made. */
	function expectWithinPolicy({ spy, agent }: Pick<ReturnType<typeof agentFor>, "spy" | "agent">, asked: number): void {
		const isAllowed = (address: unknown, ...allowed: Address[]) =>
			allowed.some((one) => isAddressEqual(address as Address, one));
		const inTime = BigInt(Math.ceil(Date.now() / 1_000) + 300);
		const owed = limits.maxPrice * BigInt(asked);
		const byChannel = new Map<unknown, bigint[]>();
		const mine = new Set<unknown>([
			known,
			...[...agent.channels, ...agent.forgotten].map(({ channelId }) => channelId),
		]);
		/** What could ever be moved into the escrow: signatures of one nonce once. */
		const deposits = new Map<unknown, bigint>();
		for (const { primaryType, domain, message } of spy.signed as readonly (Signed & {
			domain: Record<string, unknown>;
		})[]) {
			expect(Number(domain.chainId)).toBe(chainId);
			switch (primaryType) {
				case "Voucher": {
					expect(isAllowed(domain.verifyingContract, world.escrow)).toBe(true);
					const amount = message.cumulativeAmount as bigint;
					byChannel.set(message.channelId, [...(byChannel.get(message.channelId) ?? []), amount]);
					break;
				}
				case "ReceiveWithAuthorization":
					expect(isAllowed(domain.verifyingContract, world.token)).toBe(true);
					expect(isAllowed(message.to, world.escrow)).toBe(true);
					expect(message.value).toBeLessThanOrEqual(limits.maxDeposit);
					expect(message.validBefore).toBeLessThanOrEqual(inTime);
					deposits.set(message.nonce, message.value as bigint);
					break;
				case "PermitWitnessTransferFrom": {
					const { permitted, spender, nonce, deadline, witness } = message as {
						permitted: { token: Address; amount: bigint };
						spender: Address;
						nonce: bigint;
						deadline: bigint;
						witness: Record<string, unknown>;
					};
					expect([domain.name, isAllowed(domain.verifyingContract, CANONICAL_PERMIT2)]).toEqual(["Permit2", true]);
					expect([isAllowed(permitted.token, world.token), isAllowed(spender, world.escrow)]).toEqual([true, true]);
					expect(permitted.amount).toBeLessThanOrEqual(limits.maxDeposit);
					expect(deadline).toBeLessThanOrEqual(inTime);
					if ("channelId" in witness) expect(mine).toContain(witness.channelId);
					else expect(isAllowed(witness.payee, PAYEE, OTHER_PAYEE)).toBe(true);
					deposits.set(nonce, permitted.amount);
					break;
				}
				case "TransferWithAuthorization":
					expect(isAllowed(domain.verifyingContract, world.token)).toBe(true);
					expect(isAllowed(message.to, PAYEE, OTHER_PAYEE)).toBe(true);
					expect(message.value).toBeLessThanOrEqual(limits.maxPrice);
					break;
				default:
					throw new Error(`a ${primaryType} was signed`);
			}
		}
		const merged = new Set(
			server.payloads("voucher").flatMap(({ deposit, cumulativeAmount }) => (deposit ? [cumulativeAmount] : [])),
		);
		for (const [channelId, vouchers] of byChannel) {
			expect(mine).toContain(channelId);
			vouchers.forEach((amount) => {
				expect(amount).toBeLessThanOrEqual(owed);
			});
			// One that went with a top-up that never came is above the deposit, which those after it are not.
			const plain = vouchers.filter((amount) => !merged.has(String(amount)));
			plain.forEach((amount, index) => {
				expect(amount).toBeGreaterThanOrEqual(plain[index - 1] ?? 0n);
			});
		}
		for (const channel of [...agent.channels, ...agent.forgotten]) {
			expect(channel.signed).toBeLessThanOrEqual(channel.deposit + limits.maxDeposit);
			if (channel.channelId === known) continue;
			// The deposit has a transaction that is mined, told of or not.
			const { topUp } = channel;
			const pending = topUp === undefined || (topUp.type === "hash" && topUp.mined) ? 0n : topUp.amount;
			const held = channel.deposit + pending - channel.accounted;
			expect(held).toBeLessThanOrEqual(limits.maxDeposit);
		}
		expect(mine.size - 1).toBeLessThanOrEqual(limits.maxChannels);
		expect(new Set(server.payloads("open").map(({ channelId }) => channelId)).size).toBeLessThanOrEqual(
			limits.maxChannels,
		);
		const transfers = expectTransactionsWithinPolicy(spy, mine, deposits);
		const inAll = [...deposits.values()].reduce((sum, value) => sum + value, 0n);
		expect(inAll).toBeLessThanOrEqual(limits.maxDeposit * BigInt(limits.maxChannels + 1) + owed);
		expectChargesByPermitWithinPolicy(spy, inTime);
		expect(spy.charges().length + spy.hashes.length + transfers).toBeLessThanOrEqual(asked);
		expect(spy.others).toEqual([]);
	}

	/** How many of the payer's transactions are transfers. Its own deposits are added to those that it signed. */
	function expectTransactionsWithinPolicy(spy: Spy, mine: Set<unknown>, deposits: Map<unknown, bigint>): number {
		const isAllowed = (address: unknown, ...allowed: Address[]) =>
			allowed.some((one) => isAddressEqual(address as Address, one));
		const transfers = new Set<unknown>();
		for (const transaction of spy.transactions) {
			const { to, data, chainId: chain, value = 0n, nonce } = transaction;
			expect([chain, value]).toEqual([chainId, 0n]);
			const abi = [...erc3009Abi, ...paymentChannelEscrowAbi];
			const { functionName, args = [] } = decodeFunctionData({ abi, data: data as Hex });
			const [first, second, third] = args as readonly unknown[];
			switch (functionName) {
				// approve(spender, value)
				case "approve":
					expect([isAllowed(to, world.token), isAllowed(first, world.escrow, CANONICAL_PERMIT2)]).toEqual([true, true]);
					expect(second).toBeLessThanOrEqual(limits.maxDeposit);
					break;
				// transfer(to, value)
				case "transfer":
					expect([isAllowed(to, world.token), isAllowed(first, PAYEE, OTHER_PAYEE)]).toEqual([true, true]);
					expect(second).toBeLessThanOrEqual(limits.maxPrice);
					// Two of one nonce are one: the first was never broadcast.
					transfers.add(nonce);
					break;
				// topUp(channelId, additionalDeposit)
				case "topUp":
					expect([isAllowed(to, world.escrow), mine.has(first)]).toEqual([true, true]);
					expect(second).toBeLessThanOrEqual(limits.maxDeposit);
					deposits.set(nonce, second as bigint);
					break;
				// open(payee, token, deposit, salt, authorizedSigner)
				case "open":
					expect(isAllowed(to, world.escrow)).toBe(true);
					expect([isAllowed(first, PAYEE, OTHER_PAYEE), isAllowed(second, world.token)]).toEqual([true, true]);
					expect(third).toBeLessThanOrEqual(limits.maxDeposit);
					deposits.set(nonce, third as bigint);
					break;
				default:
					throw new Error(`${functionName} was sent`);
			}
		}
		return transfers.size;
	}

	/** Every bare digest is that of a charge by Permit2, which the server was sent. */
	function expectChargesByPermitWithinPolicy(spy: Spy, inTime: bigint): void {
		const permits = new Map<Hex, ReturnType<typeof parseChargePayload>>();
		for (const payload of server.payloads()) {
			if (payload.permit === undefined) continue;
			const parsed = parseChargePayload(payload);
			if (parsed.type !== "permit2") throw new Error("another payload");
			const spender = parsed.transferDetails[0]?.to ?? STRANGER;
			const whole = { ...parsed.permit, spender, witness: parsed.witness };
			const domain = createPermit2Domain(chainId, CANONICAL_PERMIT2);
			permits.set(bytesToHex(paymentPermitDigest(domain, whole, "draft")), parsed);
		}
		for (const hash of spy.hashes) {
			const payload = permits.get(hash);
			if (payload?.type !== "permit2") throw new Error("a digest was signed that nobody was sent");
			const { permit, transferDetails } = payload;
			const [first, ...rest] = transferDetails;
			expect([PAYEE, OTHER_PAYEE]).toContain(first?.to);
			expect(rest.every(({ to }) => to === SPLIT)).toBe(true);
			expect(permit.permitted.every(({ token }) => token === world.token)).toBe(true);
			expect(permit.permitted.map(({ amount }) => amount)).toEqual(
				transferDetails.map(({ requestedAmount }) => requestedAmount),
			);
			const total = permit.permitted.reduce((sum, { amount }) => sum + amount, 0n);
			expect(total).toBeLessThanOrEqual(limits.maxPrice);
			expect(permit.deadline).toBeLessThanOrEqual(inTime);
		}
	}

	test("nothing outside the policy is signed, and every request ends", async () => {
		const rich = await world.payer({ funds: 10n ** 12n, gas: true, permit2: 10n ** 9n });
		const parameters = {
			payer: rich.address,
			payee: PAYEE,
			token: world.token,
			salt: `0x${"5a".repeat(32)}`,
			authorizedSigner: ZERO_ADDRESS,
			escrow: world.escrow,
			chainId,
		} as const;
		await world.send(approveCall(world.token, world.escrow, 5_000n), rich);
		await world.send(openCall(world.escrow, { ...parameters, deposit: 5_000n }), rich);
		known = computeChannelId(parameters);
		const courses = () =>
			fc.record({
				lies: fc.array(lies(), { minLength: 1, maxLength: 12, size: "max" }),
				/** How many requests at a time, wave after wave. */
				waves: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 6 }),
			});
		await fc.assert(
			fc.asyncProperty(courses(), async (course) => {
				await server.stop();
				server = await scriptedServer();
				const { agent, spy, get } = agentFor(
					{ payees: [PAYEE, OTHER_PAYEE], splitRecipients: [SPLIT], ...limits },
					{ retry: { retries: 1, minDelayMs: 0, maxDelayMs: 0 } },
					rich,
				);
				let told = 0;
				server.answer((call) =>
					reply(call, course.lies[told++ % course.lies.length] ?? { kind: "500", offers: [], amount: 0n }),
				);
				let asked = 0;
				for (const wave of course.waves) {
					asked += wave;
					const paths = Array.from({ length: wave }, (_, i) => `/${i % 2}`);
					const outcomes = await Promise.allSettled(paths.map((path) => get(path)));
					for (const outcome of outcomes) {
						if (outcome.status === "fulfilled") await outcome.value.arrayBuffer();
						else expect(outcome.reason).toBeInstanceOf(Error);
					}
				}
				expectWithinPolicy({ spy, agent }, asked);
			}),
			{ numRuns: 250 },
		);
		// Each run has transactions mined.
	}, 180_000);

	test("the check finds what is outside: a policy that allows more is caught by it", async () => {
		const { agent, spy, get } = agentFor({ ...limits, maxPrice: 5_000n, maxDeposit: 5_000n });
		server.answer((call) =>
			call.credential === undefined
				? paymentRequired(offer({ amount: "5000" }))
				: { headers: receiptHeader(call, chainId, 5_000n) },
		);
		await get();
		expect(() => expectWithinPolicy({ spy, agent }, 1)).toThrow();
	});
});
