import { Challenge, Credential, evm, Receipt } from "mppx";
import { getAddress, type Hex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import type { PaymentPolicy } from "../../src/client/index.ts";
import {
	AUTHORIZATION,
	decodeCoreReceipt,
	decodeReceipt,
	formatSource,
	MalformedReceiptError,
	PAYMENT_RECEIPT,
	parseChallenge,
	parseChargeRequest,
	parseProblem,
	WWW_AUTHENTICATE,
} from "../../src/protocol/index.ts";
import { clientFor, spyOn } from "../client/support.ts";
import { createWorld, FUNDS, type World } from "../support/world.ts";
import { type MppxServerOptions, type RunningMppxServer, SECRET, startMppxServer } from "./mppx.ts";

/** What mppx's server asks for: 0.0001 of a token with six decimals. */
const PRICE = 100n;

let world: World;
const servers: RunningMppxServer[] = [];

beforeAll(async () => {
	world = await createWorld();
});
afterAll(() => world.stop());
afterEach(async () => {
	for (const running of servers.splice(0)) await running.stop();
});

let server: RunningMppxServer;
let recipient: Hex;
beforeEach(async () => {
	recipient = privateKeyToAccount(generatePrivateKey()).address;
	server = await serve();
});

async function serve(options: Partial<MppxServerOptions> = {}): Promise<RunningMppxServer> {
	const running = await startMppxServer(world, { recipient, ...options });
	servers.push(running);
	return running;
}

/** Our client with a payer of its own; what it signs and sends is kept. */
async function agentFor({ policy = {}, funds = FUNDS }: { policy?: Partial<PaymentPolicy>; funds?: bigint } = {}) {
	const payer = await world.payer({ funds });
	const { account, signed } = spyOn(payer.account);
	const credentials: string[] = [];
	const fetch: typeof globalThis.fetch = (input, init) => {
		const request = new Request(input, init);
		const credential = request.headers.get(AUTHORIZATION);
		if (credential !== null) credentials.push(credential);
		return globalThis.fetch(request);
	};
	const hosts = servers.map(({ host }) => host);
	return { payer, signed, credentials, agent: clientFor(world, account, hosts, policy, { fetch }) };
}

describe("mppx's evm charge server", () => {
	it("is paid by our client: 402, policy, credential, 200; the price has moved and the payer spent no gas", async () => {
		const { agent, payer, credentials } = await agentFor({ policy: { payees: [recipient.toLowerCase() as Hex] } });
		const response = await agent.fetch(`${server.url}/quote`);
		expect(await response.text()).toBe('{"served":1}');
		expect(response.status).toBe(200);
		expect(await world.balance(recipient)).toBe(PRICE);
		expect(await world.balance(payer.address)).toBe(FUNDS - PRICE);
		expect(await world.chain.client.getTransactionCount({ address: payer.address })).toBe(0);
		expect(credentials).toHaveLength(1);
		expect(server.settlements).toEqual([Receipt.fromResponse(response).reference]);
	});

	it("reads our credential with its own schema, names its payer in EIP-55 case as it compares it, and finds its challenge as issued", async () => {
		const { agent, payer, credentials } = await agentFor();
		await agent.fetch(`${server.url}/quote`);
		const read = Credential.deserialize(credentials[0] ?? "");
		expect(evm.ChargePayloadSchema.parse(read.payload)).toEqual(read.payload);
		expect(read.source).toBe(`did:pkh:eip155:${world.chain.chainId}:${getAddress(payer.address)}`);
		expect((read.payload as { nonce: string }).nonce).toBe(evm.challengeHash(read.challenge));
	});

	it("answers with a core receipt, without the challengeId and chainId of the charge draft: decodeCoreReceipt reads it, the client takes the answer as paid", async () => {
		const { agent } = await agentFor();
		const response = await agent.fetch(`${server.url}/quote`);
		expect(response.status).toBe(200);
		const receipt = Receipt.fromResponse(response);
		expect(Object.keys(receipt).sort()).toEqual(["method", "reference", "status", "timestamp"]);
		const header = response.headers.get(PAYMENT_RECEIPT) ?? "";
		expect(() => decodeReceipt(header)).toThrow(MalformedReceiptError);
		expect(decodeCoreReceipt(header)).toEqual({ ...receipt });
		// With the draft's two members it is a charge receipt of ours.
		const { challenge } = parseChallenge((await fetch(server.url)).headers.get(WWW_AUTHENTICATE) ?? "");
		const draft = { challengeId: challenge.id, chainId: world.chain.chainId };
		const whole = Receipt.serialize(Object.assign(receipt, draft));
		expect(decodeReceipt(whole)).toMatchObject({ intent: "charge", reference: receipt.reference });
	});

	it("is paid again for every request, and for a POST", async () => {
		const { agent } = await agentFor();
		for (const init of [{}, {}, { method: "POST", body: "question" }])
			expect((await agent.fetch(`${server.url}/quote`, init)).status).toBe(200);
		expect(await world.balance(recipient)).toBe(3n * PRICE);
		expect(server.served()).toBe(3);
	});

	it("is paid the one of its two offers that the policy allows", async () => {
		const twofold = await serve({ dearer: "0.9" });
		const { agent } = await agentFor();
		expect((await agent.fetch(twofold.url)).status).toBe(200);
		expect(await world.balance(recipient)).toBe(PRICE);
	});

	it.each(['A "fresh" quote', "Café crème — 日本"])("is paid whatever its description is: %s", async (description) => {
		const described = await serve({ description, externalId: "order-7" });
		const { agent } = await agentFor();
		const response = await agent.fetch(described.url);
		expect(response.status).toBe(200);
		expect(await world.balance(recipient)).toBe(PRICE);
	});

	it("states its terms in a request that we read as the charge draft's", async () => {
		const described = await serve({ externalId: "order-7" });
		const { request } = parseChallenge((await fetch(described.url)).headers.get(WWW_AUTHENTICATE) ?? "");
		expect(parseChargeRequest(request)).toEqual({
			amount: PRICE,
			currency: world.token.toLowerCase(),
			recipient: recipient.toLowerCase(),
			externalId: "order-7",
			methodDetails: { chainId: world.chain.chainId, credentialTypes: ["authorization"], decimals: 6 },
		});
	});

	it.each([
		["a price", "price", { maxPrice: PRICE - 1n }],
		["a payee", "payee", { payees: [`0x${"99".repeat(20)}`] }],
		["a chain", "chain", { chainIds: [1] }],
		["a token", "token", { tokens: [`0x${"88".repeat(20)}`] }],
	] as const)("gets no signature for %s outside the policy (I11)", async (_, rule, policy) => {
		const { agent, signed } = await agentFor({ policy: policy as Partial<PaymentPolicy> });
		await expect(agent.fetch(server.url)).rejects.toMatchObject({ code: "POLICY_REFUSED", rule });
		expect(signed).toEqual([]);
	});
});

describe("a refusal of mppx's server, as our client sees it", () => {
	it("a payer without money: the 402 is handed on with its problem, and not answered again", async () => {
		const { agent, credentials } = await agentFor({ funds: PRICE - 1n });
		const response = await agent.fetch(server.url);
		expect(response.status).toBe(402);
		expect(parseProblem(await response.json())).toMatchObject({
			type: "https://paymentauth.org/problems/verification-failed",
			title: "Verification Failed",
			status: 402,
			challengeId: expect.any(String),
		});
		expect(credentials).toHaveLength(1);
		expect(await world.balance(recipient)).toBe(0n);
	});

	it("a credential that was used: refused by the token, since mppx keeps no record of it; charged once", async () => {
		const { agent, credentials } = await agentFor();
		expect((await agent.fetch(server.url)).status).toBe(200);
		const again = await fetch(server.url, { headers: { [AUTHORIZATION]: credentials[0] ?? "" } });
		expect(again.status).toBe(402);
		expect(parseProblem(await again.json())?.type).toBe("https://paymentauth.org/problems/verification-failed");
		expect(await world.balance(recipient)).toBe(PRICE);
		expect(server.served()).toBe(1);
	});

	it("a challenge that has expired: 402 payment-expired, where ours says invalid-challenge", async () => {
		const { agent, credentials } = await agentFor();
		expect((await agent.fetch(server.url)).status).toBe(200);
		vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 301_000 });
		try {
			const late = await fetch(server.url, { headers: { [AUTHORIZATION]: credentials[0] ?? "" } });
			expect(late.status).toBe(402);
			expect(parseProblem(await late.json())?.type).toBe("https://paymentauth.org/problems/payment-expired");
		} finally {
			vi.useRealTimers();
		}
	});

	it("an echo that was changed: 402 invalid-challenge with a fresh challenge", async () => {
		const { agent, credentials } = await agentFor();
		expect((await agent.fetch(server.url)).status).toBe(200);
		const read = Credential.deserialize(credentials[0] ?? "");
		const altered = Credential.serialize({ ...read, challenge: { ...read.challenge, realm: "elsewhere" } });
		const response = await fetch(server.url, { headers: { [AUTHORIZATION]: altered } });
		expect(response.status).toBe(402);
		expect(parseProblem(await response.json())?.type).toBe("https://paymentauth.org/problems/invalid-challenge");
		const { challenge } = parseChallenge(response.headers.get(WWW_AUTHENTICATE) ?? "");
		expect(challenge.id).toBe(Challenge.fromResponse(response).id);
		expect(challenge.id).not.toBe(read.challenge.id);
	});

	it("difference: a payer named in lowercase: 402 verification-failed, since sources are compared as text", async () => {
		const { agent, payer, credentials } = await agentFor();
		expect((await agent.fetch(server.url)).status).toBe(200);
		const read = Credential.deserialize(credentials[0] ?? "");
		const lowercase = Credential.serialize({ ...read, source: formatSource(world.chain.chainId, payer.address) });
		const response = await fetch(server.url, { headers: { [AUTHORIZATION]: lowercase } });
		expect(response.status).toBe(402);
		expect(parseProblem(await response.json())?.detail).toMatch(/source mismatch/);
	});

	it("difference: a payload of the wrong shape: 402 invalid-payload, where core has malformed-credential", async () => {
		const challenge = Challenge.fromResponse(await fetch(server.url));
		const credential = Credential.serialize({ challenge, payload: { type: "authorization" } });
		const response = await fetch(server.url, { headers: { [AUTHORIZATION]: credential } });
		expect(response.status).toBe(402);
		expect(parseProblem(await response.json())?.type).toBe("https://paymentauth.org/problems/invalid-payload");
	});

	it("a paid answer that was lost: the same credential is sent again, mppx can't tell that it paid, and nothing is paid twice (I11)", async () => {
		const payer = await world.payer();
		const { account, charges } = spyOn(payer.account);
		let lost = 0;
		const fetch: typeof globalThis.fetch = async (input, init) => {
			const request = new Request(input, init);
			const response = await globalThis.fetch(request);
			if (!request.headers.has(AUTHORIZATION) || lost > 0) return response;
			lost += 1;
			throw new TypeError("fetch failed");
		};
		const agent = clientFor(world, account, [server.host], {}, { fetch });
		const response = await agent.fetch(server.url);
		expect(lost).toBe(1);
		expect(response.status).toBe(402);
		expect(charges()).toHaveLength(1);
		expect(await world.balance(recipient)).toBe(PRICE);
	});

	it("difference: a challenge without an expiry, though the id is its own: 402 invalid-challenge", async () => {
		const { realm, method, intent, request } = Challenge.fromResponse(await fetch(server.url));
		const timeless = Challenge.from({ realm, method, intent, request, secretKey: SECRET });
		const credential = Credential.serialize({ challenge: timeless, payload: {} });
		const response = await fetch(server.url, { headers: { [AUTHORIZATION]: credential } });
		expect(parseProblem(await response.json())).toMatchObject({
			type: "https://paymentauth.org/problems/invalid-challenge",
			detail: expect.stringContaining("missing required expires"),
		});
	});
});
