import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import { createWorld, DEPOSIT, encode, type PaidServer, type Payer, PRICE, type World } from "../../support/world.ts";

let world: World;
let server: PaidServer;
let payer: Payer;

beforeAll(async () => {
	world = await createWorld();
	server = await world.serve();
	payer = await world.payer();
});
afterAll(() => world.stop());

const challenge = () => server.challenge("/session");

describe("a voucher", () => {
	it("pays one request: receipt, private, and the ledger says the same (I1)", async () => {
		const channel = await server.open(payer);
		const draft = await payer.voucher(await challenge(), channel, PRICE);
		const answer = await server.pay("/session", draft);
		expectPaid(answer);
		expect(answer.json).toEqual({ served: expect.any(Number) });
		expect(answer.receipt).toMatchObject({
			intent: "session",
			challengeId: draft.challenge.id,
			reference: channel.channelId,
			channelId: channel.channelId,
			chainId: world.chain.chainId,
			acceptedCumulative: PRICE,
			spent: PRICE,
			units: 1,
		});
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: PRICE, spent: PRICE, reserved: 0n });
	});

	it("above what was paid before, each one more than the last, pays request after request under one challenge (D9)", async () => {
		const channel = await server.open(payer);
		const one = await challenge();
		for (let n = 1n; n <= 5n; n++)
			expectPaid(await server.pay("/session", await payer.voucher(one, channel, n * PRICE)));
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: 5n * PRICE, spent: 5n * PRICE, reserved: 0n });
	});

	it("below the price is taken and not served, and says what is missing", async () => {
		const channel = await server.open(payer);
		const before = server.calls();
		const answer = await server.pay("/session", await payer.voucher(await challenge(), channel, PRICE - 1n));
		expectRefusal(answer, "session/insufficient-balance");
		expect(answer.problem).toMatchObject({
			channelId: channel.channelId,
			requiredCumulative: String(PRICE),
			acceptedCumulative: String(PRICE - 1n),
			deposit: String(DEPOSIT),
		});
		expect(server.calls()).toBe(before);
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: PRICE - 1n, spent: 0n, reserved: 0n });
	});

	it("above the deposit is refused, exactly the deposit is not (I1)", async () => {
		const channel = await server.open(payer);
		const over = await payer.voucher(await challenge(), channel, DEPOSIT + 1n);
		const answer = await unchanged(server, [channel], () => server.pay("/session", over));
		expectRefusal(answer, "session/amount-exceeds-deposit");
		expect(answer.problem).toMatchObject({ cumulativeAmount: String(DEPOSIT + 1n), deposit: String(DEPOSIT) });
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, DEPOSIT)));
	});

	it("lower than or equal to the highest changes no acceptance and buys nothing that is not covered (I2)", async () => {
		const channel = await server.open(payer);
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, 3n * PRICE)));
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, PRICE)));
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, 3n * PRICE)));
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: 3n * PRICE, spent: 3n * PRICE, reserved: 0n });
		for (const amount of [3n * PRICE, 2n * PRICE, 0n]) {
			const stale = await payer.voucher(await challenge(), channel, amount);
			const answer = await unchanged(server, [channel], () => server.pay("/session", stale));
			expectRefusal(answer, "session/insufficient-balance");
			expect(answer.problem).toMatchObject({ requiredCumulative: String(4n * PRICE) });
		}
	});

	it("ahead of the price pays several requests", async () => {
		const channel = await server.open(payer);
		for (let n = 1n; n <= 4n; n++) {
			const answer = await server.pay("/session", await payer.voucher(await challenge(), channel, 4n * PRICE));
			expectPaid(answer);
			expect(answer.receipt).toMatchObject({ acceptedCumulative: 4n * PRICE, spent: n * PRICE });
		}
		const fifth = await payer.voucher(await challenge(), channel, 4n * PRICE);
		expectRefusal(
			await unchanged(server, [channel], () => server.pay("/session", fifth)),
			"session/insufficient-balance",
		);
	});

	it("sent again byte for byte is not served twice, funds or not (I6, D7)", async () => {
		const channel = await server.open(payer);
		const draft = await payer.voucher(await challenge(), channel, 5n * PRICE);
		expectPaid(await server.pay("/session", draft));
		const answer = await unchanged(server, [channel], () => server.pay("/session", draft));
		expectRefusal(answer, "session/insufficient-balance");
	});

	it("sent again with the scheme spelled otherwise is the same credential (I6; core: Concurrent Request Handling)", async () => {
		const channel = await server.open(payer);
		const authorization = encode(await payer.voucher(await challenge(), channel, 5n * PRICE));
		expectPaid(await server.send("/session", { authorization }));
		for (const spelling of ["payment ", "PAYMENT ", "Payment   "]) {
			const again = authorization.replace("Payment ", spelling);
			const answer = await unchanged(server, [channel], () => server.send("/session", { authorization: again }));
			expectRefusal(answer, "session/insufficient-balance");
		}
	});

	it("sent again byte for byte after a restart is not served twice either (I4)", async () => {
		const channel = await server.open(payer);
		const draft = await payer.voucher(await challenge(), channel, 5n * PRICE);
		expectPaid(await server.pay("/session", draft));
		await server.restart();
		const answer = await unchanged(server, [channel], () => server.pay("/session", draft));
		expectRefusal(answer, "session/insufficient-balance");
	});

	it("whose request a crash cut off is still good, byte for byte, and what was promised to it is free (I5, I7)", async () => {
		const channel = await server.open(payer);
		const draft = await payer.voucher(await challenge(), channel, PRICE);
		const gate = server.hold("/session");
		const cut = server.pay("/session", draft).catch((error: unknown) => error);
		await gate.entered;
		await server.crash();
		expect(await cut).toBeInstanceOf(Error);
		gate.release();
		await server.restart();
		expectPaid(await server.pay("/session", draft));
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: PRICE, spent: PRICE, reserved: 0n });
	});

	it("under the challenge of a cheaper route is refused, whatever it covers; under that of a dearer one it pays the price (D9)", async () => {
		const shop = await world.serve({
			routes: (app, { handler }) => {
				app.get("/cheap", { config: { payment: { price: 1n } } }, handler("/cheap"));
				app.get("/dear", { config: { payment: { price: 1_000n } } }, handler("/dear"));
			},
		});
		const channel = await shop.open(payer, {}, "/cheap");
		const cheap = await shop.challenge("/cheap");
		const unanswered = await payer.voucher(cheap, channel, 2_000n);
		const refused = await unchanged(shop, [channel], () => shop.pay("/dear", unanswered));
		expectRefusal(refused, "session/challenge-not-found");
		const [dear] = refused.challenges;
		if (dear === undefined) throw new Error("no fresh challenge");
		expectPaid(await shop.pay("/dear", await payer.voucher(dear, channel, 1_000n)));
		expectPaid(await shop.pay("/cheap", await payer.voucher(dear, channel, 1_001n)));
		expect(await shop.amounts(channel)).toMatchObject({ spent: 1_001n });
	});

	it("sent again byte for byte with a key new to the channel is served while funds last (D7)", async () => {
		const channel = await server.open(payer);
		const draft = await payer.voucher(await challenge(), channel, 2n * PRICE);
		expectPaid(await server.pay("/session", draft));
		expectPaid(await server.pay("/session", draft, { key: "second" }));
		const third = await unchanged(server, [channel], () => server.pay("/session", draft, { key: "third" }));
		expectRefusal(third, "session/insufficient-balance");
	});

	it("on HEAD is only accepted: no handler, no charge, a receipt (D11)", async () => {
		const channel = await server.open(payer);
		const before = server.calls();
		const raised = await server.pay("/session", await payer.voucher(await challenge(), channel, 2n * PRICE), {
			method: "HEAD",
		});
		expectPaid(raised);
		expect(raised.receipt).toMatchObject({ acceptedCumulative: 2n * PRICE, spent: 0n });
		const stale = await payer.voucher(await challenge(), channel, PRICE);
		const repeated = await unchanged(server, [channel], () => server.pay("/session", stale, { method: "HEAD" }));
		expectPaid(repeated);
		expect(repeated.receipt).toMatchObject({ acceptedCumulative: 2n * PRICE, spent: 0n });
		expect(server.calls()).toBe(before);
	});

	it("a voucher is taken with every method: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS and one of no standard", async () => {
		const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"];
		const any = await world.serve({
			before: (app) => void app.addHttpMethod("PURGE", { hasBody: false }),
			routes: (app, { handler }) => {
				const config = { payment: { price: PRICE } };
				app.get("/session", { config }, handler("/session"));
				const method = ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"];
				app.route({ method, url: "/session", config, handler: handler("/session") });
			},
		});
		const channel = await any.open(payer);
		let accepted = 0n;
		for (const method of methods) {
			accepted += PRICE;
			const draft = await payer.voucher(await any.challenge("/session", method), channel, accepted);
			const answer = await any.pay("/session", draft, { method });
			expectPaid(answer);
			expect(answer.receipt, method).toMatchObject({ acceptedCumulative: accepted });
		}
		expect(any.calls("/session")).toBe(methods.length - 1);
		expect(await any.amounts(channel)).toMatchObject({ spent: BigInt(methods.length - 1) * PRICE });
	});

	it("on an unknown channel is 410, whoever signed it", async () => {
		const channel = payer.channel(server.payee);
		const draft = await payer.voucher(await challenge(), channel, PRICE);
		expectRefusal(await unchanged(server, [channel], () => server.pay("/session", draft)), "session/channel-not-found");
	});

	it("under a challenge that another channel has answered is refused (D9)", async () => {
		const [first, second] = [await server.open(payer), await server.open(payer)];
		const one = await challenge();
		expectPaid(await server.pay("/session", await payer.voucher(one, first, PRICE)));
		const foreign = await payer.voucher(one, second, PRICE);
		const answer = await unchanged(server, [first, second], () => server.pay("/session", foreign));
		expectRefusal(answer, "session/challenge-not-found");
	});

	it("is refused with a fresh challenge once its own has expired, and good under the fresh one (D9)", async () => {
		const channel = await server.open(payer);
		const old = await challenge();
		server.clock.advance(301_000);
		const late = await payer.voucher(old, channel, PRICE);
		const answer = await unchanged(server, [channel], () => server.pay("/session", late));
		expectRefusal(answer, "session/challenge-not-found");
		const [fresh] = answer.challenges;
		if (fresh === undefined) throw new Error("no fresh challenge");
		expect(fresh.id).not.toBe(old.id);
		expectPaid(await server.pay("/session", await payer.voucher(fresh, channel, PRICE)));
	});
});

describe("minVoucherDelta", () => {
	it("refuses smaller steps, but not the first voucher, nor one for the whole deposit (D3, D4)", async () => {
		const strict = await world.serve({ engine: { minVoucherDelta: 1_000n } });
		const channel = await strict.open(payer, { deposit: 2_500n });
		const pay = async (amount: bigint) =>
			strict.pay("/session", await payer.voucher(await strict.challenge("/session"), channel, amount));
		expectPaid(await pay(PRICE));
		const small = await unchanged(strict, [channel], () => pay(PRICE + 999n));
		expectRefusal(small, "session/delta-too-small");
		expect(small.problem).toMatchObject({ requiredCumulative: String(PRICE + 1_000n), minVoucherDelta: "1000" });
		expectPaid(await pay(1_900n));
		expectPaid(await pay(2_500n));
		expect(await strict.amounts(channel)).toEqual({ acceptedCumulative: 2_500n, spent: 3n * PRICE, reserved: 0n });
	});
});

describe("requests on one channel at the same time", () => {
	it("are charged one by one: 50 at once with funds for 20 serve exactly 20 (I1, I6, D16)", async () => {
		const channel = await server.open(payer);
		const before = server.calls("/session");
		const one = await challenge();
		// Enough for 20, signed under challenges of their own, so that no two credentials are alike.
		const drafts = await Promise.all(
			Array.from({ length: 50 }, async (_, n) =>
				payer.voucher(n === 0 ? one : await challenge(), channel, 20n * PRICE),
			),
		);
		const answers = await Promise.all(drafts.map((draft) => server.pay("/session", draft)));
		const served = answers.filter(({ status }) => status === 200);
		expect(served.length).toBe(20);
		expect(server.calls("/session") - before).toBe(20);
		for (const answer of answers) {
			if (answer.status === 200) expectPaid(answer);
			else expectRefusal(answer, "session/insufficient-balance");
		}
		const spent = served.map(({ receipt }) => (receipt?.intent === "session" ? receipt.spent : -1n));
		expect(spent.sort((a, b) => Number(a - b))).toEqual(Array.from({ length: 20 }, (_, n) => BigInt(n + 1) * PRICE));
		expect(await server.amounts(channel)).toEqual({
			acceptedCumulative: 20n * PRICE,
			spent: 20n * PRICE,
			reserved: 0n,
		});
	});

	it("with rising vouchers in any order are never charged more than was signed (I1, I2)", async () => {
		const channel = await server.open(payer);
		const one = await challenge();
		const drafts = await Promise.all(
			Array.from({ length: 50 }, (_, n) => payer.voucher(one, channel, BigInt(((n * 17) % 50) + 1) * PRICE)),
		);
		const answers = await Promise.all(drafts.map((draft) => server.pay("/session", draft)));
		const served = BigInt(answers.filter(({ status }) => status === 200).length);
		expect(served).toBeGreaterThan(0n);
		expect(await server.amounts(channel)).toEqual({
			acceptedCumulative: 50n * PRICE,
			spent: served * PRICE,
			reserved: 0n,
		});
	});

	it("with one credential deliver once (I6)", async () => {
		const channel = await server.open(payer);
		const before = server.calls("/session");
		const draft = await payer.voucher(await challenge(), channel, 30n * PRICE);
		const answers = await Promise.all(Array.from({ length: 20 }, () => server.pay("/session", draft)));
		expect(answers.filter(({ status }) => status === 200).length).toBe(1);
		expect(server.calls("/session") - before).toBe(1);
		expect(await server.amounts(channel)).toMatchObject({ spent: PRICE, reserved: 0n });
	});
});
