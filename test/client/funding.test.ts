import type { LocalAccount } from "viem";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { PaymentClientOptions, PaymentPolicy } from "../../src/client/index.ts";
import { CANONICAL_PERMIT2 } from "../../src/voucher/index.ts";
import { Relay, type RelayOptions } from "./relay.ts";
import { createStage, type Stage } from "./stage.ts";
import { clientFor, type ScriptedServer, STRANGER, scriptedServer, spyOn } from "./support.ts";

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

function agentFor(
	account: LocalAccount,
	relaying: RelayOptions = {},
	policy: Partial<PaymentPolicy> = {},
	options: Partial<PaymentClientOptions> = {},
) {
	const spy = spyOn(account);
	const relay = new Relay(stage, relaying);
	server.answer(relay.script);
	const agent = clientFor(stage, spy.account, [server.host], policy, options);
	return { agent, spy, relay, get: () => agent.fetch(`${server.url}/`) };
}

const types = (...credentialTypes: readonly string[]): RelayOptions => ({ details: { credentialTypes } });

describe("a channel is funded by the first type of the server's list that the payer can produce (draft-evm-session-00, Method Details)", () => {
	it("authorization: the payer needs no gas and no allowance", async () => {
		const { spy, relay, get } = agentFor(await stage.payer(), types("authorization", "permit2", "hash"));
		expect((await get()).status).toBe(200);
		expect(relay.executed).toEqual(["open authorization"]);
		expect(spy.transactions).toEqual([]);
		expect(await stage.balance(stage.escrow)).toBeGreaterThanOrEqual(1_000n);
	});

	it("permit2, where Permit2 has an allowance: the payer needs no gas", async () => {
		const account = await stage.payer({ permit2: 5_000n });
		const { agent, spy, relay, get } = agentFor(account, types("permit2", "authorization", "hash"));
		expect(await (await get()).text()).toBe("served");
		expect((await get()).status).toBe(200);
		expect(relay.executed).toEqual(["open permit2"]);
		expect([spy.transactions, spy.deposits()]).toEqual([[], []]);
		const [channel] = agent.channels;
		expect(await stage.onChain(channel?.channelId ?? "0x")).toMatchObject({ deposit: 1_000n, finalized: false });
		expect(await stage.allowance(account.address)).toBe(4_000n);
	});

	it("permit2 without an allowance comes after what needs no transaction of the payer's own", async () => {
		const { relay, spy, get } = agentFor(await stage.payer({ gas: true }), types("permit2", "authorization"));
		expect((await get()).status).toBe(200);
		expect(relay.executed).toEqual(["open authorization"]);
		expect(spy.transactions).toEqual([]);
	});

	it("permit2 alone is approved for, exactly as much as is deposited and never more", async () => {
		const account = await stage.payer({ gas: true });
		const { relay, spy, get } = agentFor(account, types("permit2"));
		expect((await get()).status).toBe(200);
		expect(relay.executed).toEqual(["open permit2"]);
		expect(spy.transactions.map(({ to }) => to)).toEqual([stage.token]);
		expect(await stage.allowance(account.address)).toBe(0n);
	});

	it("hash: the payer's own approve and open", async () => {
		const { spy, relay, get } = agentFor(await stage.payer({ gas: true }), types("hash", "authorization"));
		expect((await get()).status).toBe(200);
		expect(relay.executed).toEqual([]);
		expect(spy.transactions.map(({ to }) => to)).toEqual([stage.token, stage.escrow]);
		expect(server.payloads("open")).toMatchObject([{ type: "hash" }]);
	});

	it("hash is all there is where the server lists nothing", async () => {
		const { spy, get } = agentFor(await stage.payer({ gas: true }), { details: { credentialTypes: undefined } });
		expect((await get()).status).toBe(200);
		expect(server.payloads("open")).toMatchObject([{ type: "hash" }]);
		expect(spy.deposits()).toEqual([]);
	});

	it("hash is passed over by a payer without gas", async () => {
		const { relay, get } = agentFor(await stage.payer(), types("hash", "authorization"));
		expect((await get()).status).toBe(200);
		expect(relay.executed).toEqual(["open authorization"]);
	});

	it("unless the payer prefers otherwise: its own list says which, and in which order", async () => {
		const account = await stage.payer({ gas: true, permit2: 5_000n });
		const preferring = { credentialTypes: ["permit2", "authorization"] };
		const { relay, get } = agentFor(account, types("hash", "authorization", "permit2"), {}, preferring);
		expect((await get()).status).toBe(200);
		expect(relay.executed).toEqual(["open permit2"]);
	});
});

describe("nothing is signed by a type that is not to be had (I11)", () => {
	it.each<[string, RelayOptions, Partial<PaymentPolicy>, Partial<PaymentClientOptions>, boolean]>([
		["hash, and the policy allows no own transactions", types("hash"), { ownTransactions: false }, {}, true],
		["hash, and there is no gas", types("hash"), {}, {}, false],
		["permit2 without an allowance, and no own transactions", types("permit2"), { ownTransactions: false }, {}, true],
		["permit2 without an allowance, and no gas", types("permit2"), {}, {}, false],
		["a list of which the payer uses nothing", types("hash"), {}, { credentialTypes: ["authorization"] }, true],
		[
			"a type that is not listed, though the payer prefers it",
			types("hash"),
			{},
			{ credentialTypes: ["permit2"] },
			true,
		],
	])("%s", async (_name, relaying, policy, options, gas) => {
		const { spy, get } = agentFor(await stage.payer({ gas }), relaying, policy, options);
		await expect(get()).rejects.toMatchObject({ code: "POLICY_REFUSED", rule: "credential" });
		expect([spy.signed, spy.hashes, spy.transactions]).toEqual([[], [], []]);
		expect(server.calls).toHaveLength(1);
	});

	it.each<[string, Record<string, unknown>, Partial<PaymentPolicy>]>([
		["is none that the policy lists", { permit2Contract: STRANGER }, {}],
		["is not the canonical one, which the policy has taken off its list", {}, { permit2: [STRANGER] }],
		["is on the list, but is not the escrow's", { permit2Contract: STRANGER }, { permit2: [STRANGER] }],
	])("permit2, where the contract %s (draft-evm-session-00, Method Details)", async (_name, details, policy) => {
		const account = await stage.payer({ permit2: 5_000n });
		const relaying = { details: { credentialTypes: ["permit2"], ...details } };
		const { spy, get } = agentFor(account, relaying, policy);
		await expect(get()).rejects.toMatchObject({ rule: "credential" });
		expect(spy.signed).toEqual([]);
	});

	it("authorization, for a token that is no ERC-3009 token on the payer's own node", async () => {
		// Permit2 has a DOMAIN_SEPARATOR, and is no token at all.
		const relaying = { terms: { currency: CANONICAL_PERMIT2 }, details: { credentialTypes: ["authorization"] } };
		const { spy, get } = agentFor(await stage.payer(), relaying, { tokens: [CANONICAL_PERMIT2] });
		await expect(get()).rejects.toMatchObject({ rule: "credential" });
		expect(spy.signed).toEqual([]);
	});
});

it("an opening by Permit2 that is refused again and again has one nonce: it can be executed once (I4)", async () => {
	const account = await stage.payer({ permit2: 5_000n });
	const { agent, spy, relay } = agentFor(account, types("permit2"));
	const { script } = relay;
	let refusing = true;
	server.answer((call) => (call.credential !== undefined && refusing ? { status: 500 } : script(call)));
	for (let i = 0; i < 3; i++) expect((await agent.fetch(`${server.url}/`)).status).toBe(500);
	refusing = false;
	expect((await agent.fetch(`${server.url}/`)).status).toBe(200);
	const nonces = spy.signed.flatMap(({ primaryType, message }) =>
		primaryType === "PermitWitnessTransferFrom" ? [message.nonce] : [],
	);
	expect(nonces).toHaveLength(4);
	expect(new Set(nonces).size).toBe(1);
	expect(BigInt(String(nonces[0]))).toBeGreaterThan(2n ** 128n);
});

describe("a session key", () => {
	it("signs the vouchers, and the escrow pays for them (D13)", async () => {
		const account = await stage.payer();
		const sessionKey = spyOn(await stage.payer({ funds: 0n }));
		const { agent, spy, relay, get } = agentFor(
			account,
			types("authorization"),
			{},
			{ authorizedSigner: sessionKey.account },
		);
		for (let i = 0; i < 3; i++) expect((await get()).status).toBe(200);
		expect(sessionKey.vouchers()).toEqual([100n, 200n, 300n]);
		expect([spy.vouchers(), spy.deposits().length]).toEqual([[], 1]);
		const [channel] = agent.channels;
		const onChain = await stage.onChain(channel?.channelId ?? "0x");
		expect(onChain?.authorizedSigner).toBe(sessionKey.account.address.toLowerCase());
		await agent.close();
		expect(await stage.balance(relay.address)).toBe(300n);
	});

	it("that is the payee's is refused: it could sign what it is paid (D13)", async () => {
		const { spy, relay } = agentFor(await stage.payer());
		const agent = clientFor(stage, spy.account, [server.host], {}, { authorizedSigner: relay.payee });
		await expect(agent.fetch(`${server.url}/`)).rejects.toMatchObject({ code: "POLICY_REFUSED", rule: "signer" });
		expect(spy.signed).toEqual([]);
	});
});

it("the deposit is what the server suggests, cut to what the policy allows for good", async () => {
	const { spy, get } = agentFor(await stage.payer(), { terms: { suggestedDeposit: "9999" } }, { maxTotal: 700n });
	expect((await get()).status).toBe(200);
	expect(spy.deposits().map(({ value }) => value)).toEqual([700n]);
});
