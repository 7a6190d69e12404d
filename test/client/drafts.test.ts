/** What the drafts ask of clients, one test for each demand that no other test of this folder names. */

import {
	type Address,
	concat,
	encodeDeployData,
	getContractAddress,
	getCreate2Address,
	type Hex,
	type LocalAccount,
	parseTransaction,
} from "viem";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { PaymentClientOptions, PaymentPolicy } from "../../src/client/index.ts";
import {
	approveCall,
	openCall,
	paymentChannelEscrowAbi,
	paymentChannelEscrowBytecode,
} from "../../src/escrow/index.ts";
import {
	type Challenge,
	contentDigest,
	parseChargePayload,
	parseSessionPayload,
	parseTimestamp,
	paymentCredentials,
} from "../../src/protocol/index.ts";
import {
	authorizationDigest,
	CANONICAL_PERMIT2,
	channelPermitDigest,
	chargeNonce,
	computeChannelId,
	createPermit2Domain,
	createVoucherVerifier,
	topUpAuthorizationNonce,
	ZERO_ADDRESS,
} from "../../src/voucher/index.ts";
import permit2Code from "../fixtures/permit2.json" with { type: "json" };
import { Relay, type RelayOptions } from "./relay.ts";
import { createStage, type Stage } from "./stage.ts";
import { clientFor, paymentRequired, type ScriptedServer, STRANGER, scriptedServer, spyOn } from "./support.ts";

const verifier = createVoucherVerifier();

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
	return { agent, spy, relay, get: (init?: RequestInit) => agent.fetch(`${server.url}/`, init) };
}

const byOffers = (offers: (relay: Relay) => readonly Challenge[]): RelayOptions => ({ offers });
const bySession = (details: Record<string, unknown>, terms: Record<string, unknown> = {}): RelayOptions => ({
	details,
	terms,
});
const lastCredential = () => {
	const credential = server.calls.at(-1)?.credential;
	if (credential === undefined) throw new Error("nothing was paid");
	return credential;
};
const lastCharge = () => parseChargePayload(lastCredential().payload);

describe("the scheme", () => {
	it("the credential echoes every parameter of the challenge byte for byte, also the members of its request that the client does not know", async () => {
		let asked: Challenge | undefined;
		const offers = (relay: Relay) => {
			asked ??= {
				...relay.session({ unknown: { é: [1, "2"] } }, { alsoUnknown: true }),
				description: 'Grüße, "quoted"',
				digest: contentDigest(new Uint8Array()),
			};
			return [asked];
		};
		const { get } = agentFor(await stage.payer(), byOffers(offers));
		expect((await get()).status).toBe(200);
		expect(lastCredential().challenge).toEqual(asked);
		expect(Object.keys(lastCredential().challenge).sort()).toEqual([
			"description",
			"digest",
			"expires",
			"id",
			"intent",
			"method",
			"opaque",
			"realm",
			"request",
		]);
	});

	it("a description that promises a lower price than the request changes nothing of what the client checks and signs", async () => {
		const cheap = (amount: string) => (relay: Relay) => [
			{
				...relay.charge({ credentialTypes: ["authorization"] }, { amount, description: "only 1 unit" }),
				description: "only 1 unit",
			},
		];
		const dear = agentFor(await stage.payer(), byOffers(cheap("1001")));
		await expect(dear.get()).rejects.toMatchObject({ rule: "price" });
		expect(dear.spy.signed).toEqual([]);
		const allowed = agentFor(await stage.payer(), byOffers(cheap("100")));
		expect((await allowed.get()).status).toBe(200);
		expect(allowed.spy.charges().map(({ value }) => value)).toEqual([100n]);
	});

	it("the client takes the first offer that its policy allows, or the one its preference names", async () => {
		const offers = (relay: Relay) => [
			relay.session({ amount: "1001" }),
			relay.session(),
			relay.charge({ credentialTypes: ["authorization"] }),
		];
		expect((await agentFor(await stage.payer(), byOffers(offers)).get()).status).toBe(200);
		expect(lastCredential().challenge.intent).toBe("session");
		const preferring = { prefer: ["evm/charge", "evm/session;q=0.1"] };
		expect((await agentFor(await stage.payer(), byOffers(offers), {}, preferring).get()).status).toBe(200);
		expect(lastCredential().challenge.intent).toBe("charge");
	});

	it("a paid request carries exactly one Payment credential, beside the caller's own Authorization of another scheme", async () => {
		const sent = async (authorization?: string) => {
			const headers: string[] = [];
			const fetch: typeof globalThis.fetch = async (input, init) => {
				headers.push(new Request(input, init).headers.get("authorization") ?? "");
				const [credential] = paymentCredentials(headers.at(-1) ?? "");
				const request = new Request(input, init);
				request.headers.delete("authorization");
				// The server of this test reads one credential, and no other scheme.
				if (credential !== undefined && credential !== authorization) request.headers.set("authorization", credential);
				return globalThis.fetch(request);
			};
			const { get } = agentFor(await stage.payer(), {}, {}, { fetch });
			expect((await get(authorization === undefined ? {} : { headers: { authorization } })).status).toBe(200);
			return headers;
		};
		const alone = await sent();
		expect(alone.map((header) => paymentCredentials(header).length)).toEqual([0, 1]);
		const beside = await sent("Bearer abc.def");
		expect(beside[0]).toBe("Bearer abc.def");
		expect(beside[1]?.startsWith("Bearer abc.def, Payment ")).toBe(true);
		expect(paymentCredentials(beside[1])).toHaveLength(1);
		// A credential of this scheme that the caller brought itself is replaced: there is one.
		const replaced = await sent("Payment e30");
		expect(replaced.map((header) => paymentCredentials(header).length)).toEqual([1, 1]);
		expect(replaced[1]).not.toContain("e30");
	});

	it("the client answers a challenge with a digest only with a body that has it, and refuses one that names another body", async () => {
		const digestOf = (text: string) => contentDigest(new TextEncoder().encode(text));
		const offers = (relay: Relay) => [{ ...relay.session(), digest: digestOf("order 7") }];
		const { spy, get } = agentFor(await stage.payer(), byOffers(offers));
		await expect(get({ method: "POST", body: "order 8" })).rejects.toMatchObject({ rule: "digest" });
		expect(spy.signed).toEqual([]);
		expect((await get({ method: "POST", body: "order 7" })).status).toBe(200);
		expect(lastCredential().challenge.digest).toBe(digestOf("order 7"));
		expect(server.calls.at(-1)?.body).toBe("order 7");
	});
});

describe("sessions", () => {
	it("the client's top-up authorization has the nonce of the draft, in the credential and in what is signed", async () => {
		const account = await stage.payer();
		const terms = bySession({ credentialTypes: ["authorization"] }, { suggestedDeposit: "100" });
		const { agent, spy, get } = agentFor(account, terms, { maxDeposit: 100n });
		for (let i = 0; i < 2; i++) expect((await get()).status).toBe(200);
		const payload = parseSessionPayload(lastCredential().payload);
		if (payload.action !== "voucher" || payload.deposit?.type !== "authorization") throw new Error("no top-up");
		const { deposit, channelId } = payload;
		const { authorization, salt, signature } = deposit;
		expect(channelId).toBe(agent.channels[0]?.channelId);
		const from = account.address.toLowerCase() as Address;
		const nonce = topUpAuthorizationNonce({ channelId, additionalDeposit: 100n, from, topUpSalt: salt });
		expect(authorization.nonce).toBe(nonce);
		expect(spy.deposits().at(-1)?.nonce).toBe(nonce);
		const { chainId } = stage.chain;
		const domain = { name: "USD Coin", version: "2", chainId, verifyingContract: stage.token };
		expect(verifier.verifyDigest(from, authorizationDigest("receive", domain, authorization), signature)).toBe("valid");
	});

	it("the client submits hash only where the challenge lists it or lists nothing", async () => {
		const typesOf = async (credentialTypes: readonly string[] | undefined) => {
			const { get } = agentFor(await stage.payer({ gas: true }), bySession({ credentialTypes }));
			await get().catch(() => undefined);
			return server.payloads("open").at(-1)?.type;
		};
		expect(await typesOf(["permit2", "authorization"])).toBe("authorization");
		expect(await typesOf(["hash"])).toBe("hash");
		expect(await typesOf(undefined)).toBe("hash");
		const refused = agentFor(await stage.payer({ gas: true }), bySession({ credentialTypes: ["permit2"] }), {
			permit2: [STRANGER],
		});
		await expect(refused.get()).rejects.toMatchObject({ rule: "credential" });
		expect(refused.spy.transactions).toEqual([]);
	});

	it("the client tops up before it signs a voucher above the deposit, and goes on with the same channel", async () => {
		const terms = bySession({ credentialTypes: ["authorization"] }, { suggestedDeposit: "200" });
		const { agent, spy, relay, get } = agentFor(await stage.payer(), terms, { maxDeposit: 200n });
		for (let i = 0; i < 5; i++) {
			expect((await get()).status).toBe(200);
			const [channel] = agent.channels;
			const onChain = await stage.onChain(channel?.channelId ?? "0x");
			expect(Math.max(...spy.vouchers().map(Number))).toBeLessThanOrEqual(Number(onChain?.deposit));
		}
		expect(agent.channels).toHaveLength(1);
		expect(relay.executed).toEqual(["open authorization", "topUp authorization", "topUp authorization"]);
		expect(new Set(server.payloads().map(({ channelId }) => channelId)).size).toBe(1);
	});

	it("every channel that the client opens has a salt of its own, 32 random bytes", async () => {
		const { agent, get } = agentFor(await stage.payer(), bySession({ credentialTypes: ["authorization"] }));
		for (let i = 0; i < 4; i++) {
			expect((await get()).status).toBe(200);
			await agent.close();
		}
		const salts = server.payloads("open").map(({ salt }) => String(salt));
		expect(new Set(salts).size).toBe(4);
		for (const salt of salts) expect(salt).toMatch(/^0x[0-9a-f]{64}$/);
		// No byte is the same in all of them: what counts up, or is padded, would be.
		const bytes = Array.from({ length: 32 }, (_, at) => salts.map((salt) => salt.slice(2 + 2 * at, 4 + 2 * at)));
		expect(bytes.filter((column) => new Set(column).size === 1).length).toBeLessThan(4);
	});

	it("the client's permit has the escrow as spender and the channel as witness, for open and top-up", async () => {
		const account = await stage.payer({ permit2: 10_000n });
		const terms = bySession({ credentialTypes: ["permit2"] }, { suggestedDeposit: "100" });
		const { relay, get } = agentFor(account, terms, { maxDeposit: 100n });
		for (let i = 0; i < 2; i++) expect((await get()).status).toBe(200);
		const payer = account.address.toLowerCase() as Address;
		const domain = createPermit2Domain(stage.chain.chainId, CANONICAL_PERMIT2);
		const [open, voucher] = server.payloads().map((payload) => parseSessionPayload(payload));
		if (open?.action !== "open" || open.type !== "permit2") throw new Error("no open");
		if (voucher?.action !== "voucher" || voucher.deposit?.action !== "topUp" || voucher.deposit.type !== "permit2")
			throw new Error("no top-up");
		const { salt, authorizedSigner } = open;
		expect(open.authorization.witness).toEqual({ payee: relay.address, salt, authorizedSigner });
		expect(voucher.deposit.authorization.witness).toEqual({ channelId: voucher.channelId });
		for (const { authorization, signature } of [open, voucher.deposit]) {
			const permit = { ...authorization, spender: stage.escrow };
			expect(verifier.verifyDigest(payer, channelPermitDigest(domain, permit), signature)).toBe("valid");
			const other = { ...authorization, spender: STRANGER };
			expect(verifier.verifyDigest(payer, channelPermitDigest(domain, other), signature)).toBe("signer-mismatch");
			expect(authorization.permitted).toEqual({ token: stage.token, amount: 100n });
		}
	});

	it("the client signs for the Permit2 that the challenge names, and for the canonical one where it names none", async () => {
		const salt: Hex = `0x${"42".repeat(32)}`;
		const factory = permit2Code.factory as Address;
		const bytecode = permit2Code.initCode as Hex;
		await stage.send({ to: factory, data: concat([salt, bytecode]) });
		const other = getCreate2Address({ from: factory, salt, bytecode }).toLowerCase() as Address;
		const deployer = stage.chain.account(6);
		await stage.send(
			{
				to: null,
				data: encodeDeployData({
					abi: paymentChannelEscrowAbi,
					bytecode: paymentChannelEscrowBytecode,
					args: [900n, other],
				}),
			},
			deployer,
		);
		const nonce = (await stage.chain.client.getTransactionCount({ address: deployer.address })) - 1;
		const escrow = getContractAddress({ from: deployer.address, nonce: BigInt(nonce) }).toLowerCase() as Address;
		const account = await stage.payer({ gas: true, permit2: 5_000n });
		await stage.send(approveCall(stage.token, other, 5_000n), account);
		const signedFor = async (details: Record<string, unknown>) => {
			const { spy, relay, get } = agentFor(
				account,
				{},
				{ permit2: [CANONICAL_PERMIT2, other], escrows: [stage.escrow, escrow] },
			);
			server.answer(() => paymentRequired(relay.session({}, { credentialTypes: ["permit2"], ...details })));
			await get().catch(() => undefined);
			return spy.signed.flatMap(({ primaryType, domain }) =>
				primaryType === "PermitWitnessTransferFrom"
					? [(domain as { verifyingContract: string }).verifyingContract]
					: [],
			);
		};
		expect(await signedFor({ escrowContract: escrow, permit2Contract: other })).toEqual([other]);
		expect(await signedFor({})).toEqual([CANONICAL_PERMIT2]);
		// Each of them with the other's escrow would only revert.
		expect(await signedFor({ escrowContract: escrow })).toEqual([]);
		expect(await signedFor({ permit2Contract: other })).toEqual([]);
	});

	it("the client resumes the channel that a challenge names only if the escrow holds the price unsettled in it, and it is the payer's own", async () => {
		const paidOn = async (deposit: bigint, owner: LocalAccount, payer = owner) => {
			const parameters = {
				payer: owner.address,
				payee: "0x" as Address,
				token: stage.token,
				salt: `0x${crypto.randomUUID().replaceAll("-", "").padEnd(64, "0")}` as Hex,
				authorizedSigner: ZERO_ADDRESS,
				escrow: stage.escrow,
				chainId: stage.chain.chainId,
			};
			let channelId: Hex = "0x";
			const { relay, spy, get } = agentFor(
				payer,
				byOffers((one) => [one.session({}, { credentialTypes: ["authorization"], channelId })]),
			);
			const channel = { ...parameters, payee: relay.payee.address };
			channelId = computeChannelId(channel);
			await stage.send(approveCall(stage.token, stage.escrow, deposit), owner);
			await stage.send(openCall(stage.escrow, { ...channel, deposit }), owner);
			relay.remember(channelId, 0n, 0n);
			expect((await get()).status).toBe(200);
			return spy.vouchers(channelId);
		};
		const account = await stage.payer({ gas: true });
		expect(await paidOn(100n, account)).toEqual([100n]);
		expect(await paidOn(99n, account)).toEqual([]);
		expect(await paidOn(100n, await stage.payer({ gas: true }), account)).toEqual([]);
	});
});

describe("charges", () => {
	const by = (...credentialTypes: readonly string[]) => byOffers((relay) => [relay.charge({ credentialTypes })]);

	it("a charge's credential names its payer by did:pkh on the challenge's chain", async () => {
		for (const type of ["authorization", "permit2", "transaction", "hash"]) {
			const account = await stage.payer({ gas: true, permit2: 500n });
			expect((await agentFor(account, by(type)).get()).status).toBe(200);
			expect(lastCredential().source).toBe(`did:pkh:eip155:${stage.chain.chainId}:${account.address}`);
		}
	});

	it("a charge's authorization ends with its challenge", async () => {
		const { get } = agentFor(
			await stage.payer(),
			byOffers((relay) => [
				{
					...relay.charge({ credentialTypes: ["authorization"] }),
					expires: new Date(Date.now() + 77_000).toISOString(),
				},
			]),
		);
		expect((await get()).status).toBe(200);
		const payload = lastCharge();
		if (payload.type !== "authorization") throw new Error("another payload");
		const { expires = "" } = lastCredential().challenge;
		expect(payload.validBefore).toBe(BigInt(Math.floor((parseTimestamp(expires) ?? 0) / 1_000)));
	});

	it("the client takes the server's first type that it can make: permit2 only where Permit2 has its allowance", async () => {
		const all = by("permit2", "authorization", "transaction", "hash");
		expect((await agentFor(await stage.payer({ permit2: 100n }), all).get()).status).toBe(200);
		expect(lastCharge().type).toBe("permit2");
		expect((await agentFor(await stage.payer({ permit2: 99n, gas: true }), all).get()).status).toBe(200);
		expect(lastCharge().type).toBe("authorization");
	});

	const splits = [
		{ recipient: `0x${"a1".repeat(20)}`, amount: "30" },
		{ recipient: `0x${"a2".repeat(20)}`, amount: "1" },
	] as const;
	const splitBy = (list: readonly object[]) =>
		byOffers((relay) => [relay.charge({ credentialTypes: ["permit2"], splits: list })]);
	const recipients = splits.map(({ recipient }) => recipient);

	it("the client refuses splits that its policy does not name, or that leave nothing for the recipient", async () => {
		const account = await stage.payer({ permit2: 500n });
		for (const named of [undefined, [], recipients.slice(1)]) {
			const policy = named === undefined ? {} : { splitRecipients: named };
			const { spy, get } = agentFor(account, splitBy(splits), policy);
			await expect(get()).rejects.toMatchObject({ code: "POLICY_REFUSED", rule: "splits" });
			expect([spy.hashes, spy.signed]).toEqual([[], []]);
		}
		for (const amount of ["70", "71", "100"]) {
			const greedy = [splits[0], { ...splits[1], amount }];
			const { spy, get } = agentFor(account, splitBy(greedy), { splitRecipients: recipients });
			// An offer that breaks the draft's rule is none.
			expect((await get()).status).toBe(402);
			expect([spy.hashes, spy.signed]).toEqual([[], []]);
		}
	});

	it("the client signs one transfer for the recipient and one for each split, in the challenge's order", async () => {
		for (const list of [splits, [...splits].reverse()]) {
			const account = await stage.payer({ permit2: 500n });
			const { relay, get } = agentFor(account, splitBy(list), { splitRecipients: recipients });
			expect((await get()).status).toBe(200);
			const payload = lastCharge();
			if (payload.type !== "permit2") throw new Error("another payload");
			expect(payload.transferDetails).toEqual([
				{ to: relay.address, requestedAmount: 69n },
				...list.map(({ recipient, amount }) => ({ to: recipient, requestedAmount: BigInt(amount) })),
			]);
			const amounts = payload.transferDetails.map(({ requestedAmount }) => requestedAmount);
			expect(payload.permit.permitted).toEqual(amounts.map((amount) => ({ token: stage.token, amount })));
			expect(await stage.balance(relay.address)).toBe(69n);
		}
	});

	it("the client's witness has the challenge's hash and externalId, the empty text where there is none", async () => {
		for (const externalId of [undefined, "order-7", ""]) {
			const offers = (relay: Relay) => [
				relay.charge({ credentialTypes: ["permit2"] }, externalId === undefined ? {} : { externalId }),
			];
			expect((await agentFor(await stage.payer({ permit2: 500n }), byOffers(offers)).get()).status).toBe(200);
			const payload = lastCharge();
			if (payload.type !== "permit2") throw new Error("another payload");
			const { id, realm } = lastCredential().challenge;
			expect(payload.witness).toEqual({ challengeHash: chargeNonce(id, realm), externalId: externalId ?? "" });
		}
	});

	it("the client signs for the canonical Permit2 only, or for one that its policy names", async () => {
		const account = await stage.payer({ permit2: 500n });
		const naming = (permit2Address: Address | undefined) =>
			byOffers((relay) => [relay.charge({ credentialTypes: ["permit2"], permit2Address })]);
		for (const permit2 of [undefined, CANONICAL_PERMIT2])
			expect((await agentFor(account, naming(permit2)).get()).status).toBe(200);
		const stranger = agentFor(account, naming(STRANGER));
		await expect(stranger.get()).rejects.toMatchObject({ rule: "credential" });
		const other = agentFor(account, naming(undefined), { permit2: [STRANGER] });
		await expect(other.get()).rejects.toMatchObject({ rule: "credential" });
		expect([stranger.spy.hashes, other.spy.hashes]).toEqual([[], []]);
	});

	it("the client's transaction is an EIP-1559 transfer of exactly the price, with gas and nonce of its own", async () => {
		const account = await stage.payer({ gas: true });
		const { relay, get } = agentFor(account, by("transaction"));
		for (let nonce = 0; nonce < 2; nonce++) {
			expect((await get()).status).toBe(200);
			const payload = lastCharge();
			if (payload.type !== "transaction") throw new Error("another payload");
			const transaction = parseTransaction(payload.signature);
			expect(transaction).toMatchObject({ type: "eip1559", chainId: stage.chain.chainId, to: stage.token });
			expect(transaction.nonce ?? 0).toBe(nonce);
			expect(transaction.gas).toBeGreaterThan(21_000n);
			expect(transaction.maxFeePerGas).toBeGreaterThan(0n);
			expect(transaction.value ?? 0n).toBe(0n);
			expect(await stage.balance(relay.address)).toBe(100n * BigInt(nonce + 1));
		}
	});
});
