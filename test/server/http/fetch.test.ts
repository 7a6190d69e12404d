import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
	type FetchOptions,
	OfferError,
	type PaidHandler,
	type Payment,
	type Price,
	paid,
} from "../../../src/server/index.ts";
import { expectPaid, expectRefusal } from "../../support/expect.ts";
import { answerOf } from "../../support/faces.ts";
import { useWorld } from "../../support/useWorld.ts";
import { type Draft, encode, type PaidServer, type Payer, PRICE, type TestChannel } from "../../support/world.ts";

const world = useWorld();
let server: PaidServer;
let payer: Payer;
let channel: TestChannel;

beforeAll(async () => {
	payer = await world.payer();
	server = await world.serve({ engine: { limits: { drainDeadlineMs: 50 } } });
});
beforeEach(async () => {
	channel = await server.open(payer);
});

const url = "http://127.0.0.1/paid?n=1";
const session = { price: PRICE };
const charge = { price: PRICE, intent: "charge" } as const;

const handlerOf = (handler: PaidHandler, options?: FetchOptions, price: Price<Request> = session) =>
	paid(server.engine, price, handler, options);
const voucher = async (amount = PRICE) => payer.voucher(await server.challenge("/session"), channel, amount);
const authorized = (draft: Draft, { headers, ...init }: RequestInit = {}) =>
	new Request(url, {
		...init,
		...(init.body instanceof ReadableStream && { duplex: "half" }),
		headers: { ...(headers as Record<string, string>), authorization: encode(draft) },
	} as RequestInit);

async function costsNothing(): Promise<void> {
	expect(await server.amounts(channel)).toMatchObject({ spent: 0n, reserved: 0n });
	expectPaid(await server.pay("/session", await voucher()));
}

/** A handler that waits until it is let on by `open`, and then answers with a stream. */
function heldStream(stream: UnderlyingDefaultSource<Uint8Array>) {
	const [entered, open] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
	const handler = async () => {
		entered.resolve();
		await open.promise;
		return new Response(new ReadableStream(stream));
	};
	return { handler, entered: entered.promise, open: open.resolve };
}

/** Not what a body may be made of. */
function textual(): ReadableStream<never> {
	return new ReadableStream({ start: (controller) => controller.enqueue("text" as never) });
}

/** A body in pieces, of which it is counted how many were asked for. */
function upload(pieces: number, size: number) {
	const seen = { pulled: 0, cancelled: false };
	const stream = new ReadableStream<Uint8Array>(
		{
			pull(controller) {
				if (seen.pulled === pieces) return controller.close();
				seen.pulled++;
				controller.enqueue(new Uint8Array(size).fill(120));
			},
			cancel() {
				seen.cancelled = true;
			},
		},
		{ highWaterMark: 0 },
	);
	return { stream, seen };
}

describe("a paid handler", () => {
	it("with a wrong price is refused when it is made, naming its route", () => {
		const make = () => handlerOf(() => new Response(), { route: "GET /quote" }, { price: 0n });
		expect(make).toThrow(OfferError);
		expect(make).toThrow(/GET \/quote: payment price/);
	});

	it("gets the very request, its payment, and whatever the framework gives besides", async () => {
		const seen: unknown[] = [];
		const handle = paid(
			server.engine,
			session,
			(request: Request, payment: Payment, ...rest: [{ env: string }, number]) => {
				seen.push(request, payment, ...rest);
				return new Response("ok");
			},
		);
		const request = authorized(await voucher(), { method: "POST", body: "x", headers: { "idempotency-key": "k" } });
		expectPaid(await answerOf(await handle(request, { env: "test" }, 7)));
		expect(seen[0]).toBe(request);
		expect(seen.slice(1)).toEqual([
			{ intent: "session", amount: PRICE, payer: payer.address, channelId: channel.channelId },
			{ env: "test" },
			7,
		]);
	});

	it("that throws rejects with what it threw, and costs nothing (I7)", async () => {
		const failure = new Error("no luck");
		const handle = handlerOf(() => {
			throw failure;
		});
		await expect(handle(authorized(await voucher()))).rejects.toBe(failure);
		await costsNothing();
	});

	it.each<readonly [string, () => unknown]>([
		["nothing at all", () => undefined],
		["no Response", () => ({ status: 200 })],
		["a network error", () => Response.error()],
		["an upgraded connection", () => ({ status: 101, headers: new Headers(), body: null })],
		["a stream of texts", () => new Response(textual())],
	])("that returns %s rejects, and costs nothing", async (_, answer) => {
		const handle = handlerOf(() => answer() as Response);
		await expect(handle(authorized(await voucher()))).rejects.toThrow(TypeError);
		await costsNothing();
	});

	it("is charged for an answer that comes in several pieces at once, and repeats it", async () => {
		let calls = 0;
		const handle = handlerOf(() => {
			const form = new FormData();
			form.set("call", String(++calls));
			form.set("file", new Blob(["x".repeat(2_000)]), "x.txt");
			return new Response(form);
		});
		const ask = async () =>
			answerOf(await handle(authorized(await voucher(), { headers: { "idempotency-key": "form" } })));
		const [first, again] = [await ask(), await ask()];
		expectPaid(first);
		expect(again).toMatchObject({ status: 200, text: first.text });
		expect(again.header("content-type")).toBe(first.header("content-type"));
		expect(calls).toBe(1);
	});

	it("whose answer is too long to keep is served once, and 409 after that", async () => {
		const handle = handlerOf(() => new Response("x".repeat(200_000)));
		const ask = async () =>
			answerOf(await handle(authorized(await voucher(), { headers: { "idempotency-key": "long" } })));
		const first = await ask();
		expectPaid(first);
		expect(first.text).toHaveLength(200_000);
		expectRefusal(await ask(), "conflict");
	});

	it("whose answer has nothing but empty pieces before it breaks costs nothing", async () => {
		const broken = new ReadableStream<Uint8Array>({
			async pull(controller) {
				controller.enqueue(new Uint8Array());
				await new Promise((resolve) => setTimeout(resolve, 5));
				controller.error(new Error("the source broke"));
			},
		});
		const handle = handlerOf(() => new Response(broken));
		await expect(handle(authorized(await voucher()))).rejects.toThrow("the source broke");
		await costsNothing();
	});
});

describe("a body", () => {
	const read: PaidHandler = async (request) => new Response(String((await request.text()).length));

	it("that no payment is bound to is left to the handler, however long it is", async () => {
		const { stream, seen } = upload(40, 100_000);
		const handle = handlerOf(async (request) => {
			expect(seen.pulled).toBe(0);
			return new Response(String((await request.arrayBuffer()).byteLength));
		});
		const answer = await answerOf(await handle(authorized(await voucher(), { method: "POST", body: stream })));
		expectPaid(answer);
		expect(answer.text).toBe("4000000");
	});

	it("over maxBodyBytes is 413 where a payment is bound to it; nothing more of it is read, and nothing is charged", async () => {
		const handle = handlerOf(read, { maxBodyBytes: 1_000 });
		const { stream, seen } = upload(1_000, 400);
		const request = authorized(await voucher(), {
			method: "POST",
			body: stream,
			headers: { "idempotency-key": "long" },
		});
		expectRefusal(await answerOf(await handle(request)), "content-too-large");
		expect(seen.pulled).toBeLessThan(6);
		await expect.poll(() => seen.cancelled).toBe(true);
		await costsNothing();
	});

	it("over maxBodyBytes is 413 also for whoever asks what a charge costs, and for a price that is a function", async () => {
		const body = "x".repeat(1_001);
		for (const price of [charge, () => session]) {
			const handle = handlerOf(read, { maxBodyBytes: 1_000 }, price);
			const refused = await answerOf(await handle(new Request(url, { method: "POST", body })));
			expectRefusal(refused, "content-too-large");
			const fits = await answerOf(await handle(new Request(url, { method: "POST", body: body.slice(1) })));
			expectRefusal(fits, "payment-required");
		}
	});

	it("of no bytes is none", async () => {
		const { stream } = upload(0, 0);
		const handle = handlerOf(read);
		const init = { method: "POST", headers: { "idempotency-key": "empty" } };
		const first = await answerOf(await handle(authorized(await voucher(), { ...init, body: stream })));
		expectPaid(first);
		expect(first.text).toBe("0");
		expect((await answerOf(await handle(authorized(await voucher(), init)))).receipt).toEqual(first.receipt);
	});

	it("that something else has read before is an error that says so, and costs nothing", async () => {
		const handle = handlerOf(read);
		const request = authorized(await voucher(), { method: "POST", body: "x", headers: { "idempotency-key": "k" } });
		await request.text();
		await expect(handle(request)).rejects.toThrow(/was read before its payment was looked at/);
		await costsNothing();
	});
});

describe("a client that leaves", () => {
	it("before its handler is asked is served nothing and charged nothing", async () => {
		let calls = 0;
		const handle = handlerOf(() => new Response(String(++calls)));
		await handle(authorized(await voucher(), { signal: AbortSignal.abort() }));
		expect(calls).toBe(0);
		await costsNothing();
	});

	it("while the handler runs is given back what it was promised at once, whatever the handler answers (I7)", async () => {
		let cancelled = false;
		const held = heldStream({
			cancel: () => {
				cancelled = true;
			},
		});
		const handle = handlerOf(held.handler);
		const leaving = new AbortController();
		const answer = handle(authorized(await voucher(), { signal: leaving.signal }));
		await held.entered;
		expect(await server.amounts(channel)).toMatchObject({ reserved: PRICE });
		leaving.abort();
		await expect.poll(() => server.amounts(channel)).toMatchObject({ reserved: 0n });
		held.open();
		expect((await answer).headers.get("payment-receipt")).toBeNull();
		expect(cancelled).toBe(true);
		await costsNothing();
	});

	it("while a stream is silent costs nothing, and the stream is told (I7)", async () => {
		let cancelled = false;
		const begun = Promise.withResolvers<void>();
		const handle = handlerOf(
			() =>
				new Response(
					new ReadableStream({
						pull: () => {
							begun.resolve();
							return new Promise(() => undefined);
						},
						cancel: () => {
							cancelled = true;
						},
					}),
				),
		);
		const leaving = new AbortController();
		const answer = handle(authorized(await voucher(), { signal: leaving.signal }));
		await begun.promise;
		leaving.abort();
		await answer;
		expect(cancelled).toBe(true);
		await costsNothing();
	});

	it("in the middle of a stream has paid for it, and the stream is told", async () => {
		let cancelled = false;
		const handle = handlerOf(
			() =>
				new Response(
					new ReadableStream({
						start: (controller) => controller.enqueue(new Uint8Array([120])),
						cancel: () => {
							cancelled = true;
						},
					}),
				),
		);
		const response = await handle(authorized(await voucher()));
		await response.body?.cancel();
		expect(cancelled).toBe(true);
		expect(await server.amounts(channel)).toMatchObject({ spent: PRICE, reserved: 0n });
	});
});

describe("an answer that can't be captured is not given away (I10)", () => {
	it("is a refusal when the channel was closed meanwhile, and a stream is told", async () => {
		let cancelled = false;
		const held = heldStream({
			start: (controller) => controller.enqueue(new Uint8Array([120])),
			cancel: () => {
				cancelled = true;
			},
		});
		const handle = handlerOf(held.handler);
		const answer = handle(authorized(await voucher()));
		await held.entered;
		expectPaid(await server.pay("/session", await payer.close(await server.challenge("/session"), channel, 0n)));
		held.open();
		const refused = await answerOf(await answer);
		expect(refused.status).toBeGreaterThanOrEqual(400);
		expect(refused.receipt).toBeUndefined();
		expect(refused.text).not.toContain("x".repeat(2));
		expect(cancelled).toBe(true);
	});

	it("is 503 when the store fails", async () => {
		const broken = await world.serve();
		const own = await broken.open(payer);
		const handle = paid(broken.engine, session, async () => {
			await broken.store.close();
			return new Response("secret");
		});
		const draft = await payer.voucher(await broken.challenge("/session"), own, PRICE);
		const refused = await answerOf(await handle(authorized(draft)));
		expectRefusal(refused, "service-unavailable");
		expect(refused.text).not.toContain("secret");
	});
});
