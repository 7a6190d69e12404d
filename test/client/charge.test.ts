import { type Address, decodeFunctionData, type LocalAccount, parseTransaction } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { PaymentClientOptions, PaymentPolicy } from "../../src/client/index.ts";
import { erc3009Abi } from "../../src/escrow/index.ts";
import { type Challenge, parseChargePayload } from "../../src/protocol/index.ts";
import { CANONICAL_PERMIT2, chargeNonce } from "../../src/voucher/index.ts";
import { Relay } from "./relay.ts";
import { createStage, type Stage } from "./stage.ts";
import {
	type Call,
	clientFor,
	type Reply,
	refusal,
	type Script,
	type ScriptedServer,
	type Spy,
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

const NO_RETRIES = { retry: { retries: 0 } };

function agentFor(
	account: LocalAccount,
	offers: (relay: Relay) => readonly Challenge[],
	policy: Partial<PaymentPolicy> = {},
	options: Partial<PaymentClientOptions> = {},
) {
	const spy = spyOn(account);
	const relay = new Relay(stage, { offers });
	server.answer(relay.script);
	const agent = clientFor(stage, spy.account, [server.host], policy, options);
	return { agent, spy, relay, get: (path = "/", init?: RequestInit) => agent.fetch(`${server.url}${path}`, init) };
}

const by =
	(...credentialTypes: readonly string[]) =>
	(relay: Relay) => [relay.charge({ credentialTypes })];

const payloads = () =>
	server.calls.flatMap(({ credential }) => (credential === undefined ? [] : [parseChargePayload(credential.payload)]));

/** Something happens while the payer's transaction is signed. */
function whileSigning({ account }: Spy, event: () => void): void {
	const { signTransaction } = account;
	Object.assign(account, {
		signTransaction: (...parameters: Parameters<typeof signTransaction>) => {
			event();
			return signTransaction(...parameters);
		},
	});
}

const paidBy = (account: LocalAccount) => async () => 1_000_000n - (await stage.balance(account.address));

describe("a charge is paid by the first type of the server's list that the payer can produce (draft-evm-charge-00, Credential Type Negotiation)", () => {
	it.each([
		["permit2", "with an allowance for it", { permit2: 500n }, ["permit2", "authorization", "transaction", "hash"]],
		["authorization", "with gas", { gas: true }, ["authorization", "permit2", "transaction", "hash"]],
		["authorization", "with nothing but the token", {}, ["hash", "transaction", "permit2", "authorization"]],
		["transaction", "with gas", { gas: true }, ["transaction", "authorization"]],
		["hash", "with gas", { gas: true }, ["hash", "authorization"]],
	] as const)("%s, by a payer %s", async (type, _with, options, offered) => {
		const account = await stage.payer(options);
		const { relay, get } = agentFor(account, by(...offered));
		expect(await (await get()).text()).toBe("served");
		expect(payloads().map((payload) => payload.type)).toEqual([type]);
		expect(await stage.balance(relay.address)).toBe(100n);
		expect(await paidBy(account)()).toBe(100n);
	});

	it("transaction, then hash, where the server lists nothing", async () => {
		const account = await stage.payer({ gas: true });
		const { get } = agentFor(account, (relay) => [relay.charge({ credentialTypes: undefined })]);
		expect((await get()).status).toBe(200);
		const second = agentFor(
			account,
			(relay) => [relay.charge({ credentialTypes: undefined })],
			{},
			{
				credentialTypes: ["hash"],
			},
		);
		expect((await second.get()).status).toBe(200);
		expect(payloads().map(({ type }) => type)).toEqual(["transaction", "hash"]);
	});

	it.each([["authorization"], ["permit2"], ["transaction"], ["hash"]])(
		"and %s names its payer as source (draft-evm-charge-00, Credential Structure)",
		async (type) => {
			const account = await stage.payer({ gas: true, permit2: 500n });
			await agentFor(account, by(type)).get();
			const source = `did:pkh:eip155:${stage.chain.chainId}:${account.address}`;
			expect(server.calls.at(-1)?.credential?.source).toBe(source);
		},
	);
});

describe("a charge by Permit2", () => {
	it("has one permitted entry for one transfer, a random nonce, the challenge and the order in its witness (draft-evm-charge-00, Permit2 Payload)", async () => {
		const offers = (relay: Relay) => [relay.charge({ credentialTypes: ["permit2"] }, { externalId: "order-7" })];
		const { relay, spy, get } = agentFor(await stage.payer({ permit2: 500n }), offers);
		expect((await get()).status).toBe(200);
		const { challenge } = server.calls.at(-1)?.credential ?? {};
		const [payload] = payloads();
		if (payload?.type !== "permit2" || challenge === undefined) throw new Error("another payload");
		expect(payload.permit.permitted).toEqual([{ token: stage.token, amount: 100n }]);
		expect(payload.transferDetails).toEqual([{ to: relay.address, requestedAmount: 100n }]);
		expect(payload.witness).toEqual({
			challengeHash: chargeNonce(challenge.id, challenge.realm),
			externalId: "order-7",
		});
		expect(payload.permit.nonce).toBeGreaterThan(2n ** 128n);
		expect(payload.permit.deadline).toBeLessThanOrEqual(BigInt(Math.ceil(Date.now() / 1_000) + 300));
		// The draft's own type string, which typed data can't say.
		expect(relay.charged).toEqual([`draft ${payload.permit.nonce}`]);
		expect(spy.hashes).toHaveLength(1);
	});

	it("by an account that signs typed data alone is in the form that wallets make", async () => {
		const { sign: _, ...wallet } = await stage.payer({ permit2: 500n });
		const relay = new Relay(stage, { offers: by("permit2") });
		server.answer(relay.script);
		const agent = clientFor(stage, wallet as LocalAccount, [server.host]);
		expect((await agent.fetch(server.url)).status).toBe(200);
		expect(relay.charged).toMatchObject([expect.stringMatching(/^eip712 /)]);
	});

	it("without an allowance is approved for, exactly", async () => {
		const account = await stage.payer({ gas: true });
		const { spy, get } = agentFor(account, by("permit2"));
		expect((await get()).status).toBe(200);
		expect(spy.transactions.map(({ to }) => to)).toEqual([stage.token]);
		expect(await stage.allowance(account.address)).toBe(0n);
	});

	it.each([
		["a Permit2 that the policy does not list", { permit2Address: STRANGER }, {}],
		["a Permit2 that is not there", { permit2Address: STRANGER }, { permit2: [STRANGER] }],
	])("is not signed for %s (draft-evm-charge-00, Permit2-Specific Risks)", async (_name, details, policy) => {
		const offers = (relay: Relay) => [relay.charge({ credentialTypes: ["permit2"], ...details })];
		const { spy, get } = agentFor(await stage.payer({ permit2: 500n }), offers, policy);
		await expect(get()).rejects.toMatchObject({ rule: "credential" });
		expect([spy.hashes, spy.signed]).toEqual([[], []]);
	});
});

describe("splits", () => {
	const one: Address = `0x${"a1".repeat(20)}`;
	const two: Address = `0x${"a2".repeat(20)}`;
	const splits = [
		{ recipient: one, amount: "30", memo: "platform" },
		{ recipient: two, amount: "1" },
	];
	const split =
		(list: readonly object[] = splits, credentialTypes = ["permit2"]) =>
		(relay: Relay) => [relay.charge({ credentialTypes, splits: list })];

	it("are paid in one signature: the rest to the recipient, then each split, in their order (draft-evm-charge-00, Payment Splits)", async () => {
		const account = await stage.payer({ permit2: 500n });
		const before = await Promise.all([one, two].map((address) => stage.balance(address)));
		const { relay, get } = agentFor(account, split(), { splitRecipients: [two, one] });
		expect((await get()).status).toBe(200);
		const [payload] = payloads();
		if (payload?.type !== "permit2") throw new Error("another payload");
		expect(payload.permit.permitted.map(({ amount }) => amount)).toEqual([69n, 30n, 1n]);
		expect(payload.transferDetails).toEqual([
			{ to: relay.address, requestedAmount: 69n },
			{ to: one, requestedAmount: 30n },
			{ to: two, requestedAmount: 1n },
		]);
		const after = await Promise.all([relay.address, one, two].map((address) => stage.balance(address)));
		expect(after).toEqual([69n, (before[0] ?? 0n) + 30n, (before[1] ?? 0n) + 1n]);
		expect(await paidBy(account)()).toBe(100n);
	});

	it("of ten recipients are paid", async () => {
		const recipients = Array.from({ length: 10 }, (_, i): Address => `0x${String(i + 10).repeat(20)}`);
		const list = recipients.map((recipient) => ({ recipient, amount: "1" }));
		const { relay, get } = agentFor(await stage.payer({ permit2: 500n }), split(list), { splitRecipients: recipients });
		expect((await get()).status).toBe(200);
		expect(await stage.balance(relay.address)).toBe(90n);
	});

	it.each<[string, readonly object[], Partial<PaymentPolicy>, string[]]>([
		["the policy names no recipients of splits", splits, {}, ["permit2"]],
		["one recipient is none that the policy names", splits, { splitRecipients: [one] }, ["permit2"]],
		[
			"the server takes them by nothing but one signature for one transfer",
			splits,
			{ splitRecipients: [one, two] },
			["authorization", "hash"],
		],
	])("are refused where %s (I11)", async (_name, list, policy, types) => {
		const { spy, get } = agentFor(await stage.payer({ permit2: 500n, gas: true }), split(list, types), policy);
		await expect(get()).rejects.toMatchObject({ code: "POLICY_REFUSED" });
		expect([spy.signed, spy.hashes, spy.transactions]).toEqual([[], [], []]);
	});

	it.each<[string, readonly object[]]>([
		["leave nothing for the recipient", [{ recipient: one, amount: "100" }]],
		["are more than ten", Array(11).fill({ recipient: one, amount: "1" })],
		["are none", []],
	])("that %s make an offer that is not answered (draft-evm-charge-00, Payment Splits)", async (_name, list) => {
		const { spy, get } = agentFor(await stage.payer({ permit2: 500n }), split(list), { splitRecipients: [one] });
		expect((await get()).status).toBe(402);
		expect(spy.hashes).toEqual([]);
	});
});

describe("a charge by the payer's own transfer", () => {
	it("of type transaction is signed for the server to broadcast: EIP-1559, transfer, exactly this (draft-evm-charge-00, Transaction Payload)", async () => {
		const account = await stage.payer({ gas: true });
		const { relay, get } = agentFor(account, by("transaction"));
		server.answer(async (call) => (call.credential === undefined ? relay.script(call) : { status: 500 }));
		expect((await get()).status).toBe(500);
		const [payload] = payloads();
		if (payload?.type !== "transaction") throw new Error("another payload");
		const { type, chainId, to, data, value = 0n } = parseTransaction(payload.signature);
		expect({ type, chainId, to, value }).toEqual({
			type: "eip1559",
			chainId: stage.chain.chainId,
			to: stage.token,
			value: 0n,
		});
		const { functionName, args } = decodeFunctionData({ abi: erc3009Abi, data: data ?? "0x" });
		expect([functionName, String(args?.[0]).toLowerCase(), args?.[1]]).toEqual(["transfer", relay.address, 100n]);
		// It is the server's to broadcast, not the payer's.
		expect(await stage.chain.client.getTransactionCount({ address: account.address })).toBe(0);
	});

	it("many at a time have one row of nonces, whichever types they are of", async () => {
		const account = await stage.payer({ gas: true });
		const { agent, relay, get } = agentFor(account, by("transaction"));
		const mixed: Script = (call) => {
			const [offer] = by(call.path === "/hash" ? "hash" : "transaction")(relay);
			return call.credential === undefined && offer !== undefined
				? refusal("payment-required", {}, offer)
				: relay.script(call);
		};
		server.answer(mixed);
		const paths = ["/", "/hash", "/", "/hash", "/", "/"];
		const answers = await Promise.all(paths.map((path) => get(path)));
		expect(answers.map(({ status }) => status)).toEqual(paths.map(() => 200));
		expect(await stage.balance(relay.address)).toBe(600n);
		expect(agent.channels).toEqual([]);
	});

	it.each(["transaction", "hash"])("of type %s is made once for a request, whose answer is lost (I6)", async (type) => {
		const account = await stage.payer({ gas: true });
		const { relay, spy, get } = agentFor(account, by(type));
		const { script } = relay;
		let cuts = 2;
		server.answer(async (call) => (call.credential !== undefined && cuts-- > 0 ? "cut" : script(call)));
		expect((await get()).status).toBe(200);
		expect(spy.transactions).toHaveLength(1);
		expect(await paidBy(account)()).toBe(100n);
	});

	it.each(["transaction", "hash"])(
		"of type %s is presented again under a fresh challenge where the first one is gone",
		async (type) => {
			const account = await stage.payer({ gas: true });
			const { relay, spy, get } = agentFor(account, by(type));
			let stale = 2;
			server.answer((call) =>
				call.credential !== undefined && stale-- > 0
					? refusal("invalid-challenge", {}, ...by(type)(relay))
					: relay.script(call),
			);
			expect((await get()).status).toBe(200);
			expect(spy.transactions).toHaveLength(1);
			expect(new Set(server.calls.flatMap(({ credential }) => credential?.challenge.id ?? [])).size).toBe(3);
			expect(await paidBy(account)()).toBe(100n);
		},
	);

	it("is presented under a fresh challenge where its own expired while it was mined (core, Optional Parameters)", async () => {
		let ahead = 0;
		const account = await stage.payer({ gas: true });
		const { relay, spy, get } = agentFor(account, by("hash"), {}, { now: () => Date.now() + ahead });
		whileSigning(spy, () => {
			ahead = 120_000;
		});
		const challenges: Challenge[] = [];
		server.answer((call) => {
			if (call.credential !== undefined) return relay.script(call);
			const [offer] = by("hash")(relay);
			if (offer === undefined) throw new Error("no offer");
			const expires = new Date(Date.now() + (challenges.length === 0 ? 60_000 : 600_000)).toISOString();
			challenges.push({ ...offer, expires });
			return refusal("payment-required", {}, ...challenges.slice(-1));
		});
		expect((await get()).status).toBe(200);
		expect(server.calls.map(({ credential }) => credential?.challenge.id)).toEqual([
			undefined,
			undefined,
			challenges[1]?.id,
		]);
		expect(spy.transactions).toHaveLength(1);
		expect(await paidBy(account)()).toBe(100n);
	});

	it.each(["transaction", "hash"])(
		"of type %s whose request failed pays for the next one: nothing is paid twice",
		async (type) => {
			const account = await stage.payer({ gas: true });
			const { relay, spy, get } = agentFor(account, by(type), {}, NO_RETRIES);
			const { script } = relay;
			server.answer((call) => (call.credential === undefined ? script(call) : "cut"));
			await expect(get()).rejects.toThrow();
			server.answer((call) => (call.credential === undefined ? script(call) : { status: 500 }));
			expect((await get()).status).toBe(500);
			server.answer(script);
			expect((await get()).status).toBe(200);
			expect(spy.transactions).toHaveLength(1);
			expect(await paidBy(account)()).toBe(100n);
			// And not for one more.
			expect((await get()).status).toBe(200);
			expect(await paidBy(account)()).toBe(200n);
		},
	);

	it("that the server has used already is not presented for ever: another one is made, once", async () => {
		const account = await stage.payer({ gas: true });
		const { relay, spy, get } = agentFor(account, by("hash"), {}, NO_RETRIES);
		const losing = async (call: Call): Promise<Reply> => {
			const reply = await relay.script(call);
			return call.credential === undefined ? reply : "cut";
		};
		server.answer(losing);
		await expect(get()).rejects.toThrow();
		server.answer(relay.script);
		expect((await get()).status).toBe(200);
		expect(spy.transactions).toHaveLength(2);
		expect(relay.charged).toHaveLength(2);
	});

	it("that is refused without end is made once for each request", async () => {
		const account = await stage.payer({ gas: true });
		const { relay, spy, get } = agentFor(account, by("hash"));
		server.answer((call) =>
			call.credential === undefined ? relay.script(call) : refusal("verification-failed", {}, ...by("hash")(relay)),
		);
		for (let i = 0; i < 3; i++) expect((await get()).status).toBe(402);
		expect(spy.transactions.length).toBeLessThanOrEqual(3);
		expect(server.calls.length).toBeLessThan(20);
	});

	it("for other terms than those that were paid is another payment: what was paid is kept for its own", async () => {
		const account = await stage.payer({ gas: true });
		const other: Address = `0x${"a3".repeat(20)}`;
		const { relay, spy, get } = agentFor(account, by("hash"), {}, NO_RETRIES);
		const changed = (one: Relay) => [one.charge({ credentialTypes: ["hash"] }, { amount: "90", recipient: other })];
		server.answer((call) =>
			call.credential === undefined ? relay.script(call) : refusal("invalid-challenge", {}, ...changed(relay)),
		);
		expect((await get()).status).toBe(402);
		expect(spy.transactions).toHaveLength(1);
		server.answer(relay.script);
		expect((await get()).status).toBe(200);
		expect(spy.transactions).toHaveLength(1);
	});

	it("is not presented as what the server does not take any more: a hash is kept for who takes hashes", async () => {
		const account = await stage.payer({ gas: true });
		let types = ["hash"];
		const { relay, get } = agentFor(account, (one) => by(...types)(one), {}, NO_RETRIES);
		server.answer((call) => (call.credential === undefined ? relay.script(call) : "cut"));
		await expect(get()).rejects.toThrow();
		server.answer(relay.script);
		for (const type of ["transaction", "hash"]) {
			types = [type];
			expect((await get()).status).toBe(200);
		}
		expect(payloads().map(({ type }) => type)).toEqual(["hash", "transaction", "hash"]);
		expect(await paidBy(account)()).toBe(200n);
	});

	it("that reverts is not presented, and said", async () => {
		const account = await stage.payer({ gas: true, funds: 99n });
		for (const type of ["hash", "transaction"]) {
			await expect(agentFor(account, by(type)).get()).rejects.toMatchObject({ code: "TRANSACTION_REVERTED" });
		}
		expect(payloads()).toEqual([]);
	});

	it("is not made where the policy allows no own transactions (I11)", async () => {
		const account = await stage.payer({ gas: true });
		const { spy, get } = agentFor(account, by("transaction", "hash"), { ownTransactions: false });
		await expect(get()).rejects.toMatchObject({ rule: "credential" });
		expect(spy.transactions).toEqual([]);
	});

	it("is not made for a request that was aborted before, and kept for the next where it was aborted meanwhile", async () => {
		const account = await stage.payer({ gas: true });
		const { relay, spy, get } = agentFor(account, by("hash"));
		const controller = new AbortController();
		whileSigning(spy, () => controller.abort(new Error("changed my mind")));
		await expect(get("/", { signal: controller.signal })).rejects.toThrow("changed my mind");
		expect(payloads()).toEqual([]);
		expect((await get()).status).toBe(200);
		expect(spy.transactions).toHaveLength(1);
		expect(relay.charged).toHaveLength(1);
	});
});

it("another payer's key is never asked for: all is signed by the account that the client was given", async () => {
	const other = spyOn(privateKeyToAccount(generatePrivateKey()));
	const account = await stage.payer({ permit2: 500n });
	const { get } = agentFor(account, by("permit2"), {}, { authorizedSigner: other.account });
	expect((await get()).status).toBe(200);
	expect([other.signed, other.hashes, other.transactions]).toEqual([[], [], []]);
	expect(await stage.allowance(account.address, CANONICAL_PERMIT2)).toBe(400n);
});
