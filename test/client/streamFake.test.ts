/** What a payer of a stream does with a server of any kind: each byte and each answer is scripted. */

import type { LocalAccount } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { PaymentClientOptions, PaymentPolicy } from "../../src/client/index.ts";
import { formatTimestamp } from "../../src/protocol/index.ts";
import { createStage, type Stage } from "./stage.ts";
import { aWhile, type FakeOptions, fakeMeter, ORIGIN, PAYEE, PRICE, responseOf, until } from "./streamStage.ts";
import { challengeOf, clientFor, codeOf, paymentRequired, sessionTerms, spyOn } from "./support.ts";

const URL_ = `${ORIGIN}/tokens`;
const AHEAD = 10n;

let world: Stage;
let account: LocalAccount;
beforeAll(async () => {
	world = await createStage();
	account = await world.payer();
});
afterAll(() => world.stop());

function agentFor(
	policy: Partial<PaymentPolicy> = {},
	options: Partial<PaymentClientOptions> = {},
	fake: FakeOptions = {},
) {
	const meter = fakeMeter(world, fake);
	const spy = spyOn(account);
	const payer = clientFor(
		world,
		spy.account,
		[new URL(ORIGIN).host],
		{ payees: [PAYEE], maxDeposit: 1_000_000n, maxStream: 100_000n, ...policy },
		{ fetch: meter.fetch, stream: { aheadUnits: Number(AHEAD), stepUnits: 5 }, ...options },
	);
	return { meter, spy, payer };
}

/** Reads in the background. */
function reading(response: Response) {
	const reader = response.body?.getReader();
	if (reader === undefined) throw new Error("no body");
	const read = { text: "", isDone: false, error: undefined as unknown, reader };
	const decoder = new TextDecoder();
	const all = (async () => {
		for (;;) {
			const { done, value } = await reader.read();
			if (done) break;
			read.text += decoder.decode(value, { stream: true });
		}
		read.isDone = true;
	})().catch((error: unknown) => {
		read.error = error;
	});
	return Object.assign(read, { all });
}

/** How many listeners for `abort` were added from now on and not removed. */
function countListeners() {
	const { addEventListener, removeEventListener } = EventTarget.prototype;
	const added = new Set<unknown>();
	EventTarget.prototype.addEventListener = function (type, listener, options) {
		if (type === "abort") added.add(listener);
		addEventListener.call(this, type, listener, options);
	};
	EventTarget.prototype.removeEventListener = function (type, listener, options) {
		added.delete(listener);
		removeEventListener.call(this, type, listener, options);
	};
	return {
		count: () => added.size,
		stop() {
			Object.assign(EventTarget.prototype, { addEventListener, removeEventListener });
		},
	};
}

async function open(...parts: Parameters<typeof agentFor>) {
	const agent = agentFor(...parts);
	const init: RequestInit = {};
	const response = await agent.payer.fetch(URL_, init);
	const stream = await agent.meter.stream();
	return { ...agent, response, stream };
}

describe("a body that pays for itself", () => {
	it("answers a need with a voucher by HEAD to its own URL, and hands on the content alone, byte for byte", async () => {
		const { meter, response, stream } = await open();
		const read = reading(response);
		stream.send(": hello\n\ndata: 1\r\n\r\n");
		stream.need(200n);
		await until(() => meter.heads().length === 1);
		stream.send("data: ü\n\n");
		stream.receipt(200n);
		stream.send("data: cut off");
		stream.end();
		await read.all;
		expect(read.text).toBe(": hello\n\ndata: 1\r\n\r\ndata: ü\n\ndata: cut off");
		expect(meter.paid.at(-1)).toMatchObject({ method: "HEAD", url: URL_, action: "voucher" });
		expect(response).toMatchObject({ url: "", status: 200, redirected: false });
	});

	it("hears a need wherever its bytes are cut", async () => {
		const { meter, response, stream } = await open();
		const read = reading(response);
		const data = { channelId: stream.channelId, requiredCumulative: "200", acceptedCumulative: "100", deposit: "1" };
		const bytes = new TextEncoder().encode(
			`data: 1\n\nevent: payment-need-voucher\r\ndata: ${JSON.stringify(data)}\r\n\r\n`,
		);
		for (const byte of bytes) stream.send(new Uint8Array([byte]));
		await until(() => meter.heads().length === 1);
		stream.end();
		await read.all;
		expect(read.text).toBe("data: 1\n\n");
	});

	it("hands the payment's events on where it is told to", async () => {
		const { response, stream } = await open({}, { stream: { passPaymentEvents: true } });
		const read = reading(response);
		stream.need(200n);
		stream.end();
		await read.all;
		expect(read.text).toContain("event: payment-need-voucher");
	});

	it("signs ahead from the first need on, a step at a time, before the server has to ask", async () => {
		const { meter, response, stream } = await open();
		const read = reading(response);
		stream.events(1);
		await aWhile();
		expect(meter.heads()).toEqual([]);
		stream.need(200n);
		await until(() => meter.heads().length === 1);
		expect(meter.heads()).toEqual([(1n + AHEAD) * PRICE]);
		for (let i = 0; i < 4; i++) stream.events(1);
		await aWhile();
		expect(meter.heads()).toHaveLength(1);
		stream.events(1);
		await until(() => meter.heads().length === 2);
		expect(meter.heads().at(-1)).toBe((6n + AHEAD) * PRICE);
		stream.end();
		await read.all;
	});

	it("does not pay while nobody reads", async () => {
		const { meter, response, stream, spy } = await open();
		stream.need(200n);
		stream.events(3);
		await aWhile();
		expect(spy.vouchers()).toEqual([PRICE]);
		const read = reading(response);
		await until(() => meter.heads().length > 0);
		stream.end();
		await read.all;
		expect(spy.vouchers().length).toBeGreaterThan(1);
	});

	it("settles its books by the receipt at the end, also by one that comes late", async () => {
		const { payer, response, stream, meter } = await open();
		const read = reading(response);
		stream.events(1);
		stream.need(200n);
		await until(() => meter.heads().length === 1);
		stream.events(6);
		await until(() => meter.heads().length === 2);
		await aWhile(200);
		stream.receipt(700n);
		await aWhile(200);
		expect(read.isDone).toBe(false);
		stream.end();
		await read.all;
		expect(payer.channels).toMatchObject([{ consumed: 700n, signed: 1_600n, uncertain: 0n }]);
		const next = payer.fetch(URL_);
		await meter.stream(1);
		await next;
		// What was signed ahead and not used pays the next one.
		expect(meter.paid.at(-1)).toMatchObject({ method: "GET", amount: 1_600n });
	});

	it("counts what an event is worth as it is told, and bytes where the server sells bytes", async () => {
		const heads = async (options: Partial<PaymentClientOptions>, fake: FakeOptions) => {
			const { meter, response, stream } = await open({}, options, fake);
			const read = reading(response);
			stream.send("data: 3\n\n");
			stream.need(200n);
			await until(() => meter.heads().length === 1);
			stream.end();
			await read.all;
			return meter.heads();
		};
		const stream = { aheadUnits: 10, stepUnits: 1, unitsOf: ({ data }: { data: string }) => Number(data) };
		expect(await heads({ stream }, {})).toEqual([13n * PRICE]);
		expect(await heads({ stream: { aheadUnits: 10, stepUnits: 1 } }, { terms: { unitType: "bytes" } })).toEqual([
			19n * PRICE,
		]);
	});

	it("pays a body that is no event stream when it falls silent, and before it does from then on", async () => {
		const fake = { contentType: "application/octet-stream", terms: { unitType: "byte", amount: "1" } };
		const { meter, response, stream } = await open({}, { stream: { aheadUnits: 100, stepUnits: 50 } }, fake);
		const read = reading(response);
		stream.send("x");
		await until(() => meter.heads().length === 1);
		expect(meter.heads()).toEqual([101n]);
		stream.send("y".repeat(60));
		await until(() => meter.heads().length === 2);
		expect(meter.heads()).toEqual([101n, 151n]);
		stream.end();
		await read.all;
		expect(read.text).toHaveLength(61);
	});

	it("lets a body that is no event stream alone where the policy does not say what one may cost", async () => {
		const meter = fakeMeter(world, { contentType: "text/plain" });
		const payer = clientFor(world, account, [new URL(ORIGIN).host], {}, { fetch: meter.fetch });
		const response = await payer.fetch(URL_);
		const read = reading(response);
		await aWhile(1_300);
		expect(meter.heads()).toEqual([]);
		(await meter.stream()).end();
		await read.all;
	});

	it("waits for a stream that says nothing for long, without a word of its own", async () => {
		const { meter, response, stream, spy } = await open();
		const read = reading(response);
		await aWhile(1_500);
		expect(meter.paid).toHaveLength(1);
		expect(spy.vouchers()).toHaveLength(1);
		stream.events(1);
		stream.end();
		await read.all;
		expect(read.isDone).toBe(true);
	});
});

describe("a stream that is left", () => {
	it.each(["cancel", "abort"])("by %s pays no more, at once, and lets go of its connection", async (how) => {
		const { meter, payer, spy } = agentFor();
		const controller = new AbortController();
		const response = await payer.fetch(URL_, { signal: controller.signal });
		const stream = await meter.stream();
		const read = reading(response);
		const hanging = Promise.withResolvers<undefined>();
		meter.onHead = () => hanging.promise;
		stream.events(1);
		stream.need(200n);
		await until(() => meter.heads().length === 1);
		if (how === "cancel") await read.reader.cancel();
		else controller.abort(new Error("enough"));
		await read.all;
		const vouchers = spy.vouchers().length;
		await until(() => stream.isCancelled());
		// Also the voucher that is on its way is called back.
		expect(meter.paid.at(-1)).toMatchObject({ method: "HEAD", signal: { aborted: true } });
		hanging.resolve(undefined);
		await aWhile();
		expect(spy.vouchers()).toHaveLength(vouchers);
		expect(meter.heads()).toHaveLength(1);
		if (how === "abort") expect(read.error).toMatchObject({ message: "enough" });
		// What was signed for it and not delivered may still be claimed.
		expect(payer.channels).toMatchObject([{ consumed: 100n, uncertain: AHEAD * PRICE }]);
	});

	it("by breaking out of the loop pays no more", async () => {
		const { meter, payer, spy } = agentFor();
		const events: string[] = [];
		const all = (async () => {
			for await (const { data } of payer.stream(URL_)) {
				events.push(data);
				if (events.length === 2) break;
			}
		})();
		const stream = await meter.stream();
		stream.events(1);
		stream.need(200n);
		await until(() => meter.heads().length === 1);
		stream.events(1);
		await all;
		await until(() => stream.isCancelled());
		stream.need(100_000n);
		await aWhile();
		expect(spy.vouchers()).toHaveLength(2);
	});

	it("by closing the channel ends with an error that says so", async () => {
		const { meter, payer, response, stream } = await open();
		const read = reading(response);
		stream.events(1);
		await until(() => read.text.length > 0);
		const closing = payer.close().catch(() => undefined);
		await read.all;
		await closing;
		expect(read.error).toMatchObject({ code: "STREAM_STOPPED" });
		// It asks first what was charged: the payer may not have seen all that was delivered.
		expect(meter.paid.map(({ method, action }) => [method, action])).toContainEqual(["HEAD", "voucher"]);
	});

	it.each(["end", "cut", "cancel", "abort"] as const)("by %s leaves no listener and no timer", async (how) => {
		const fake = { contentType: "text/plain" };
		const controller = new AbortController();
		const { payer, meter } = agentFor({}, {}, fake);
		const response = await payer.fetch(URL_, { signal: controller.signal });
		const stream = await meter.stream();
		const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
		const before = timers();
		const listening = countListeners();
		const read = reading(response);
		for (let i = 1; i <= 300; i++) {
			stream.send("x");
			await until(() => read.text.length === i);
		}
		// One for the whole stream, none for each wait.
		expect(listening.count()).toBe(1);
		if (how === "cancel") await read.reader.cancel();
		else if (how === "abort") controller.abort();
		else stream[how]();
		await read.all;
		listening.stop();
		expect(listening.count()).toBe(0);
		await until(() => timers() <= before, "the end of the timers");
	});
});

describe("a server that lies", () => {
	it("and asks for more than was delivered and the credit ends the stream, and gets nothing", async () => {
		const { meter, response, stream } = await open();
		const read = reading(response);
		stream.events(1);
		stream.need((1n + AHEAD) * PRICE + 1n);
		await read.all;
		expect(read.error).toMatchObject({ code: "OVERCHARGE" });
		expect(meter.heads()).toEqual([]);
		expect(stream.isCancelled()).toBe(true);
	});

	it("and asks again and again without delivering gets no more than the credit", async () => {
		const { spy, response, stream, meter } = await open();
		const read = reading(response);
		for (let required = 2n; required <= 30n; required++) {
			stream.need(required * PRICE);
			await aWhile(10);
		}
		await read.all;
		expect(read.error).toMatchObject({ code: "OVERCHARGE" });
		expect(spy.vouchers().at(-1)).toBeLessThanOrEqual(AHEAD * PRICE);
		expect(meter.heads().length).toBeLessThanOrEqual(Number(AHEAD));
	});

	it("and asks for the same voucher for ever is given up", async () => {
		const { meter, response, stream } = await open();
		meter.onHead = () =>
			new Response(null, {
				headers: { "payment-receipt": meter.receiptFor(stream.channelId, { acceptedCumulative: 0n }) },
			});
		const read = reading(response);
		for (let i = 0; i < 100; i++) stream.need(200n);
		await read.all;
		expect(read.error).toMatchObject({ code: "STREAM_VOUCHER_REFUSED" });
		expect(meter.heads().length).toBeLessThan(10);
		expect(meter.heads().at(-1)).toBe(AHEAD * PRICE);
	});

	it.each([
		[
			"for another channel",
			(required: string) => ({ requiredCumulative: required, channelId: `0x${"12".repeat(32)}` }),
		],
		["for no channel", (required: string) => ({ requiredCumulative: required, channelId: undefined })],
		["in another notation", () => ({ requiredCumulative: "0xc8" })],
		["below zero", () => ({ requiredCumulative: "-200" })],
		["with a number", () => ({ requiredCumulative: 200 })],
		["with too many digits", () => ({ requiredCumulative: "9".repeat(60) })],
	])("and asks %s is not heard", async (_, changes) => {
		const { meter, response, stream } = await open();
		const read = reading(response);
		stream.need(200n, changes("200"));
		stream.send("event: payment-need-voucher\ndata: {]\n\n");
		stream.send("event: payment-need-voucher\ndata: null\n\n");
		stream.send("event: payment-receipt\ndata: {}\n\n");
		stream.events(1);
		stream.end();
		await read.all;
		expect(read.isDone).toBe(true);
		expect(meter.heads()).toEqual([]);
	});

	it("and charges in the end more than it delivered is believed as far as was signed", async () => {
		const { payer, response, stream, meter } = await open();
		const read = reading(response);
		stream.events(1);
		stream.need(200n);
		await until(() => meter.heads().length === 1);
		stream.receipt(90_000n);
		stream.end();
		await read.all;
		const [channel] = payer.channels;
		expect(channel?.consumed).toBeLessThanOrEqual(channel?.signed ?? 0n);
		expect(channel?.signed).toBe((1n + AHEAD) * PRICE);
	});

	it("and lets a whole answer cost more than the policy allows ends it", async () => {
		const { response, stream, spy } = await open({ maxStream: 500n });
		const read = reading(response);
		stream.events(5);
		stream.need(501n);
		await read.all;
		expect(read.error).toMatchObject({ code: "STREAM_LIMIT", bound: "maxStream", max: 500n });
		expect((read.error as Error).message).toMatch(
			/may cost 500 base units of token 0x.* raise the policy's maxStream$/,
		);
		expect(spy.vouchers().at(-1)).toBeLessThanOrEqual(500n);
	});

	it("and names the limit of a request, in the unit of its currency", async () => {
		const tokens = [{ chainId: world.chain.chainId, address: world.token }];
		const its = { maxPrice: 1_000n, maxStream: 900n, maxDeposit: 1_000_000n, limits: { request: 500n } };
		const currencies = [{ symbol: "USDC", decimals: 6, tokens, ...its }];
		const { response, stream } = await open({ currencies });
		const read = reading(response);
		stream.events(5);
		stream.need(501n);
		await read.all;
		expect(read.error).toMatchObject({ code: "STREAM_LIMIT", bound: "limits.request" });
		expect((read.error as Error).message).toContain("may cost 0.0005 USDC");
	});

	it("gets no more than a request may cost where the policy says nothing of streams", async () => {
		const meter = fakeMeter(world);
		const spy = spyOn(account);
		const payer = clientFor(world, spy.account, [new URL(ORIGIN).host], {}, { fetch: meter.fetch });
		const read = reading(await payer.fetch(URL_));
		const stream = await meter.stream();
		for (let i = 1n; i <= 20n; i++) {
			stream.events(1);
			stream.need((i + 1n) * PRICE);
			await aWhile(10);
		}
		await read.all;
		expect(read.error).toMatchObject({ code: "STREAM_LIMIT", bound: "maxPrice", max: 1_000n });
		expect((read.error as Error).message).toContain("set the policy's maxStream");
		expect(spy.vouchers().at(-1)).toBe(1_000n);
	});
});

describe("a voucher beside the stream", () => {
	it("is sent again under a fresh challenge, once the server wants that", async () => {
		const { meter, response, stream } = await open();
		let refused = 0;
		const fresh = meter.challenge();
		meter.onHead = () => (refused++ === 0 ? responseOf({ ...paymentRequired(fresh), body: "" }) : undefined);
		const read = reading(response);
		stream.events(1);
		stream.need(200n);
		await until(() => meter.heads().length === 2);
		stream.end();
		await read.all;
		expect(read.isDone).toBe(true);
		expect(new Set(meter.heads()).size).toBe(1);
	});

	it("is given up where every challenge is answered with another one", async () => {
		const { meter, response, stream } = await open();
		meter.onHead = () => responseOf(paymentRequired(meter.challenge()));
		const read = reading(response);
		stream.events(1);
		stream.need(200n);
		await read.all;
		expect(read.error).toMatchObject({ code: "STREAM_VOUCHER_REFUSED", status: 402 });
		expect(meter.heads().length).toBeLessThanOrEqual(4);
		expect(new Set(meter.heads()).size).toBe(1);
	});

	it("asks for a challenge first where its own has expired", async () => {
		let now = Date.now();
		const meter = fakeMeter(world);
		const short = challengeOf(sessionTerms(world, PAYEE, { suggestedDeposit: "1000000" }), {
			expires: formatTimestamp(now + 60_000),
		});
		let isFirst = true;
		const fetch: typeof globalThis.fetch = async (input, init) => {
			const request = new Request(input, init);
			if (isFirst && !request.headers.has("authorization")) {
				isFirst = false;
				return responseOf(paymentRequired(short));
			}
			return meter.fetch(request);
		};
		const policy = { maxDeposit: 1_000_000n, maxStream: 100_000n };
		const payer = clientFor(world, account, [new URL(ORIGIN).host], policy, { fetch, now: () => now });
		const read = reading(await payer.fetch(URL_));
		const stream = await meter.stream();
		stream.events(1);
		await until(() => read.text.length > 0);
		now += 120_000;
		stream.need(200n);
		await until(() => meter.heads().length === 1);
		stream.end();
		await read.all;
		expect(read.isDone).toBe(true);
	});

	it("that is on its way when the stream ends with its receipt leaves nothing uncertain once it is answered", async () => {
		const { meter, payer, response, stream } = await open();
		const answered = Promise.withResolvers<undefined>();
		meter.onHead = () => answered.promise;
		const read = reading(response);
		stream.events(1);
		stream.need(300n);
		await until(() => meter.heads().length === 1);
		stream.events(2);
		stream.receipt(300n);
		stream.end();
		await read.all;
		answered.resolve(undefined);
		const [channel] = payer.channels;
		await until(() => channel?.consumed === 300n);
		expect(channel?.uncertain).toBe(0n);
		expect(channel?.state()).toMatchObject({ consumed: "300", uncertain: "0" });
	});

	it("goes to where the channel was opened when the stream's own URL takes none", async () => {
		const { meter, payer } = agentFor();
		const first = payer.fetch(`${ORIGIN}/opened`);
		const opened = await meter.stream();
		opened.receipt(0n);
		opened.end();
		await (await first).text();
		meter.onHead = ({ url }) => (url === URL_ ? new Response(null, { status: 404 }) : undefined);
		const response = await payer.fetch(URL_, { method: "POST", body: "prompt", headers: { "x-tenant": "7" } });
		const stream = await meter.stream(1);
		const read = reading(response);
		stream.events(1);
		stream.need(300n);
		await until(() => meter.accepted() >= 300n);
		stream.end();
		await read.all;
		const heads = meter.paid.filter(({ method }) => method === "HEAD");
		expect(heads.map(({ url }) => url)).toEqual([URL_, `${ORIGIN}/opened`]);
		// As whoever sent the request, but without what is about its body.
		expect(heads[0]?.headers.get("x-tenant")).toBe("7");
		expect(heads[0]?.headers.get("content-type")).toBeNull();
	});

	it.each([404, 405, 500])("that is answered %i everywhere ends the stream", async (status) => {
		const { meter, response, stream } = await open();
		meter.onHead = () => new Response(null, { status });
		const read = reading(response);
		stream.events(1);
		stream.need(200n);
		await read.all;
		expect(read.error).toMatchObject({ code: "STREAM_VOUCHER_REFUSED", status });
	});

	it("that fails before it is needed is tried again when it is", async () => {
		const { meter, response, stream } = await open();
		const read = reading(response);
		stream.events(1);
		stream.need(200n);
		await until(() => meter.heads().length === 1);
		meter.onHead = () => new Response(null, { status: 500 });
		stream.events(6);
		await until(() => meter.heads().length === 2);
		stream.events(4);
		await aWhile();
		expect(read.error).toBeUndefined();
		expect(meter.heads()).toHaveLength(2);
		meter.onHead = undefined;
		stream.need(1_200n);
		await until(() => meter.heads().length === 3);
		stream.end();
		await read.all;
		expect(read.isDone).toBe(true);
	});

	it("rises by the server's least step, and no stream costs more for it than it may", async () => {
		const { meter, response, stream } = await open({}, {}, { details: { minVoucherDelta: "700" } });
		const read = reading(response);
		stream.events(1);
		stream.need(800n);
		await until(() => meter.heads().length === 1);
		for (let i = 0; i < 5; i++) {
			stream.events(4);
			await aWhile(30);
		}
		stream.end();
		await read.all;
		const amounts = meter.paid.map(({ amount }) => amount ?? 0n);
		for (const [index, amount] of amounts.entries())
			if (index > 0) expect(amount - (amounts[index - 1] ?? 0n)).toBeGreaterThanOrEqual(700n);
		expect(amounts.at(-1)).toBeLessThanOrEqual((21n + AHEAD) * PRICE);
	});

	it("of two streams on one channel rises over both, and neither gets the other's credit", async () => {
		const { meter, payer, response, stream, spy } = await open();
		const [a, second] = [reading(response), await payer.fetch(`${ORIGIN}/other`)];
		const b = reading(second);
		const other = await meter.stream(1);
		for (let i = 0; i < 30; i++) {
			for (const one of [stream, other]) {
				one.events(1);
				one.need(BigInt(stream.sent() + other.sent() + 1) * PRICE);
				await aWhile(5);
			}
			expect(spy.vouchers().at(-1)).toBeLessThanOrEqual((BigInt(stream.sent() + other.sent()) + 2n * AHEAD) * PRICE);
		}
		const amounts = spy.vouchers();
		expect(amounts).toEqual([...amounts].sort((x, y) => (x < y ? -1 : 1)));
		stream.receipt(6_000n);
		stream.end();
		other.receipt(6_000n);
		other.end();
		await Promise.all([a.all, b.all]);
		expect([a.isDone, b.isDone]).toEqual([true, true]);
		expect(payer.channels).toMatchObject([{ consumed: 6_000n }]);
	});
});

describe("the events of a stream", () => {
	it("come parsed, over as many connections as it takes, as one request", async () => {
		const { meter, payer } = agentFor();
		const events: unknown[] = [];
		const all = (async () => {
			for await (const event of payer.stream(URL_, { method: "POST", body: "prompt" })) events.push(event);
		})();
		const first = await meter.stream();
		first.events(3);
		first.need(400n);
		await until(() => meter.heads().length === 1);
		first.send("id: 4\nda");
		await until(() => events.length === 3);
		first.cut();
		const second = await meter.stream(1);
		expect(second.headers.get("last-event-id")).toBe("3");
		expect(second.headers.get("idempotency-key")).toBe(first.headers.get("idempotency-key"));
		second.send("event: named\nid: 4\ndata: a\ndata: b\n\n");
		second.send("data: c\n\n");
		second.receipt(500n);
		second.end();
		await all;
		expect(events).toEqual([
			...[1, 2, 3].map((id) => ({ event: "message", data: "token", id: String(id) })),
			{ event: "named", data: "a\nb", id: "4" },
			{ event: "message", data: "c" },
		]);
		// The second connection was paid with what was signed for the first.
		expect(meter.paid.filter(({ method }) => method === "POST").map(({ amount }) => amount)).toEqual([100n, 1_100n]);
		expect(payer.channels).toMatchObject([{ consumed: 500n, signed: 1_100n }]);
	});

	it("are not asked for again where the last one had no id: they would be paid twice", async () => {
		const { meter, payer } = agentFor();
		const all = (async () => {
			for await (const _ of payer.stream(URL_));
		})();
		const stream = await meter.stream();
		stream.send("data: a\n\n");
		await aWhile();
		stream.cut();
		expect(await codeOf(all)).toBe("STREAM_BROKEN");
		expect(meter.streams).toHaveLength(1);
	});

	it("are given up after as many broken connections in a row as a request has tries", async () => {
		const { meter, payer } = agentFor();
		const all = (async () => {
			for await (const _ of payer.stream(URL_));
		})();
		for (let index = 0; index < 4; index++) (await meter.stream(index)).cut();
		expect(await codeOf(all)).toBe("STREAM_BROKEN");
		expect(meter.streams).toHaveLength(4);
	});

	it("end with the error that the stream can't be paid with, and nothing is tried again", async () => {
		const { meter, payer } = agentFor();
		const all = (async () => {
			for await (const _ of payer.stream(URL_));
		})();
		const stream = await meter.stream();
		stream.events(1);
		stream.need(999_999n);
		expect(await codeOf(all)).toBe("OVERCHARGE");
		await aWhile();
		expect(meter.streams).toHaveLength(1);
	});

	it("end where the payer has asked for a newer stream on the same channel", async () => {
		const { meter, payer } = agentFor();
		const drain = async (path: string) => {
			for await (const _ of payer.stream(`${ORIGIN}${path}`));
		};
		const older = drain("/a");
		(await meter.stream()).events(1);
		const newer = drain("/b");
		const second = await meter.stream(1);
		// As a server does that has one stream a channel.
		meter.streams[0]?.cut();
		expect(await codeOf(older)).toBe("STREAM_STOPPED");
		second.end();
		await newer;
		expect(meter.streams).toHaveLength(2);
	});

	it("are refused where the answer is none, with the answer", async () => {
		const { meter, payer } = agentFor({}, {}, { contentType: "text/plain" });
		const all = (async () => {
			for await (const _ of payer.stream(URL_));
		})();
		void meter.stream().then((stream) => stream.end());
		await expect(all).rejects.toMatchObject({ code: "STREAM_REFUSED", response: { status: 200 } });
	});

	it("stop with the caller's signal, while they wait for a new connection too", async () => {
		const { meter, payer } = agentFor({}, { retry: { retries: 5, minDelayMs: 60_000, maxDelayMs: 60_000 } });
		const controller = new AbortController();
		const all = (async () => {
			for await (const _ of payer.stream(URL_, { signal: controller.signal }));
		})();
		const stream = await meter.stream();
		stream.events(1);
		await aWhile();
		stream.cut();
		await aWhile();
		controller.abort(new Error("enough"));
		await expect(all).rejects.toThrow("enough");
		expect(meter.streams).toHaveLength(1);
	});
});
