import { randomBytes } from "node:crypto";
import { HTTPException } from "hono/http-exception";
import type { Address } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type LocalChain, startChain } from "../../../src/cli/demo/chain.ts";
import { deployContracts } from "../../../src/cli/demo/deploy.ts";
import { readBalance, readTokenDomain } from "../../../src/escrow/reads.ts";
import { type Challenge, decodeJson, decodeRequest, encodeJson } from "../../../src/protocol/index.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import { FACES, type Face, type PagePrice, payAt, Site } from "../../support/faces.ts";
import { type Send, send } from "../../support/http.ts";
import {
	createWorld,
	DEPOSIT,
	type LogLine,
	type PaidServer,
	Payer,
	PRICE,
	type TestChannel,
	type World,
} from "../../support/world.ts";

/** What `/varying` costs now. */
let varying: () => PagePrice | Promise<PagePrice> = () => ({ price: PRICE });

class NotFound extends Error {
	readonly statusCode = 404;
}

const charge = (price: bigint) => ({ price, intent: "charge" as const });
const site = new Site({
	"/by-query": {
		price: ({ query }) => charge(BigInt(new URLSearchParams(query).get("n") ?? "1") * 10n),
		serve: (_, { amount }) => ({ body: String(amount) }),
	},
	"/by-header": {
		price: ({ header }) => ({ price: header("x-tier") === "gold" ? 5n : 50n }),
		serve: (_, { amount }) => ({ body: String(amount) }),
	},
	"/by-body": {
		price: async ({ body }) => charge(BigInt(body.length)),
		serve: ({ body }, { amount }) => ({ body: `${amount} for ${body}` }),
	},
	"/in-words": {
		price: ({ header }) => ({
			...charge(PRICE),
			description: header("accept-language")?.startsWith("de") ? "Ein Kurs" : "A quote",
		}),
		serve: () => ({ body: "ok" }),
	},
	"/ordered": {
		price: ({ query }) => {
			const opaque = { order: new URLSearchParams(query).get("order") ?? "none" };
			return [
				{ price: PRICE, opaque },
				{ ...charge(PRICE), opaque },
			];
		},
		serve: (_, { opaque }) => ({ body: JSON.stringify(opaque ?? null) }),
	},
	"/varying": { price: () => varying(), serve: (_, { amount }) => ({ body: String(amount) }) },
});

let world: World;
let server: PaidServer;
let payer: Payer;
let channel: TestChannel;
let origins: Record<Face, string>;
const logs: LogLine[] = [];

beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer();
	server = await world.serve({
		logs,
		routes: (app, kit) => {
			app.get("/session", { config: { payment: { price: PRICE } } }, kit.handler("/session"));
			return site.routes(app, kit);
		},
	});
	origins = { fastify: server.url, fetch: await site.listen(server.engine) };
});
afterAll(async () => {
	await site.stop();
	await world.stop();
});
beforeEach(async () => {
	channel = await server.open(payer);
});

const amountOf = (challenge: Challenge | undefined) =>
	challenge === undefined ? undefined : decodeRequest(challenge).amount;

describe.each(FACES)("the %s face", (face) => {
	const ask = (path: string, options: Send = {}) => send(origins[face], path, options);
	const challengeOf = async (path: string, options: Send = {}): Promise<Challenge> => {
		const { challenges, status } = await ask(path, options);
		const [challenge] = challenges;
		if (challenge === undefined) throw new Error(`${path} answered ${status} without a challenge`);
		return challenge;
	};

	it("a price that is a function of the request is the price of that request, in its challenge and in its receipt", async () => {
		const challenge = await challengeOf("/by-query?n=7");
		expect(amountOf(challenge)).toBe("70");
		const draft = await payer.charge(challenge, server.payee, 70n);
		const answer = await payAt(origins[face], "/by-query?n=7", draft);
		expectPaid(answer);
		expect(answer.text).toBe("70");

		const gold = { headers: { "x-tier": "gold" } };
		expect(amountOf(await challengeOf("/by-header", gold))).toBe("5");
		const voucher = await payer.voucher(await challengeOf("/by-header", gold), channel, PRICE);
		const served = await payAt(origins[face], "/by-header", voucher, gold);
		expect(served).toMatchObject({ text: "5", receipt: { spent: 5n, acceptedCumulative: PRICE } });
	});

	it("may be made from the body, which the handler gets too, and holds for that body alone", async () => {
		const body = JSON.stringify({ text: "x".repeat(89) });
		const options = { method: "POST", body };
		const challenge = await challengeOf("/by-body", options);
		expect(amountOf(challenge)).toBe("100");
		const draft = await payer.charge(challenge, server.payee, 100n);
		const other = { method: "POST", body: body.replace("xx", "yy") };
		expectRefusal(await payAt(origins[face], "/by-body", draft, other), "verification-failed");
		const dearer = { method: "POST", body: JSON.stringify({ text: "x".repeat(90) }) };
		expectRefusal(await payAt(origins[face], "/by-body", draft, dearer), "invalid-challenge");
		const answer = await payAt(origins[face], "/by-body", draft, options);
		expectPaid(answer);
		expect(answer.text).toBe(`100 for ${body}`);
	});

	it("may give opaque texts along, which the handler gets back with the payment that was made for them (core: opaque)", async () => {
		const [session, oneTime] = (await ask("/ordered?order=17")).challenges;
		if (session === undefined || oneTime === undefined) throw new Error("two challenges");
		expect(decodeJson(session.opaque ?? "")).toEqual({ order: "17", nonce: expect.any(String) });
		const voucher = await payer.voucher(session, channel, PRICE);
		// What was asked for counts, not what would be asked for now.
		const served = await payAt(origins[face], "/ordered?order=18", voucher);
		expectPaid(served);
		expect(served.json).toEqual({ order: "17" });
		const charged = await payAt(origins[face], "/ordered", await payer.charge(oneTime, server.payee, PRICE));
		expect(charged.json).toEqual({ order: "17" });
		const forged = { ...session, opaque: encodeJson({ order: "1", nonce: "x" }) };
		const refused = await payAt(origins[face], "/ordered", await payer.voucher(forged, channel, 2n * PRICE));
		expectRefusal(refused, "session/challenge-not-found");
	});

	it("of another request is not paid with a charge for this one: refused, and nothing is charged", async () => {
		const draft = await payer.charge(await challengeOf("/by-query?n=1"), server.payee, 10n);
		await unchanged(server, [channel], async () => {
			const refused = await payAt(origins[face], "/by-query?n=2", draft);
			expectRefusal(refused, "invalid-challenge");
			expect(amountOf(refused.challenges[0])).toBe("20");
		});
		expectPaid(await payAt(origins[face], "/by-query?n=1", draft));
	});

	it("that rises between challenge and payment is asked for anew, also of a voucher that covers it; one that falls is all that is charged (D9)", async () => {
		varying = () => [{ price: PRICE }, charge(PRICE)];
		const [session, oneTime] = (await ask("/varying")).challenges;
		if (session === undefined || oneTime === undefined) throw new Error("two challenges");
		const draft = await payer.charge(oneTime, server.payee, PRICE);
		varying = () => [{ price: 3n * PRICE }, charge(3n * PRICE)];
		const refused = await payAt(origins[face], "/varying", draft);
		expectRefusal(refused, "invalid-challenge");
		expect(amountOf(refused.challenges[1])).toBe("300");
		const low = await payAt(origins[face], "/varying", await payer.voucher(session, channel, 9n * PRICE));
		expectRefusal(low, "session/challenge-not-found");
		expect(amountOf(low.challenges[0])).toBe("300");
		varying = () => ({ price: 2n });
		const cheap = await payAt(origins[face], "/varying", await payer.voucher(session, channel, PRICE));
		expect(cheap).toMatchObject({ text: "2", receipt: { spent: 2n } });
	});

	it.each<readonly [string, () => PagePrice | Promise<PagePrice>]>([
		[
			"throws",
			() => {
				throw new Error("database down, password hunter2");
			},
		],
		["rejects", () => Promise.reject(new Error("database down, password hunter2"))],
		["throws something that is no error", () => Promise.reject("hunter2")],
		[
			"fails at another server's answer",
			() => Promise.reject(Object.assign(new Error("http://node/key=hunter2 answered 404"), { status: 404 })),
		],
		["makes no price", () => undefined as never],
		["makes no prices", () => []],
		["makes a wrong one", () => ({ price: 0n })],
		["asks for a payment method that is not there", () => ({ method: "tempo", price: 1n }) as never],
		["would have it answered with 402", () => Promise.reject(Object.assign(new Error("hunter2"), { statusCode: 402 }))],
	])("a price function that fails is a 5xx problem without a challenge, never 402: it %s", async (_, price) => {
		varying = price;
		const before = site.calls("/varying");
		const draft = await payer.voucher(await server.challenge("/session"), channel, PRICE);
		await unchanged(server, [channel], async () => {
			for (const answer of [await ask("/varying"), await payAt(origins[face], "/varying", draft)]) {
				expectRefusal(answer, "service-unavailable");
				expect(answer.text).not.toContain("hunter2");
			}
		});
		expect(site.calls("/varying")).toBe(before);
		expect(logs.at(-1)).toMatchObject({ level: "error" });
	});

	it("a price function that has no price for what is not there answers with the application's own 404", async () => {
		varying = () =>
			Promise.reject(
				face === "fastify" ? new NotFound("no such item") : new HTTPException(404, { message: "no such item" }),
			);
		const answer = await ask("/varying");
		expect(answer.status).toBe(404);
		expect(answer.challenges).toEqual([]);
		expect(answer.problem).toBeUndefined();
	});

	it("the price function sees Accept-Language, so a description can be in the client's language", async () => {
		const german = { headers: { "Accept-Language": "de-AT, en;q=0.5" } };
		expect((await challengeOf("/in-words", german)).description).toBe("Ein Kurs");
		expect((await challengeOf("/in-words")).description).toBe("A quote");
		const draft = await payer.charge(await challengeOf("/in-words", german), server.payee, PRICE);
		expectPaid(await payAt(origins[face], "/in-words", draft, german));
	});
});

describe("several tokens and chains", () => {
	let other: LocalChain;
	let farChain: LocalChain;
	let many: PaidServer;
	let farToken: Address;
	let secondToken: Address;
	let secondPayer: Payer;
	let farPayer: Payer;

	beforeAll(async () => {
		const account = privateKeyToAccount(generatePrivateKey());
		const holder = privateKeyToAccount(generatePrivateKey());
		other = world.chain;
		farChain = await startChain({ args: ["--chain-id", "31338"] });
		const second = await deployContracts(other, other.account(1), holder.address, 1_000_000n);
		const far = await deployContracts(farChain, farChain.account(1), holder.address, 1_000_000n);
		const params = [account.address, "0x8ac7230489e80000"];
		await farChain.client.request({ method: "anvil_setBalance", params } as never);
		secondToken = second.token;
		farToken = far.token;
		secondPayer = await payerOf(other, second);
		farPayer = await payerOf(farChain, far);

		async function payerOf(chain: LocalChain, { token, escrow }: { token: Address; escrow: Address }) {
			const { client, chainId } = chain;
			const domain = await readTokenDomain(client, token, chainId);
			const tokenDomain = { ...domain, chainId, verifyingContract: token };
			return new Payer({ account: holder, client, chainId, escrow, token, tokenDomain });
		}

		many = await world.serve({
			account,
			engine: {
				secrets: [randomBytes(32).toString("base64url")],
				also: [
					{ client: other.client, chainId: other.chainId, currency: second.token, escrow: second.escrow },
					{ client: farChain.client, chainId: farChain.chainId, currency: far.token, escrow: far.escrow },
				],
			},
			routes: (app, { handler }) => {
				const payment = [
					{ price: PRICE },
					{ price: 2n * PRICE, currency: second.token },
					{ price: 3n * PRICE, chainId: farChain.chainId },
					{ price: 4n * PRICE, intent: "charge" as const },
					{ price: 5n * PRICE, intent: "charge" as const, chainId: farChain.chainId, currency: far.token },
				];
				app.get(
					"/any",
					{ config: { payment } },
					handler("/any", (request) => ({ intent: request.payment?.intent, amount: String(request.payment?.amount) })),
				);
			},
		});
	});
	afterAll(() => farChain.stop());

	const offers = async () => {
		const { challenges } = await many.send("/any");
		return challenges.map((challenge) => ({ challenge, request: decodeRequest(challenge) as Record<string, unknown> }));
	};
	const offer = async (at: number): Promise<Challenge> => {
		const found = (await offers())[at];
		if (found === undefined) throw new Error(`there is no offer ${at}`);
		return found.challenge;
	};

	it("are offered in one 402, each with its chain, token and price, in the route's order", async () => {
		const made = (await offers()).map(({ challenge: { intent }, request }) => {
			const { chainId } = request.methodDetails as { chainId: number };
			return { intent, amount: request.amount, chainId, currency: String(request.currency).toLowerCase() };
		});
		expect(made).toEqual([
			{ intent: "session", amount: "100", chainId: other.chainId, currency: world.token },
			{ intent: "session", amount: "200", chainId: other.chainId, currency: secondToken },
			{ intent: "session", amount: "300", chainId: 31_338, currency: farToken },
			{ intent: "charge", amount: "400", chainId: other.chainId, currency: world.token },
			{ intent: "charge", amount: "500", chainId: 31_338, currency: farToken },
		]);
	});

	it("are paid, each by whoever has that token, and the money is where the receipt says", async () => {
		const first = payer.channel(many.payee);
		const second = secondPayer.channel(many.payee);
		const far = farPayer.channel(many.payee);
		const opened = [
			await many.pay("/any", await payer.open(await offer(0), first, { deposit: DEPOSIT, amount: PRICE })),
			await many.pay("/any", await secondPayer.open(await offer(1), second, { deposit: DEPOSIT, amount: 2n * PRICE })),
			await many.pay("/any", await farPayer.open(await offer(2), far, { deposit: DEPOSIT, amount: 3n * PRICE })),
		];
		for (const answer of opened) expectPaid(answer);
		expect(opened.map(({ json }) => (json as { amount: string }).amount)).toEqual(["100", "200", "300"]);
		expect(opened.map(({ receipt }) => receipt?.chainId)).toEqual([31_337, 31_337, 31_338]);

		const here = await many.pay("/any", await payer.charge(await offer(3), many.payee, 4n * PRICE));
		const there = await many.pay("/any", await farPayer.charge(await offer(4), many.payee, 5n * PRICE));
		expectPaid(here);
		expectPaid(there);
		expect(await world.balance(many.payee)).toBe(4n * PRICE);
		expect(await readBalance(farChain.client, farToken, many.payee)).toBe(5n * PRICE);

		const closed = await many.pay("/any", await farPayer.close(await offer(2), far, 3n * PRICE));
		expectPaid(closed);
		expect(await readBalance(farChain.client, farToken, many.payee)).toBe(8n * PRICE);
	});

	it("are not mixed up: a channel of one token pays no offer of another", async () => {
		const own = secondPayer.channel(many.payee);
		const draft = await secondPayer.open(await offer(1), own, { deposit: DEPOSIT, amount: 2n * PRICE });
		expectPaid(await many.pay("/any", draft));
		for (const at of [0, 2]) {
			const refused = await many.pay("/any", await secondPayer.voucher(await offer(at), own, 9n * PRICE));
			expect(refused.status).toBeGreaterThanOrEqual(400);
			expect(refused.receipt).toBeUndefined();
		}
		expect(await many.amounts(own)).toMatchObject({ spent: 2n * PRICE, acceptedCumulative: 2n * PRICE });
		expectPaid(await many.pay("/any", await secondPayer.voucher(await offer(1), own, 4n * PRICE)));
	});

	it("are asked for by name: one that the server does not take is refused when the route is declared", async () => {
		const started = world.serve({
			routes: (app, { handler }) => {
				app.get("/bad", { config: { payment: { price: 1n, chainId: 5 } } }, handler("/bad"));
			},
		});
		await expect(started).rejects.toThrow(/GET \/bad: payment currency: .*option also/);
	});
});
