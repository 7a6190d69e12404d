import fc from "fast-check";
import { afterEach, describe, expect, it, test, vi } from "vitest";
import { isManagementAnswer, offersOf, problemOf, receiptFor, receiptOf, refusalOf } from "../../src/client/answer.ts";
import { PayerChannel } from "../../src/client/channel.ts";
import {
	type Challenge,
	encodeReceipt,
	formatChallenge,
	formatTimestamp,
	type ProblemName,
	problem,
	receiptToJson,
	type SessionReceipt,
} from "../../src/protocol/index.ts";
import { ZERO_ADDRESS } from "../../src/voucher/index.ts";
import { challengeOf, STRANGER, sessionTerms } from "./support.ts";

const NOW = Date.now();
const address = (byte: string) => `0x${byte.repeat(20)}` as const;
const world = { chain: { chainId: 1 }, token: address("cc"), escrow: address("ee") } as Parameters<
	typeof sessionTerms
>[0];
const session = challengeOf(sessionTerms(world, address("bb")));
const charge = challengeOf(
	{
		amount: "5",
		currency: world.token,
		recipient: address("bb"),
		methodDetails: { chainId: 1, credentialTypes: ["authorization"] },
	},
	{ intent: "charge" },
);

function response402(...values: readonly (Challenge | string)[]): Response {
	const headers = new Headers();
	for (const value of values) {
		headers.append("www-authenticate", typeof value === "string" ? value : formatChallenge(value));
	}
	return new Response(null, { status: 402, headers });
}

const intents = (response: Response, now = NOW) => offersOf(response, now).map(({ intent }) => intent);

describe("the offers of a 402", () => {
	it("are kept in the server's order", () => {
		expect(intents(response402(charge, session))).toEqual(["charge", "session"]);
	});

	it("are none without challenges", () => {
		expect(intents(new Response(null, { status: 402 }))).toEqual([]);
	});

	it.each([
		["another method", challengeOf(sessionTerms(world, STRANGER), { method: "tempo" })],
		["an intent of which nothing is known", challengeOf(sessionTerms(world, STRANGER), { intent: "authorize" })],
		["an expiry that is past", challengeOf(sessionTerms(world, STRANGER), { expires: formatTimestamp(NOW - 1_000) })],
		["a request of the wrong shape", challengeOf({ amount: 100 })],
		["an amount that is negative", challengeOf(sessionTerms(world, STRANGER, { amount: "-1" }))],
		["an amount above uint128", challengeOf(sessionTerms(world, STRANGER, { amount: String(2n ** 128n) }))],
		[
			"only credential types that the draft does not have (session)",
			challengeOf(sessionTerms(world, STRANGER, {}, { credentialTypes: ["transaction", "magic"] })),
		],
		[
			"only credential types that the draft does not have (charge)",
			challengeOf(
				{
					amount: "5",
					currency: world.token,
					recipient: STRANGER,
					methodDetails: { chainId: 1, credentialTypes: ["magic"] },
				},
				{ intent: "charge" },
			),
		],
		[
			"splits that leave nothing for the recipient (draft-evm-charge-00, Payment Splits)",
			challengeOf(
				{
					amount: "5",
					currency: world.token,
					recipient: STRANGER,
					methodDetails: {
						chainId: 1,
						credentialTypes: ["permit2"],
						splits: [{ recipient: STRANGER, amount: "5" }],
					},
				},
				{ intent: "charge" },
			),
		],
		["garbage", 'Payment id="x", request="%%%"'],
		["a parameter that comes twice", `${formatChallenge(session)}, realm="evil"`],
		["another scheme", 'Bearer realm="x"'],
	])("leave out one with %s, and keep the others", (_name, bad) => {
		expect(intents(response402(bad))).toEqual([]);
		expect(intents(response402(charge, bad))).toEqual(["charge"]);
	});

	it("are none where the header is too long to read", () => {
		expect(intents(response402(session, `Payment description="${"x".repeat(70_000)}"`))).toEqual([]);
	});

	it("keep a charge without credential types, which then are transaction and hash", () => {
		const terms = { amount: "5", currency: world.token, recipient: STRANGER, methodDetails: { chainId: 1 } };
		expect(intents(response402(challengeOf(terms, { intent: "charge" })))).toEqual(["charge"]);
	});

	it("keep a session without credential types, which then are hash", () => {
		const terms = sessionTerms(world, STRANGER);
		const { credentialTypes: _, ...methodDetails } = terms.methodDetails as Record<string, unknown>;
		expect(intents(response402(challengeOf({ ...terms, methodDetails })))).toEqual(["session"]);
	});

	test("never throw, whatever the header says", () => {
		const values = fc.stringMatching(/^[\x20-\x7e]*$/);
		fc.assert(
			fc.property(
				fc.array(
					fc.oneof(
						values,
						values.map((text) => `Payment ${text}`),
					),
					{ maxLength: 4 },
				),
				(texts) => {
					expect(offersOf(response402(...texts), NOW)).toEqual([]);
				},
			),
		);
	});
});

function problemResponse(name: ProblemName, status?: number): Response {
	const body = problem(name, "No.", {});
	return new Response(JSON.stringify(body), {
		status: status ?? body.status,
		headers: { "content-type": "application/problem+json; charset=utf-8" },
	});
}

describe("a refusal of a payment", () => {
	it.each([
		"session/insufficient-balance",
		"session/channel-not-found",
		"session/channel-closing",
		"method-unsupported",
	] as const)("is a problem of the drafts: %s", async (name) => {
		expect(await refusalOf(problemResponse(name))).toMatchObject({ title: expect.any(String), detail: "No." });
	});

	it("is any 402, with a reason or without", async () => {
		expect(await refusalOf(new Response("pay!", { status: 402 }))).toMatchObject({ status: 402 });
	});

	it.each([
		["a success", new Response("{}", { headers: { "content-type": "application/problem+json" } })],
		["a failure of the handler", new Response("oops", { status: 500 })],
		["a gateway that lost the answer", new Response(null, { status: 504 })],
		["a plain conflict: the request may still be running", problemResponse("conflict")],
		["a plain 503", problemResponse("service-unavailable")],
		[
			"a problem of the application",
			new Response(JSON.stringify({ type: "https://shop.example/sold-out", status: 409 }), {
				status: 409,
				headers: { "content-type": "application/problem+json" },
			}),
		],
	])("is not %s", async (_name, response) => {
		expect(await refusalOf(response)).toBeUndefined();
	});

	it("leaves the response to be read", async () => {
		const response = problemResponse("session/channel-closing");
		await refusalOf(response);
		expect(await response.json()).toMatchObject({ status: 409 });
	});

	it.each(["", "null", "[]", "{", '"text"', '{"type":1}', '{"status":"402"}'])(
		"reads no problem in %s",
		async (body) => {
			const headers = { "content-type": "application/problem+json" };
			expect(await problemOf(new Response(body, { status: 402, headers }))).toBeUndefined();
		},
	);

	it("reads a problem only so far, however long the server goes on", async () => {
		let sent = 0;
		const endless = new ReadableStream({
			pull(controller) {
				sent += 16_384;
				controller.enqueue(new TextEncoder().encode("x".repeat(16_384)));
			},
		});
		const headers = { "content-type": "application/problem+json" };
		expect(await problemOf(new Response(endless, { status: 402, headers }))).toBeUndefined();
		expect(sent).toBeLessThan(262_144);
	});
});

const channel = new PayerChannel({
	channelId: `0x${"c1".repeat(32)}`,
	parameters: {
		payer: address("aa"),
		payee: address("bb"),
		token: world.token,
		salt: `0x${"5a".repeat(32)}`,
		authorizedSigner: ZERO_ADDRESS,
		escrow: world.escrow,
		chainId: 1,
	},
	deposit: 1_000n,
	challenge: session,
	resource: { url: "https://api.example.com/", method: "GET" },
});

const receipt: SessionReceipt = {
	method: "evm",
	intent: "session",
	status: "success",
	timestamp: formatTimestamp(NOW),
	challengeId: session.id,
	reference: channel.channelId,
	channelId: channel.channelId,
	chainId: 1,
	acceptedCumulative: 100n,
	spent: 100n,
};
const receiptResponse = (value: string, status = 200) =>
	new Response(null, { status, headers: { "payment-receipt": value } });

describe("a body that never ends", () => {
	afterEach(() => {
		vi.useRealTimers();
	});

	it("is not waited for: its problem is none", async () => {
		vi.useFakeTimers();
		const body = new ReadableStream({ start: (controller) => controller.enqueue(new TextEncoder().encode("{")) });
		const response = new Response(body, { status: 402, headers: { "content-type": "application/problem+json" } });
		const read = problemOf(response);
		await vi.advanceTimersByTimeAsync(10_000);
		expect(await read).toBeUndefined();
		expect(vi.getTimerCount()).toBe(0);
	});
});

describe("a receipt", () => {
	it("counts where it is for this channel", () => {
		expect(receiptFor(receiptResponse(encodeReceipt(receipt)), channel)).toEqual(receipt);
	});

	it("counts with a redirect too: the server charges for it", () => {
		expect(receiptFor(receiptResponse(encodeReceipt(receipt), 302), channel)).toEqual(receipt);
	});

	const other = `0x${"c2".repeat(32)}` as const;
	const { method, status, timestamp, challengeId, chainId } = receipt;
	const charged = { method, status, timestamp, challengeId, chainId, intent: "charge", reference: other } as const;
	it.each([
		["for another channel", receiptResponse(encodeReceipt({ ...receipt, channelId: other, reference: other }))],
		["for another chain", receiptResponse(encodeReceipt({ ...receipt, chainId: 2 }))],
		["for a charge", receiptResponse(encodeReceipt(charged))],
		["on an error", receiptResponse(encodeReceipt(receipt), 500)],
		["on a 402", receiptResponse(encodeReceipt(receipt), 402)],
		["that is garbage", receiptResponse("no receipt at all")],
		["that is empty", receiptResponse("")],
		["that is not there", new Response(null)],
	])("proves nothing %s", (_name, response) => {
		expect(receiptFor(response, channel)).toBeUndefined();
	});

	it("can be garbage without harm", () => {
		fc.assert(
			fc.property(fc.stringMatching(/^[\x21-\x7e]*$/), (text) => {
				expect(receiptOf(receiptResponse(text))).toBeUndefined();
			}),
		);
	});

	it("as the whole answer is about the channel, not the resource (D11)", async () => {
		const answer = (body: unknown) =>
			new Response(JSON.stringify(body), { headers: { "content-type": "application/json; charset=utf-8" } });
		expect(await isManagementAnswer(answer(receiptToJson(receipt)))).toBe(true);
		expect(await isManagementAnswer(answer({ quote: 42 }))).toBe(false);
		expect(await isManagementAnswer(new Response(JSON.stringify(receiptToJson(receipt))))).toBe(false);
	});
});
