import { type Address, createPublicClient, encodeDeployData, getContractAddress, http } from "viem";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startChain } from "../../src/cli/demo/chain.ts";
import { testUsdcAbi, testUsdcBytecode } from "../../src/cli/demo/generated/testUsdc.ts";
import type { PaymentClientOptions, PaymentPolicy } from "../../src/client/index.ts";
import { type Challenge, contentDigest, parseAcceptPayment } from "../../src/protocol/index.ts";
import { Relay } from "./relay.ts";
import { createStage, type Stage } from "./stage.ts";
import {
	challengeOf,
	clientFor,
	paymentRequired,
	refusal,
	type ScriptedServer,
	STRANGER,
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

async function agentFor(
	offers: (relay: Relay) => readonly Challenge[],
	policy: Partial<PaymentPolicy> = {},
	options: Partial<PaymentClientOptions> = {},
) {
	const spy = spyOn(await stage.payer());
	const relay = new Relay(stage, { offers });
	server.answer(relay.script);
	const agent = clientFor(stage, spy.account, [server.host], policy, options);
	return { agent, spy, relay, get: (init?: RequestInit) => agent.fetch(`${server.url}/`, init) };
}

const charge = (relay: Relay) => relay.charge({ credentialTypes: ["authorization"] });
const both = (relay: Relay) => [relay.session(), charge(relay)];
const paidIntents = () => server.calls.flatMap(({ credential }) => credential?.challenge.intent ?? []);

describe("of several offers", () => {
	it.each<[string, Partial<PaymentClientOptions>, readonly string[]]>([
		["the server's first is paid by a client without preference", {}, ["session"]],
		["the client's is paid", { prefer: ["evm/charge"] }, ["charge"]],
		["the one with the higher weight is paid", { prefer: ["evm/session;q=0.5", "evm/charge"] }, ["charge"]],
		["the server's order counts where weights are the same", { prefer: ["evm/charge", "evm/session"] }, ["session"]],
		["the most specific range counts", { prefer: ["evm/*;q=0.9", "*/session;q=1", "evm/session;q=0.1"] }, ["charge"]],
	])("%s (core, Client Payment Preferences)", async (_name, options, intents) => {
		const { get } = await agentFor(both, {}, options);
		expect((await get()).status).toBe(200);
		expect(paidIntents()).toEqual(intents);
	});

	it.each([
		["q=0 means do not use", ["evm/session;q=0", "evm/charge;q=0"]],
		["what no range matches is not used", ["tempo/*"]],
	])("none is paid that the client does not want: %s (core, Client Payment Preferences)", async (_name, prefer) => {
		const { spy, get } = await agentFor(both, {}, { prefer });
		await expect(get()).rejects.toMatchObject({ code: "POLICY_REFUSED", rule: "preference" });
		expect(spy.signed).toEqual([]);
	});

	it("the first that the policy allows is paid, and the first one's refusal is told where there is none", async () => {
		const dear = (relay: Relay) => [relay.session({ amount: "1001" }), charge(relay)];
		const allowed = await agentFor(dear);
		expect((await allowed.get()).status).toBe(200);
		expect(paidIntents()).toEqual(["charge"]);
		const refused = await agentFor(dear, { payees: [STRANGER] });
		await expect(refused.get()).rejects.toMatchObject({ rule: "payee" });
		const tooDear = await agentFor((relay) => [
			relay.session({ amount: "1001" }),
			relay.charge({}, { currency: STRANGER }),
		]);
		await expect(tooDear.get()).rejects.toMatchObject({ rule: "price" });
	});

	it("the first that the payer can produce a credential for is paid", async () => {
		const hashOnly = (relay: Relay) => [relay.session({}, { credentialTypes: ["hash"] }), charge(relay)];
		const { get } = await agentFor(hashOnly);
		expect((await get()).status).toBe(200);
		expect(paidIntents()).toEqual(["charge"]);
	});

	it("those of methods and intents of which nothing is known are passed over (core, Intent Negotiation)", async () => {
		const { get } = await agentFor((relay) => [
			challengeOf({ amount: "1" }, { method: "tempo" }),
			challengeOf({ amount: "1" }, { intent: "authorize" }),
			relay.session(),
		]);
		expect((await get()).status).toBe(200);
		expect(paidIntents()).toEqual(["session"]);
	});

	it("the token that the policy names first is spent first", async () => {
		const sender = stage.chain.account(5);
		await stage.send({ to: null, data: encodeDeployData({ abi: testUsdcAbi, bytecode: testUsdcBytecode }) }, sender);
		const nonce = (await stage.chain.client.getTransactionCount({ address: sender.address })) - 1;
		const other = getContractAddress({ from: sender.address, nonce: BigInt(nonce) }).toLowerCase() as Address;
		const offers = (relay: Relay) => [
			charge(relay),
			relay.charge({ credentialTypes: ["authorization"] }, { currency: other }),
		];
		const { spy, get } = await agentFor(offers, { tokens: [other, stage.token] });
		server.answer((call) =>
			call.credential === undefined ? paymentRequired(...offers(new Relay(stage))) : { status: 500 },
		);
		await get();
		expect(spy.signed.map(({ domain }) => (domain as { verifyingContract: string }).verifyingContract)).toEqual([
			other,
		]);
	});
});

describe("Accept-Payment (core, Client Payment Preferences)", () => {
	const sent = () => server.calls.map(({ headers }) => headers["accept-payment"]);

	it("says what the client prefers, in every request", async () => {
		const { get } = await agentFor(both, {}, { prefer: ["evm/session;q=0.5", "evm/charge"] });
		await get();
		expect(sent()).toHaveLength(2);
		for (const header of sent()) {
			expect(parseAcceptPayment(header)).toEqual([
				{ method: "evm", intent: "session", q: 0.5 },
				{ method: "evm", intent: "charge", q: 1 },
			]);
		}
	});

	it.each<[string, Partial<PaymentClientOptions>, RequestInit, string | undefined]>([
		["is not sent by a client without preference", {}, {}, undefined],
		["is what the client is told to say", { acceptPayment: "evm/*" }, {}, "evm/*"],
		[
			"is the caller's own where it gives one",
			{ prefer: ["evm/*"] },
			{ headers: { "accept-payment": "evm/session" } },
			"evm/session",
		],
	])("%s", async (_name, options, init, header) => {
		const { get } = await agentFor(both, {}, options);
		await get(init);
		expect(new Set(sent())).toEqual(new Set([header]));
	});

	it.each([[[]], [["evm"]], [["evm/session;q=2"]], [["EVM/session"]]])("is not made of %j", async (prefer) => {
		expect(() => clientFor(stage, stage.chain.account(0), ["a.example"], {}, { prefer })).toThrow(
			expect.objectContaining({ code: "POLICY" }),
		);
	});
});

describe("chains (draft-evm-charge-00, Chain Identification)", () => {
	it("that the payer's node is not on are refused, though the policy allows them; another offer is taken", async () => {
		const elsewhere = (relay: Relay) => relay.charge({ chainId: 8_453, credentialTypes: ["authorization"] });
		const policy = { chainIds: [8_453, stage.chain.chainId] };
		const refused = await agentFor((relay) => [elsewhere(relay)], policy);
		await expect(refused.get()).rejects.toMatchObject({ code: "POLICY_REFUSED", rule: "chain" });
		expect(refused.spy.signed).toEqual([]);
		const taken = await agentFor((relay) => [elsewhere(relay), charge(relay)], policy);
		expect((await taken.get()).status).toBe(200);
	});

	it("may be several, each with a node of its own, which has to be on it; the policy's order counts", async () => {
		const second = await startChain({ args: ["--chain-id", "31338"] });
		try {
			// The same accounts and the same first nonce: the token is at the same address there.
			const deployer = second.account(0);
			const fees = await second.client.estimateFeesPerGas();
			const raw = await deployer.signTransaction({
				type: "eip1559",
				chainId: 31_338,
				nonce: 0,
				data: encodeDeployData({ abi: testUsdcAbi, bytecode: testUsdcBytecode }),
				gas: 5_000_000n,
				maxFeePerGas: fees.maxFeePerGas,
				maxPriorityFeePerGas: fees.maxPriorityFeePerGas,
			});
			await second.client.sendRawTransaction({ serializedTransaction: raw });
			const offers = (relay: Relay) => [
				charge(relay),
				relay.charge({ chainId: 31_338, credentialTypes: ["authorization"] }),
			];
			const policy = { chainIds: [31_338, stage.chain.chainId] };
			const chainsSigned = async (clients: PaymentClientOptions["clients"]) => {
				const { spy, get } = await agentFor(offers, policy, clients === undefined ? {} : { clients });
				server.answer((call) =>
					call.credential === undefined ? paymentRequired(...offers(new Relay(stage))) : { status: 500 },
				);
				await get();
				return spy.signed.map(({ domain }) => (domain as { chainId: number }).chainId);
			};
			expect(await chainsSigned({ 31338: second.client })).toEqual([31_338]);
			expect(await chainsSigned(undefined)).toEqual([stage.chain.chainId]);
			// A node that is said to be on a chain and is not.
			const wrong = createPublicClient({ transport: http(stage.chain.url) });
			expect(await chainsSigned({ 31338: wrong })).toEqual([stage.chain.chainId]);
		} finally {
			await second.stop();
		}
	});
});

describe("a challenge with a digest (core, Request Body Digest Binding)", () => {
	const body = JSON.stringify({ order: 7 });
	const digested = (text: string) => (relay: Relay) => [
		{ ...relay.session(), digest: contentDigest(new TextEncoder().encode(text)) },
	];
	const post = (text: string): RequestInit => ({ method: "POST", body: text });

	it("of the body that is sent is answered, and echoed", async () => {
		const { get } = await agentFor(digested(body));
		expect((await get(post(body))).status).toBe(200);
		expect(server.calls.at(-1)?.credential?.challenge.digest).toBe(contentDigest(new TextEncoder().encode(body)));
	});

	it("of no body fits a request that has none", async () => {
		const { get } = await agentFor(digested(""));
		expect((await get()).status).toBe(200);
	});

	it.each([
		["of another body", digested("another order")],
		["of an algorithm that nobody knows", (relay: Relay) => [{ ...relay.session(), digest: "md5=:AAAA:" }]],
		["that is none", (relay: Relay) => [{ ...relay.session(), digest: "nonsense" }]],
	])("%s is refused, nothing is signed", async (_name, offers) => {
		const { spy, get } = await agentFor(offers);
		await expect(get(post(body))).rejects.toMatchObject({ code: "POLICY_REFUSED", rule: "digest" });
		expect(spy.signed).toEqual([]);
	});

	it("of another body is passed over for an offer that fits", async () => {
		const { get } = await agentFor((relay) => [...digested("another")(relay), charge(relay)]);
		expect((await get(post(body))).status).toBe(200);
		expect(paidIntents()).toEqual(["charge"]);
	});

	it("is not used again for another body: a fresh one is fetched, the channel goes on", async () => {
		const { agent, relay, get } = await agentFor((one) => [one.session()]);
		server.answer((call) => {
			const offers = digested(call.body)(relay);
			const echoed = call.credential?.challenge.digest;
			if (call.credential === undefined) return paymentRequired(...offers);
			return echoed === offers[0]?.digest ? relay.script(call) : refusal("invalid-challenge", {}, ...offers);
		});
		for (const text of ["one", "two", "two", ""]) expect((await get(post(text))).status).toBe(200);
		expect(agent.channels).toHaveLength(1);
		const bodies = server.calls.map(({ body: sentBody, credential }) => [sentBody, credential !== undefined]);
		expect(bodies).toEqual([
			["one", false],
			["one", true],
			["two", false],
			["two", true],
			["two", true],
			["", false],
			["", true],
		]);
	});
});

it("what nothing is known of in a challenge's request is ignored (core, Versioning)", async () => {
	const { get } = await agentFor((relay) => [relay.session({ future: { a: 1 } }, { version: 1, shiny: true })]);
	expect((await get()).status).toBe(200);
});

it("a challenge of more than 4 KB is answered (core, Size Considerations)", async () => {
	const { get } = await agentFor((relay) => [relay.session({ description: "x".repeat(5_000) })]);
	expect((await get()).status).toBe(200);
	expect(server.calls.at(-1)?.credential?.challenge.request.length).toBeGreaterThan(4_096);
});
