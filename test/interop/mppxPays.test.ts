import { Challenge, Credential, Errors, Receipt } from "mppx";
import { evm as evmClient, Mppx, tempo } from "mppx/client";
import type { Hex, LocalAccount } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
	ACCEPT_PAYMENT,
	contentDigest,
	decodeReceipt,
	encodeBase64url,
	PAYMENT_RECEIPT,
	type ProblemName,
	parseAcceptPayment,
	parseProblem,
	preferred,
	problemType,
} from "../../src/protocol/index.ts";
import { spyOn } from "../client/support.ts";
import {
	createWorld,
	FUNDS,
	type PaidServer,
	type Payer,
	PRICE,
	type Routes,
	standardRoutes,
	type World,
} from "../support/world.ts";
import { mppxClient, tokenMetadata } from "./mppx.ts";

let world: World;
let server: PaidServer;
let payer: Payer;

const routes: Routes = async (app, kit) => {
	await standardRoutes(app, kit);
	const charge = { price: PRICE, intent: "charge" as const };
	app.get("/order", { config: { payment: { ...charge, externalId: "order-7" } } }, kit.handler("/order"));
	app.get("/plain", { config: { payment: { ...charge, description: 'A "fresh" quote' } } }, kit.handler("/plain"));
	app.get("/cafe", { config: { payment: { ...charge, description: "Café crème" } } }, kit.handler("/cafe"));
	const listed = { ...charge, credentialTypes: ["transaction" as const, "authorization" as const, "hash" as const] };
	app.get("/listed", { config: { payment: listed } }, kit.handler("/listed"));
	const transaction = { ...charge, credentialTypes: ["transaction" as const] };
	app.get("/transaction", { config: { payment: transaction } }, kit.handler("/transaction"));
	const session = { price: PRICE, suggestedDeposit: 10_000n };
	app.get("/either", { config: { payment: [session, charge] } }, kit.handler("/either"));
};

beforeAll(async () => {
	world = await createWorld();
});
afterAll(() => world.stop());
beforeEach(async () => {
	payer = await world.payer();
	server = await world.serve({ routes });
});

const client = (tries = 1, account: LocalAccount = payer.account) => mppxClient(world, account, { tries });

/** The money that has moved from the payer to the server's payee, the same on both sides. */
async function moved(): Promise<bigint> {
	const paid = FUNDS - (await world.balance(payer.address));
	expect(await world.balance(server.payee)).toBe(paid);
	return paid;
}

describe("mppx's evm client", () => {
	it("pays a charge: 402, credential, 200 with a receipt that it reads; the price has moved and the payer spent no gas", async () => {
		const mppx = await client();
		const ids: string[] = [];
		mppx.onChallengeReceived(({ challenge }) => {
			ids.push(challenge.id);
			return undefined;
		});
		const response = await mppx.fetch(`${server.url}/charge`);
		expect(response.status).toBe(200);
		expect(await response.json()).toEqual({ served: 1 });

		const receipt = Receipt.fromResponse(response);
		expect(receipt).toMatchObject({
			method: "evm",
			status: "success",
			challengeId: ids[0],
			chainId: world.chain.chainId,
		});
		const ours = decodeReceipt(response.headers.get(PAYMENT_RECEIPT) ?? "");
		expect(ours).toEqual({ ...receipt, intent: "charge" });

		const settled = await world.chain.client.getTransactionReceipt({ hash: receipt.reference as Hex });
		expect(settled).toMatchObject({ status: "success", from: server.payee, to: world.token });
		expect(await moved()).toBe(PRICE);
		expect(await world.chain.client.getTransactionCount({ address: payer.address })).toBe(0);
	});

	it("pays for a POST, whose body the challenge is bound to by its RFC 9530 digest", async () => {
		const mppx = await client();
		const digests: unknown[] = [];
		mppx.onChallengeReceived(({ challenge }) => {
			digests.push(challenge.digest);
			return undefined;
		});
		const body = JSON.stringify({ question: "price?" });
		const response = await mppx.fetch(`${server.url}/charge`, {
			method: "POST",
			headers: { "content-type": "application/json" },
			body,
		});
		expect(response.status).toBe(200);
		expect(digests).toEqual([contentDigest(new TextEncoder().encode(body))]);
		expect(await moved()).toBe(PRICE);
	});

	it("pays by authorization where other types are offered as well, and before it", async () => {
		expect((await (await client()).fetch(`${server.url}/listed`)).status).toBe(200);
		expect(await moved()).toBe(PRICE);
	});

	it("gives up before it signs where only a type is offered that it does not have", async () => {
		const spy = spyOn(payer.account);
		const mppx = await client(1, spy.account);
		await expect(mppx.fetch(`${server.url}/transaction`)).rejects.toThrow(/authorization is not accepted/);
		expect(spy.signed).toEqual([]);
	});

	it("is charged once for two requests with one Idempotency-Key, which get one answer (I6)", async () => {
		const mppx = await client();
		const answers = [];
		for (let request = 0; request < 2; request++) {
			const response = await mppx.fetch(`${server.url}/charge`, { headers: { "Idempotency-Key": "one-of-a-kind" } });
			answers.push([response.status, await response.text(), Receipt.fromResponse(response).reference]);
		}
		expect(answers[1]).toEqual(answers[0]);
		expect(await moved()).toBe(PRICE);
		expect(server.calls()).toBe(1);
	});

	it("says in Accept-Payment what it can pay with and how gladly, as we read it", async () => {
		const sent: (string | null)[] = [];
		const mppx = Mppx.create({
			polyfill: false,
			methods: [evmClient.charge({ account: payer.account }), ...tempo({ account: payer.account })],
			paymentPreferences: { "evm/charge": 0.25 },
			fetch: async (input, init) => {
				sent.push(new Request(input, init).headers.get(ACCEPT_PAYMENT));
				return new Response();
			},
		});
		await mppx.fetch(server.url);
		const ranges = parseAcceptPayment(sent[0]);
		expect(ranges?.[0]).toEqual({ method: "evm", intent: "charge", q: 0.25 });
		expect(ranges?.slice(1).map(({ method, q }) => [method, q])).toContainEqual(["tempo", 1]);
		expect(
			preferred(
				[
					{ method: "evm", intent: "charge" },
					{ method: "tempo", intent: "charge" },
				],
				ranges,
			)[0]?.method,
		).toBe("tempo");
	});

	it("pays a second time for a second request", async () => {
		const mppx = await client();
		for (let request = 0; request < 2; request++) expect((await mppx.fetch(`${server.url}/charge`)).status).toBe(200);
		expect(await moved()).toBe(2n * PRICE);
	});

	it("reads the merchant's reference in the receipt", async () => {
		const response = await (await client()).fetch(`${server.url}/order`);
		expect(Receipt.fromResponse(response).externalId).toBe("order-7");
	});

	it("takes the charge where a session is offered too, and preferred", async () => {
		const response = await (await client()).fetch(`${server.url}/either`);
		expect(response.status).toBe(200);
		expect(await moved()).toBe(PRICE);
		expect(Receipt.fromResponse(response)).not.toHaveProperty("channelId");
	});

	it("gives up before it signs where only a session is offered: it has no evm session", async () => {
		const spy = spyOn(payer.account);
		const mppx = await client(1, spy.account);
		await expect(mppx.fetch(`${server.url}/session`)).rejects.toThrow(/No method found for challenges: evm\.session/);
		expect(spy.signed).toEqual([]);
	});

	it("gives up before it signs where the price is above its limit", async () => {
		const spy = spyOn(payer.account);
		const mppx = await mppxClient(world, spy.account, { maxAtomicAmount: String(PRICE - 1n) });
		await expect(mppx.fetch(`${server.url}/charge`)).rejects.toThrow(/exceeds maxAtomicAmount/);
		expect(spy.signed).toEqual([]);
	});

	it.each(["/plain", "/cafe"])(
		"pays where a description comes with the offer, whatever it makes of the text: %s",
		async (path) => {
			const response = await (await client()).fetch(server.url + path);
			expect(await response.text()).toBe('{"served":1}');
			expect(await moved()).toBe(PRICE);
		},
	);
});

/** A credential of mppx's for a challenge, with another one's terms where `terms` says so; the echo stays as it was. */
async function forged(
	challenge: Challenge.Challenge,
	terms: object,
	signer: LocalAccount = payer.account,
): Promise<string> {
	const method = evmClient.charge({ account: signer, authorization: await tokenMetadata(world) });
	const altered = { ...challenge, request: { ...challenge.request, ...terms } } as typeof challenge;
	const made = Credential.deserialize(await method.createCredential({ challenge: altered as never, context: {} }));
	return Credential.serialize({ ...made, challenge });
}

const stranger = privateKeyToAccount(generatePrivateKey());

/** What goes wrong on the way, and the problem we answer with. Each makes the credential that mppx's client then sends. */
const REFUSALS: readonly (readonly [
	string,
	ProblemName,
	(challenge: Challenge.Challenge, create: () => Promise<string>) => Promise<string>,
])[] = [
	["less than the price", "verification-failed", (challenge) => forged(challenge, { amount: String(PRICE - 1n) })],
	["more than the price", "verification-failed", (challenge) => forged(challenge, { amount: String(PRICE + 1n) })],
	["another recipient", "verification-failed", (challenge) => forged(challenge, { recipient: stranger.address })],
	[
		"another token's signature",
		"verification-failed",
		(challenge) => forged(challenge, { currency: stranger.address }),
	],
	[
		"another chain's signature",
		"verification-failed",
		(challenge) => forged(challenge, { methodDetails: { chainId: 1, credentialTypes: ["authorization"] } }),
	],
	[
		"a stranger's signature",
		"verification-failed",
		async (challenge, create) => {
			const [own, other] = [await create(), await forged(challenge, {}, stranger)].map((made) =>
				Credential.deserialize<{ signature: string }>(made),
			);
			if (own === undefined || other === undefined) throw new Error("there are two");
			return Credential.serialize({ ...own, payload: { ...own.payload, signature: other.payload.signature } });
		},
	],
	[
		"an echo with a lower price",
		"invalid-challenge",
		async (challenge) => {
			const altered = { ...challenge, request: { ...challenge.request, amount: "1" } } as typeof challenge;
			const made = Credential.deserialize(await forged(challenge, { amount: "1" }));
			return Credential.serialize({ ...made, challenge: altered });
		},
	],
	[
		"a challenge of another server",
		"invalid-challenge",
		async (challenge, create) => {
			const { id: _, ...terms } = challenge;
			const foreign = Challenge.from({ ...terms, secretKey: "the secret of quite another server, not of ours" });
			return Credential.serialize({ ...Credential.deserialize(await create()), challenge: foreign });
		},
	],
	[
		"a challenge that expires on the way",
		"invalid-challenge",
		async (_, create) => {
			const made = await create();
			server.clock.advance(301_000);
			return made;
		},
	],
	["no JSON", "malformed-credential", async () => `Payment ${encodeBase64url("{")}`],
	[
		"a payload of the wrong shape",
		"malformed-credential",
		async (challenge) => Credential.serialize({ challenge, payload: { type: "authorization" } }),
	],
	["no payload", "malformed-credential", async (challenge) => Credential.serialize({ challenge, payload: undefined })],
];

describe("a refusal, as mppx's client sees it", () => {
	it.each(REFUSALS)(
		"%s: 402 %s, a problem of mppx's vocabulary with a fresh challenge, and nothing is charged",
		async (_, name, make) => {
			const mppx = await client();
			const seen: string[] = [];
			mppx.onChallengeReceived(({ challenge, createCredential }) => {
				seen.push(challenge.id);
				return make(challenge, () => createCredential());
			});
			const response = await mppx.fetch(`${server.url}/charge`);
			expect(response.status).toBe(402);
			const body: unknown = await response.json();
			expect(parseProblem(body)).toMatchObject({ type: problemType(name), status: 402 });
			expect(mppxProblemTypes()).toContain(problemType(name));

			const fresh = Challenge.fromResponse(response);
			expect(fresh).toMatchObject({ method: "evm", intent: "charge" });
			expect(seen).not.toContain(fresh.id);
			expect(() => Receipt.fromResponse(response)).toThrow(/Missing Payment-Receipt/);
			expect(await moved()).toBe(0n);
			expect(server.calls()).toBe(0);
		},
	);

	it("a credential that was used: 402 invalid-challenge, charged once", async () => {
		const mppx = await client();
		const made: string[] = [];
		mppx.onChallengeReceived(async ({ createCredential }) => {
			made.push(await createCredential());
			return made[0];
		});
		expect((await mppx.fetch(`${server.url}/charge`)).status).toBe(200);
		const again = await mppx.fetch(`${server.url}/charge`);
		expect(again.status).toBe(402);
		expect(parseProblem(await again.json())?.type).toBe(problemType("invalid-challenge"));
		expect(await moved()).toBe(PRICE);
		expect(server.calls()).toBe(1);
	});

	it("is overcome with the fresh challenge that came with it, where mppx may try again", async () => {
		const mppx = await client(2);
		let attempts = 0;
		mppx.onChallengeReceived(async ({ challenge, createCredential }) => {
			attempts += 1;
			return attempts === 1 ? forged(challenge, { amount: "1" }) : createCredential();
		});
		expect((await mppx.fetch(`${server.url}/charge`)).status).toBe(200);
		expect(attempts).toBe(2);
		expect(await moved()).toBe(PRICE);
	});

	it("a payer without money: 402 verification-failed, and no gas is spent", async () => {
		const poor = await world.payer({ funds: PRICE - 1n });
		const before = await server.transactions();
		const response = await (await client(1, poor.account)).fetch(`${server.url}/charge`);
		expect(response.status).toBe(402);
		expect(parseProblem(await response.json())?.type).toBe(problemType("verification-failed"));
		expect(await world.balance(poor.address)).toBe(PRICE - 1n);
		expect(await server.transactions()).toBe(before);
	});
});

/** The type URIs of mppx's error classes. */
function mppxProblemTypes(): string[] {
	return Object.values(Errors).flatMap((Class) =>
		typeof Class === "function" && Class !== Errors.PaymentError
			? [new (Class as typeof Errors.MalformedCredentialError)().toProblemDetails().type]
			: [],
	);
}
