import type { Hex, LocalAccount } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { PayerChannelState, PaymentClientOptions, PaymentPolicy } from "../../src/client/index.ts";
import { approveCall, closeCall, openCall, requestCloseCall } from "../../src/escrow/index.ts";
import { computeChannelId, createVoucherDomain, signVoucher, ZERO_ADDRESS } from "../../src/voucher/index.ts";
import { Relay, type RelayOptions } from "./relay.ts";
import { createStage, type Stage } from "./stage.ts";
import {
	type Call,
	clientFor,
	codeOf,
	type Reply,
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

const AUTHORIZED: RelayOptions = { details: { credentialTypes: ["authorization"] } };

function agentFor(
	account: LocalAccount,
	relay: Relay,
	policy: Partial<PaymentPolicy> = {},
	options: Partial<PaymentClientOptions> = {},
) {
	const spy = spyOn(account);
	server.answer(relay.script);
	const agent = clientFor(stage, spy.account, [server.host], policy, options);
	return { agent, spy, get: () => agent.fetch(`${server.url}/`) };
}

/** Through JSON, as another process would read it. */
const carried = (states: readonly PayerChannelState[]): readonly PayerChannelState[] =>
	JSON.parse(JSON.stringify(states)) as readonly PayerChannelState[];

describe("a channel goes on with another client", () => {
	it("that was given its state: one deposit, sequential sessions, one close (draft-evm-session-00, Sequential Sessions)", async () => {
		const account = await stage.payer();
		const relay = new Relay(stage, AUTHORIZED);
		const first = agentFor(account, relay);
		for (let i = 0; i < 3; i++) expect((await first.get()).status).toBe(200);
		const states = carried(first.agent.channels.map((channel) => channel.state()));
		const second = agentFor(account, relay, {}, { resume: states });
		for (let i = 0; i < 2; i++) expect((await second.get()).status).toBe(200);
		expect(second.spy.deposits()).toEqual([]);
		expect(second.spy.vouchers()).toEqual([400n, 500n]);
		expect(second.agent.channels.map(({ channelId }) => channelId)).toEqual(states.map(({ channelId }) => channelId));
		const third = agentFor(account, relay, {}, { resume: carried(second.agent.channels.map((one) => one.state())) });
		expect(await third.agent.close()).toHaveLength(1);
		expect(await stage.balance(relay.address)).toBe(500n);
	});

	it("and no key is in it, nor a number", async () => {
		const account = await stage.payer();
		const { agent, get } = agentFor(account, new Relay(stage, AUTHORIZED));
		await get();
		const [state] = agent.channels.map((channel) => channel.state());
		expect(state).toEqual({
			channelId: agent.channels[0]?.channelId,
			chainId: stage.chain.chainId,
			escrow: stage.escrow,
			token: stage.token,
			payer: account.address.toLowerCase(),
			payee: agent.channels[0]?.parameters.payee,
			authorizedSigner: ZERO_ADDRESS,
			salt: agent.channels[0]?.parameters.salt,
			deposit: "1000",
			signed: "100",
			consumed: "100",
			uncertain: "0",
			resource: { url: `${server.url}/`, method: "GET" },
		});
	});

	it("what is uncertain stays uncertain: it can be claimed once, and no more than that", async () => {
		const account = await stage.payer();
		const relay = new Relay(stage, AUTHORIZED);
		const first = agentFor(account, relay, {}, { retry: { retries: 0 } });
		await first.get();
		const cutting = async (call: Call): Promise<Reply> => {
			await relay.script(call);
			return "cut";
		};
		server.answer(cutting);
		await expect(first.get()).rejects.toThrow();
		const states = carried(first.agent.channels.map((channel) => channel.state()));
		expect(states).toMatchObject([{ signed: "200", consumed: "100", uncertain: "100" }]);
		const second = agentFor(account, relay, {}, { resume: states });
		expect((await second.get()).status).toBe(200);
		expect(second.agent.channels).toMatchObject([{ consumed: 300n, signed: 300n }]);
	});

	it.each([[true], [false]])(
		"a top-up whose answer was lost is not made again (executed: %s, I4)",
		async (isExecuted) => {
			const account = await stage.payer();
			const relay = new Relay(stage, { ...AUTHORIZED, terms: { suggestedDeposit: "300" } });
			const policy = { maxDeposit: 300n };
			const first = agentFor(account, relay, policy, { retry: { retries: 0 } });
			for (let i = 0; i < 3; i++) await first.get();
			const cutting = async (call: Call): Promise<Reply> => {
				if (isExecuted) await relay.script(call);
				return "cut";
			};
			server.answer(cutting);
			await expect(first.get()).rejects.toThrow();
			const states = carried(first.agent.channels.map((channel) => channel.state()));
			expect(states).toMatchObject([{ topUp: { type: "authorization", amount: "300" } }]);
			const second = agentFor(account, relay, policy, { resume: states });
			expect((await second.get()).status).toBe(200);
			const [channel] = second.agent.channels;
			expect(await stage.onChain(channel?.channelId ?? "0x")).toMatchObject({ deposit: 600n });
			expect(channel).toMatchObject({ deposit: 600n, topUp: undefined });
		},
	);

	it("whose opening was lost on the way is opened as it would have been: one deposit, whoever signs for it (I4)", async () => {
		const account = await stage.payer();
		const relay = new Relay(stage, AUTHORIZED);
		const first = agentFor(account, relay, {}, { retry: { retries: 0 } });
		server.answer((call) => (call.credential === undefined ? relay.script(call) : "cut"));
		await expect(first.get()).rejects.toThrow();
		const states = carried(first.agent.channels.map((channel) => channel.state()));
		const second = agentFor(account, relay, {}, { resume: states });
		expect((await second.get()).status).toBe(200);
		expect(second.agent.channels.map(({ channelId }) => channelId)).toEqual(states.map(({ channelId }) => channelId));
		const nonces = [...first.spy.deposits(), ...second.spy.deposits()].map(({ nonce }) => nonce);
		expect([nonces.length, new Set(nonces).size]).toEqual([2, 1]);
	});

	it("whose opening is more than the policy allows now is not signed for", async () => {
		const account = await stage.payer();
		const relay = new Relay(stage, AUTHORIZED);
		const first = agentFor(account, relay, {}, { retry: { retries: 0 } });
		server.answer((call) => (call.credential === undefined ? relay.script(call) : "cut"));
		await expect(first.get()).rejects.toThrow();
		const states = carried(first.agent.channels.map((channel) => channel.state()));
		const second = agentFor(account, relay, { maxDeposit: 999n }, { resume: states });
		expect((await second.get()).status).toBe(200);
		expect(second.spy.deposits().map(({ value }) => value)).toEqual([999n]);
	});

	it("that the payer's own transaction opened is told of to the server", async () => {
		const account = await stage.payer({ gas: true });
		const relay = new Relay(stage, { details: { credentialTypes: ["hash"] } });
		const first = agentFor(account, relay, {}, { retry: { retries: 0 } });
		server.answer((call) => (call.credential === undefined ? relay.script(call) : "cut"));
		await expect(first.get()).rejects.toThrow();
		const states = carried(first.agent.channels.map((channel) => channel.state()));
		const second = agentFor(account, relay, {}, { resume: states });
		expect((await second.get()).status).toBe(200);
		expect(second.spy.transactions).toEqual([]);
		expect(server.payloads("open").map(({ hash }) => hash)).toEqual(Array(2).fill(states[0]?.funding?.hash));
	});

	it("that was closed meanwhile is not used: the escrow is asked first, and another one is opened", async () => {
		const account = await stage.payer();
		const relay = new Relay(stage, AUTHORIZED);
		const first = agentFor(account, relay);
		await first.get();
		const states = carried(first.agent.channels.map((channel) => channel.state()));
		await first.agent.close();
		const second = agentFor(account, relay, {}, { resume: states });
		expect((await second.get()).status).toBe(200);
		expect(second.spy.deposits()).toHaveLength(1);
		expect(second.agent.forgotten).toEqual([]);
	});

	it("whose close was requested is not used either, and its deposit is still spoken of", async () => {
		const account = await stage.payer({ gas: true });
		const relay = new Relay(stage, AUTHORIZED);
		const first = agentFor(account, relay);
		await first.get();
		const states = carried(first.agent.channels.map((channel) => channel.state()));
		await stage.send(requestCloseCall(stage.escrow, states[0]?.channelId ?? "0x"), account);
		const second = agentFor(account, relay, {}, { resume: states });
		expect((await second.get()).status).toBe(200);
		expect(second.agent.forgotten.map(({ channelId }) => channelId)).toEqual(states.map(({ channelId }) => channelId));
	});

	it.each<[string, (state: PayerChannelState) => unknown]>([
		["of another payer", (state) => ({ ...state, payer: STRANGER })],
		["of a signer whose key is not here", (state) => ({ ...state, authorizedSigner: STRANGER })],
		["whose parameters make another id", (state) => ({ ...state, payee: STRANGER })],
		["that consumed more than it signed", (state) => ({ ...state, consumed: "101" })],
		["with a number for an amount", (state) => ({ ...state, deposit: 1_000 })],
		["with a negative amount", (state) => ({ ...state, uncertain: "-1" })],
		["with an amount of 2^128", (state) => ({ ...state, uncertain: String(2n ** 128n) })],
		["with a member that nobody knows", (state) => ({ ...state, key: "0x00" })],
		["that is none", () => "{}"],
	])("a state %s is refused when the client is made", async (_name, change) => {
		const account = await stage.payer();
		const relay = new Relay(stage, AUTHORIZED);
		const { agent, get } = agentFor(account, relay);
		await get();
		const [state] = agent.channels.map((channel) => channel.state());
		if (state === undefined) throw new Error("no channel");
		expect(() => agentFor(account, relay, {}, { resume: [change(state)] as never })).toThrow(
			expect.objectContaining({ code: "CHANNEL_STATE" }),
		);
	});
});

describe("a channel that the server names", () => {
	/** A channel that the payer opened in another life, and what the server thinks of it. */
	async function named(
		account: LocalAccount,
		options: Readonly<{
			deposit?: bigint;
			settled?: bigint;
			accepted?: bigint;
			signer?: LocalAccount;
			payee?: LocalAccount;
		}> = {},
	) {
		const { deposit = 1_000n, settled = 0n, accepted = settled, signer } = options;
		let channelId: Hex = "0x";
		const relay = new Relay(stage, {
			offers: (one) => [one.session({}, { credentialTypes: ["authorization"], channelId })],
		});
		const parameters = {
			payer: account.address,
			payee: options.payee?.address ?? relay.payee.address,
			token: stage.token,
			salt: `0x${crypto.randomUUID().replaceAll("-", "").padEnd(64, "0")}` as Hex,
			authorizedSigner: signer?.address ?? ZERO_ADDRESS,
			escrow: stage.escrow,
			chainId: stage.chain.chainId,
		};
		channelId = computeChannelId(parameters);
		await stage.send(approveCall(stage.token, stage.escrow, deposit), account);
		await stage.send(openCall(stage.escrow, { ...parameters, deposit }), account);
		relay.remember(channelId, accepted, accepted);
		return { relay, channelId };
	}

	const payerWithGas = () => stage.payer({ gas: true });

	it("is gone on with: nothing is deposited, and it can be closed", async () => {
		const account = await payerWithGas();
		const { relay, channelId } = await named(account);
		const { agent, spy, get } = agentFor(account, relay);
		for (let i = 0; i < 3; i++) expect((await get()).status).toBe(200);
		expect(spy.deposits()).toEqual([]);
		expect(spy.vouchers(channelId)).toEqual([100n, 200n, 300n]);
		expect(await agent.close()).toHaveLength(1);
		expect(await stage.balance(relay.address)).toBe(300n);
	});

	it("is topped up like any other", async () => {
		const account = await payerWithGas();
		const { relay, channelId } = await named(account, { deposit: 150n });
		const { spy, get } = agentFor(account, relay);
		for (let i = 0; i < 3; i++) expect((await get()).status).toBe(200);
		expect(spy.deposits()).toHaveLength(1);
		expect(await stage.onChain(channelId)).toMatchObject({ deposit: 1_150n });
	});

	it("and that a session key of this client signs for, too (D13)", async () => {
		const account = await payerWithGas();
		const sessionKey = privateKeyToAccount(generatePrivateKey());
		const { relay } = await named(account, { signer: sessionKey });
		const { spy, get } = agentFor(account, relay, {}, { authorizedSigner: sessionKey });
		expect((await get()).status).toBe(200);
		expect([spy.deposits(), spy.vouchers()]).toEqual([[], []]);
	});

	describe("is not, and another one is opened", () => {
		it.each<[string, (account: LocalAccount) => Promise<{ relay: Relay; channelId: Hex }>]>([
			["where less than the price is left in it", (account) => named(account, { deposit: 99n })],
			[
				"where it is another payer's",
				async (account) => {
					const other = await payerWithGas();
					const { relay, channelId } = await named(other);
					expect(other.address).not.toBe(account.address);
					return { relay, channelId };
				},
			],
			[
				"where it pays another payee",
				(account) => named(account, { payee: privateKeyToAccount(generatePrivateKey()) }),
			],
			[
				"where a key that is not here signs for it",
				(account) => named(account, { signer: privateKeyToAccount(generatePrivateKey()) }),
			],
			[
				"where its close was requested",
				async (account) => {
					const parts = await named(account);
					await stage.send(requestCloseCall(stage.escrow, parts.channelId), account);
					return parts;
				},
			],
			[
				"where it is closed",
				async (account) => {
					const parts = await named(account);
					const signature = await signVoucher(account, createVoucherDomain(stage.chain.chainId, stage.escrow), {
						channelId: parts.channelId,
						cumulativeAmount: 1n,
					});
					await stage.giveGas(parts.relay.payee.address);
					await stage.send(closeCall(stage.escrow, parts.channelId, 1n, signature), parts.relay.payee);
					return parts;
				},
			],
		])("%s", async (_name, prepare) => {
			const account = await payerWithGas();
			const { relay, channelId } = await prepare(account);
			const { agent, spy, get } = agentFor(account, relay);
			expect((await get()).status).toBe(200);
			expect(spy.vouchers(channelId)).toEqual([]);
			expect(agent.channels.map((channel) => channel.channelId)).not.toContain(channelId);
			expect(spy.deposits()).toHaveLength(1);
		});

		it("where nothing is at that id", async () => {
			const account = await stage.payer();
			const offers = (one: Relay) => [
				one.session({}, { credentialTypes: ["authorization"], channelId: `0x${"c1".repeat(32)}` }),
			];
			const { spy, get } = agentFor(account, new Relay(stage, { offers }));
			expect((await get()).status).toBe(200);
			expect(spy.deposits()).toHaveLength(1);
		});

		it("where it is in this client's books already, under another origin", async () => {
			const account = await stage.payer();
			const first = new Relay(stage, AUTHORIZED);
			const { agent, spy, get } = agentFor(account, first);
			await get();
			const [known] = agent.channels;
			const elsewhere = await scriptedServer();
			try {
				const both = clientFor(
					stage,
					spy.account,
					[server.host, elsewhere.host],
					{},
					{
						resume: carried(agent.channels.map((channel) => channel.state())),
					},
				);
				elsewhere.answer((call) =>
					call.credential === undefined ? { status: 402, headers: { "www-authenticate": "" } } : { status: 500 },
				);
				const channelId = known?.channelId;
				const naming = new Relay(stage, {
					offers: () => [first.session({}, { credentialTypes: ["authorization"], channelId })],
				});
				elsewhere.answer(naming.script);
				await both.fetch(elsewhere.url);
				expect(elsewhere.payloads().map((payload) => payload.channelId)).not.toContain(channelId);
			} finally {
				await elsewhere.stop();
			}
		});
	});

	it("of which the server claims to have more than was settled is given up, unless the policy allows that much (I11)", async () => {
		const account = await payerWithGas();
		const { relay, channelId } = await named(account, { accepted: 300n });
		const careful = agentFor(account, relay);
		expect((await careful.get()).status).toBe(200);
		expect(careful.spy.vouchers(channelId)).toEqual([100n]);
		expect(careful.agent.forgotten.map((channel) => channel.channelId)).toEqual([channelId]);
		const generous = agentFor(account, relay, { maxUnaccounted: 300n });
		expect((await generous.get()).status).toBe(200);
		expect(generous.spy.vouchers(channelId).at(-1)).toBe(400n);
		expect(generous.spy.deposits()).toEqual([]);
		const mean = agentFor(account, (await named(account, { accepted: 300n })).relay, { maxUnaccounted: 299n });
		expect((await mean.get()).status).toBe(200);
		expect(Math.max(...mean.spy.vouchers().map(Number))).toBe(100);
	});

	it("does not raise what may be claimed of a channel whose state is known", async () => {
		const account = await stage.payer();
		const relay = new Relay(stage, AUTHORIZED);
		const { spy, agent, get } = agentFor(account, relay, { maxUnaccounted: 10_000n });
		await get();
		const [channel] = agent.channels;
		relay.remember(channel?.channelId ?? "0x", 300n, 300n);
		expect(await codeOf(get())).toBe("OVERCHARGE");
		expect(Math.max(...spy.vouchers().map(Number))).toBe(200);
	});
});
