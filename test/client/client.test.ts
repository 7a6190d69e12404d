import { createPublicClient, http } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { PaymentClientOptions, PaymentPolicy } from "../../src/client/index.ts";
import { AUTHORIZATION, IDEMPOTENCY_KEY, parseCredential } from "../../src/protocol/index.ts";
import {
	createWorld,
	type PaidServer,
	type Payer,
	type Routes,
	RpcProxy,
	standardRoutes,
	type World,
} from "../support/world.ts";
import { clientFor, codeOf, QUICK, type Spy, spyOn } from "./support.ts";

let world: World;
beforeAll(async () => {
	world = await createWorld();
});
afterAll(() => world.stop());

/** Prices of `routes`, each a session of its own price on the same channel. */
const pricedRoutes =
	(prices: Readonly<Record<string, bigint>>): Routes =>
	(app, { handler }) => {
		for (const [path, price] of Object.entries(prices))
			app.get(path, { config: { payment: { price, suggestedDeposit: 10_000n } } }, handler(path));
	};

/** A real server and a client that may pay it. */
async function agentFor(
	server: PaidServer,
	policy: Partial<PaymentPolicy> = {},
	options: Partial<PaymentClientOptions> = {},
	existing?: Payer,
) {
	const payer = existing ?? (await world.payer());
	const spy = spyOn(payer.account);
	const agent = clientFor(world, spy.account, [new URL(server.url).host], policy, options);
	return {
		agent,
		spy,
		payer,
		get: (path = "/session", init?: RequestInit) => agent.fetch(`${server.url}${path}`, init),
	};
}

it("pays ahead in steps of minVoucherDelta, and closes with what was delivered (D4)", async () => {
	const server = await world.serve({ engine: { minVoucherDelta: 250n } });
	const client = await agentFor(server, { maxPrice: 250n });
	for (let request = 0; request < 5; request++) expect((await client.get()).status).toBe(200);
	const [closed] = await client.agent.close();
	expect(closed?.receipt.spent).toBe(500n);
	expect(await world.balance(server.payee)).toBe(500n);
});

it("refuses a step of minVoucherDelta above its highest price: that much it would pay ahead (I11)", async () => {
	const server = await world.serve({ engine: { minVoucherDelta: 251n } });
	const client = await agentFor(server, { maxPrice: 250n });
	await expect(client.get()).rejects.toMatchObject({ rule: "price" });
	expect(client.spy.signed).toEqual([]);
});

/** The ledger of the one channel a client has. */
async function amounts(server: PaidServer, { channels }: Awaited<ReturnType<typeof agentFor>>["agent"]) {
	const [channel, second] = channels;
	if (channel === undefined || second !== undefined) throw new Error(`${channels.length} channels`);
	return server.amounts(channel);
}

/** Sends through, and breaks the connection after the server has answered as often as it is told. */
function cutting() {
	let cuts = 0;
	const sent: { key: string | null; credential: string | null; body: string }[] = [];
	const fetch: typeof globalThis.fetch = async (input, init) => {
		const request = new Request(input, init);
		const body = await request.clone().text();
		sent.push({ key: request.headers.get(IDEMPOTENCY_KEY), credential: request.headers.get(AUTHORIZATION), body });
		const response = await globalThis.fetch(request);
		if (cuts === 0 || !request.headers.has(AUTHORIZATION)) return response;
		cuts--;
		await response.arrayBuffer();
		throw new TypeError("fetch failed");
	};
	return {
		fetch,
		sent,
		cut: (times: number) => {
			cuts = times;
		},
	};
}

/** One for each deposit that the escrow could take, however often it was signed. */
function noncesOf({ deposits }: Spy): readonly unknown[] {
	return [...new Set(deposits().map(({ nonce }) => nonce))];
}

function isMonotone({ vouchers }: Spy, channelId?: string): boolean {
	return vouchers(channelId).every((amount, index, all) => index === 0 || amount >= (all[index - 1] ?? 0n));
}

describe("one channel", () => {
	it("pays 100 requests, 32 at a time, with one deposit, and not one unit more than they cost (I11)", async () => {
		const server = await world.serve();
		const { agent, spy, get } = await agentFor(server);
		let left = 100;
		const worker = async () => {
			while (left-- > 0) expect((await get()).status).toBe(200);
		};
		await Promise.all(Array.from({ length: 32 }, worker));
		expect(await amounts(server, agent)).toEqual({ acceptedCumulative: 10_000n, spent: 10_000n, reserved: 0n });
		expect(server.calls("/session")).toBe(100);
		expect(spy.deposits()).toHaveLength(1);
		expect(spy.vouchers().reduce((a, b) => (a > b ? a : b))).toBe(10_000n);
		expect(agent.channels[0]?.consumed).toBe(10_000n);
	});

	it("is shared by routes of different prices, also at the same time", async () => {
		const server = await world.serve({ routes: pricedRoutes({ "/a": 1n, "/b": 70n, "/c": 333n }) });
		const { agent, spy, get } = await agentFor(server);
		const paths = Array.from({ length: 24 }, (_, i) => ["/a", "/b", "/c"][i % 3] ?? "/a");
		const answers = await Promise.all(paths.map((path) => get(path)));
		expect(answers.map(({ status }) => status)).toEqual(paths.map(() => 200));
		const cost = 8n * (1n + 70n + 333n);
		expect(await amounts(server, agent)).toEqual({ acceptedCumulative: cost, spent: cost, reserved: 0n });
		expect(spy.deposits()).toHaveLength(1);
	});

	it("is opened by one request while the others wait for it", async () => {
		const server = await world.serve();
		const { agent, spy, get } = await agentFor(server);
		const held = server.hold("/session");
		const answers = Promise.all(Array.from({ length: 8 }, () => get()));
		await held.entered;
		expect(spy.deposits()).toHaveLength(1);
		expect(server.calls()).toBe(1);
		held.release();
		expect((await answers).map(({ status }) => status)).toEqual(Array(8).fill(200));
		expect(await amounts(server, agent)).toMatchObject({ spent: 800n });
		expect(spy.deposits()).toHaveLength(1);
	});

	it("is not waited for longer than the caller waits", async () => {
		const server = await world.serve();
		const { get } = await agentFor(server);
		const held = server.hold("/session");
		const opener = get();
		await held.entered;
		const controller = new AbortController();
		const waiter = get("/session", { signal: controller.signal }).catch((error: Error) => error.name);
		controller.abort();
		expect(await waiter).toBe("AbortError");
		held.release();
		expect((await opener).status).toBe(200);
	});

	it("is remembered with its price: the next request to a route brings its voucher at once", async () => {
		const server = await world.serve();
		const { fetch, sent } = cutting();
		const { get } = await agentFor(server, {}, { fetch });
		await get();
		await get();
		await get("/session?page=2");
		expect(sent.map(({ credential }) => credential !== null)).toEqual([false, true, true, true]);
	});

	it("ends where its deposit does: nothing is signed beyond it, and a new one can follow (I1, I11)", async () => {
		const server = await world.serve();
		const { agent, spy, get } = await agentFor(server, { maxDeposit: 250n, maxTotal: 250n });
		await get();
		await get();
		expect(await codeOf(get())).toBe("DEPOSIT_EXHAUSTED");
		expect(spy.vouchers()).toEqual([100n, 200n]);
		await agent.close();
		expect((await get()).status).toBe(200);
		expect(spy.deposits().map(({ value }) => value)).toEqual([250n, 250n]);
	});

	it("asked with HEAD costs nothing (D11)", async () => {
		const server = await world.serve();
		const { agent, get } = await agentFor(server);
		expect((await get("/session", { method: "HEAD" })).status).toBe(200);
		await get();
		await get("/session", { method: "HEAD" });
		await get();
		await get("/session", { method: "HEAD" });
		expect(agent.channels[0]).toMatchObject({ consumed: 200n, signed: 200n });
		expect(await amounts(server, agent)).toEqual({ acceptedCumulative: 200n, spent: 200n, reserved: 0n });
	});

	it("is opened by the payer's own transactions where the server takes no authorizations", async () => {
		const server = await world.serve({ engine: { feePayer: false } });
		const payer = await world.payer({ gas: true });
		const { agent, spy, get } = await agentFor(server, {}, {}, payer);
		const answers = await Promise.all([get(), get(), get()]);
		expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
		expect(spy.transactions.map(({ to }) => to)).toEqual([world.token, world.escrow]);
		expect(spy.deposits()).toEqual([]);
		expect(await amounts(server, agent)).toMatchObject({ spent: 300n });
	});

	it("is opened once, also where the payer's node fails while its transaction is on its way (I11)", async () => {
		const server = await world.serve({ engine: { feePayer: false } });
		const payer = await world.payer({ gas: true });
		const rpc = await RpcProxy.start(world.chain.url);
		let opens = 0;
		rpc.fails = (method) => {
			if (method === "eth_sendRawTransaction") opens++;
			return method === "eth_getTransactionReceipt" && opens === 2;
		};
		const client = createPublicClient({
			transport: http(rpc.url, { retryCount: 0 }),
			pollingInterval: 20,
			cacheTime: 0,
		});
		const { agent, spy, get } = await agentFor(server, {}, { client }, payer);
		await expect(get()).rejects.toThrow();
		rpc.fails = () => false;
		expect((await get()).status).toBe(200);
		expect(spy.transactions).toHaveLength(2);
		expect(agent.channels).toHaveLength(1);
		expect(agent.forgotten).toHaveLength(0);
		await rpc.stop();
	});

	it("is found again by its transaction where the answer to its opening was lost", async () => {
		const server = await world.serve({ engine: { feePayer: false } });
		const payer = await world.payer({ gas: true });
		const { fetch, cut } = cutting();
		const { agent, spy, get } = await agentFor(server, {}, { fetch, retry: { retries: 0 } }, payer);
		cut(1);
		await expect(get()).rejects.toThrow("fetch failed");
		expect((await get()).status).toBe(200);
		expect(spy.transactions).toHaveLength(2);
		expect(await amounts(server, agent)).toMatchObject({ spent: 200n });
	});
});

describe("a request that fails costs nothing, and its credit is used (I7, I11)", () => {
	const failing: Routes = (app, { handler }) => {
		const config = { payment: { price: 100n, suggestedDeposit: 10_000n } };
		const statuses = [500, 422, 200, 404, 200, 200];
		let asked = 0;
		app.get(
			"/session",
			{ config },
			handler("/session", (_request, reply) => {
				const status = statuses[asked++] ?? 200;
				reply.code(status);
				// Errors of the application's own, in the same form as the scheme's.
				if (status >= 400) reply.header("content-type", "application/problem+json");
				return status >= 400 ? JSON.stringify({ type: "https://shop.example/broken", status }) : "served";
			}),
		);
	};

	it("also the one that opened the channel: it is there, and pays for the next", async () => {
		const server = await world.serve({ routes: failing });
		const { agent, spy, get } = await agentFor(server);
		const statuses: number[] = [];
		for (let i = 0; i < 6; i++) statuses.push((await get()).status);
		expect(statuses).toEqual([500, 422, 200, 404, 200, 200]);
		expect(spy.deposits()).toHaveLength(1);
		expect(agent.channels).toHaveLength(1);
		expect(await amounts(server, agent)).toEqual({ acceptedCumulative: 300n, spent: 300n, reserved: 0n });
		expect(agent.channels[0]).toMatchObject({ signed: 300n, consumed: 300n });
		expect(isMonotone(spy)).toBe(true);
	});

	it("where the open itself fails, the refusal is handed on and the next try asks for the same deposit (I4, I11)", async () => {
		const server = await world.serve();
		const payer = await world.payer({ funds: 0n });
		const { agent, spy, get } = await agentFor(server, {}, {}, payer);
		const answers = await Promise.all([get(), get(), get()]);
		expect(answers.map(({ status }) => status)).toEqual([402, 402, 402]);
		expect(server.calls()).toBe(0);
		expect(noncesOf(spy)).toHaveLength(1);
		expect(spy.vouchers()).toEqual([100n, 100n, 100n]);
		const [channel] = agent.channels;
		expect(channel).toMatchObject({ open: false, signed: 100n, consumed: 0n });
		expect(await agent.close()).toEqual([]);
	});
});

describe("a lost answer never means a second price (I6)", () => {
	it.each(["the opening", "a voucher"])("%s is sent again byte for byte, and charged once", async (what) => {
		const server = await world.serve();
		const { fetch, sent, cut } = cutting();
		const { agent, spy, get } = await agentFor(server, {}, { fetch });
		const body = JSON.stringify({ text: "ünïcode" });
		const post = () => get("/session", { method: "POST", body, headers: { "content-type": "application/json" } });
		if (what === "a voucher") await post();
		const served = server.calls();
		sent.length = 0;
		cut(2);
		expect(await (await post()).json()).toEqual({ served: served + 1 });
		const paid = sent.filter(({ credential }) => credential !== null);
		expect(paid).toHaveLength(3);
		expect(new Set(paid.map((one) => JSON.stringify(one))).size).toBe(1);
		expect(new Set(sent.map(({ key }) => key)).size).toBe(1);
		expect(paid[0]?.body).toBe(body);
		expect(server.calls()).toBe(served + 1);
		const cost = BigInt(served + 1) * 100n;
		expect(await amounts(server, agent)).toMatchObject({ acceptedCumulative: cost, spent: cost });
		expect(spy.deposits()).toHaveLength(1);
		expect(agent.channels[0]).toMatchObject({ signed: cost, consumed: cost });
	});

	it("each logical request has a key of its own, or the caller's", async () => {
		const server = await world.serve();
		const { fetch, sent } = cutting();
		const { get } = await agentFor(server, {}, { fetch });
		await get();
		await get();
		await get("/session", { headers: { [IDEMPOTENCY_KEY]: "mine" } });
		expect(new Set(sent.map(({ key }) => key)).size).toBe(3);
		expect(sent.at(-1)?.key).toBe("mine");
	});

	it("a request that is lost for good is paid for when the server says so, once, and the channel goes on", async () => {
		const server = await world.serve();
		const { fetch, cut } = cutting();
		const { agent, spy, get } = await agentFor(server, {}, { fetch, retry: { ...QUICK, retries: 1 } });
		await get();
		cut(2);
		await expect(get()).rejects.toThrow("fetch failed");
		expect(agent.channels[0]).toMatchObject({ signed: 200n, consumed: 100n });
		expect((await get()).status).toBe(200);
		expect((await get()).status).toBe(200);
		expect(await amounts(server, agent)).toMatchObject({ acceptedCumulative: 400n, spent: 400n });
		expect(agent.channels[0]).toMatchObject({ signed: 400n, consumed: 400n });
		expect(spy.vouchers()).toEqual([100n, 200n, 200n, 300n, 400n]);
	});

	it("many lost ones among many parallel ones leave a channel that works and books that agree", async () => {
		const server = await world.serve();
		let count = 0;
		const fetch: typeof globalThis.fetch = async (input, init) => {
			const response = await globalThis.fetch(input, init);
			if (++count % 5 !== 0) return response;
			await response.arrayBuffer();
			throw new TypeError("fetch failed");
		};
		const { agent, get } = await agentFor(server, {}, { fetch, retry: { retries: 0 } });
		const wave = () => Promise.allSettled(Array.from({ length: 16 }, () => get()));
		const outcomes = [...(await wave()), ...(await wave()), ...(await wave())];
		count = -1_000_000;
		expect((await get()).status).toBe(200);
		const served = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value.status] : []));
		expect(new Set(served)).toEqual(new Set([200]));
		const ledger = await amounts(server, agent);
		expect(agent.channels[0]?.consumed).toBe(ledger?.spent);
		expect(ledger?.spent).toBe(BigInt(server.calls()) * 100n);
	});

	it("requests after many lost ones are told once what is owed, not each of them again", async () => {
		const server = await world.serve();
		const { fetch, sent, cut } = cutting();
		const { agent, get } = await agentFor(server, {}, { fetch, retry: { retries: 0 } });
		await get();
		cut(8);
		await Promise.allSettled(Array.from({ length: 8 }, () => get()));
		sent.length = 0;
		// All at once: no quiet moment in which a receipt could settle the books.
		const answers = await Promise.all(Array.from({ length: 16 }, () => get()));
		expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
		expect(await amounts(server, agent)).toMatchObject({ acceptedCumulative: 2_500n, spent: 2_500n });
		expect(sent.length).toBeLessThanOrEqual(2 * 16);
	});

	it("an opening that is lost for good is found again: the same deposit, the same channel (I4)", async () => {
		const server = await world.serve();
		const { fetch, cut } = cutting();
		const { agent, spy, get } = await agentFor(server, {}, { fetch, retry: { retries: 0 } });
		cut(1);
		await expect(get()).rejects.toThrow("fetch failed");
		expect(agent.channels).toMatchObject([{ open: false }]);
		expect((await get()).status).toBe(200);
		expect(noncesOf(spy)).toHaveLength(1);
		expect(await amounts(server, agent)).toMatchObject({ acceptedCumulative: 200n, spent: 200n });
	});

	it("a request the caller aborts may have been charged, so the server may claim it once", async () => {
		const server = await world.serve();
		const { agent, get } = await agentFor(server);
		await get();
		const held = server.hold("/session");
		const controller = new AbortController();
		const aborted = get("/session", { signal: controller.signal }).catch((error: Error) => error.name);
		await held.entered;
		controller.abort();
		expect(await aborted).toBe("AbortError");
		held.release();
		expect((await get()).status).toBe(200);
		const ledger = await amounts(server, agent);
		expect(agent.channels[0]?.consumed).toBe(ledger?.spent);
	});

	it("the caller's own key used twice is answered twice and paid once", async () => {
		const server = await world.serve();
		const { agent, get } = await agentFor(server);
		const once = () => get("/session", { headers: { [IDEMPOTENCY_KEY]: "the same" } });
		const first = await (await once()).text();
		expect(await (await once()).text()).toBe(first);
		await agent.close();
		expect(await world.balance(server.payee)).toBe(100n);
	});

	it("nothing is signed for a request that was aborted before", async () => {
		const server = await world.serve();
		const { spy, get } = await agentFor(server);
		await expect(get("/session", { signal: AbortSignal.abort(new Error("not today")) })).rejects.toThrow("not today");
		expect(spy.signed).toEqual([]);
	});
});

describe("a challenge that expired", () => {
	it("is replaced when the server says so, and the request is served (D9)", async () => {
		const server = await world.serve();
		const { agent, get } = await agentFor(server);
		await get();
		server.clock.advance(301_000);
		expect((await get()).status).toBe(200);
		expect((await get()).status).toBe(200);
		expect(await amounts(server, agent)).toMatchObject({ spent: 300n });
	});

	it("is never sent: a fresh one is fetched first, also to close (core, Optional Parameters; D9)", async () => {
		const server = await world.serve();
		const { fetch, sent } = cutting();
		const { agent, get } = await agentFor(server, {}, { fetch, now: server.clock.now });
		const used = () => sent.flatMap(({ credential }) => (credential ? [parseCredential(credential).challenge.id] : []));
		await get();
		server.clock.advance(301_000);
		expect((await get()).status).toBe(200);
		server.clock.advance(301_000);
		expect(await agent.close()).toHaveLength(1);
		expect(new Set(used()).size).toBe(3);
		expect(used()).toHaveLength(3);
	});
});

describe("a price that changed", () => {
	it("is paid where the policy allows it, and no more than it is", async () => {
		const server = await world.serve({ routes: pricedRoutes({ "/quote": 100n }) });
		const { agent, spy, get } = await agentFor(server);
		await get("/quote");
		await server.restart({ routes: pricedRoutes({ "/quote": 250n }) });
		expect((await get("/quote")).status).toBe(200);
		expect(await amounts(server, agent)).toEqual({ acceptedCumulative: 350n, spent: 350n, reserved: 0n });
		expect(spy.vouchers().at(-1)).toBe(350n);
	});

	it("is refused above the policy's limit: nothing new is signed (I11)", async () => {
		const server = await world.serve({ routes: pricedRoutes({ "/quote": 100n }) });
		const { agent, spy, get } = await agentFor(server, { maxPrice: 200n });
		await get("/quote");
		await server.restart({ routes: pricedRoutes({ "/quote": 201n }) });
		await expect(get("/quote")).rejects.toMatchObject({ code: "POLICY_REFUSED", rule: "price" });
		expect(agent.channels[0]).toMatchObject({ consumed: 100n });
		expect(spy.vouchers().every((amount) => amount <= 200n)).toBe(true);
		expect(await agent.close()).toMatchObject([{ receipt: { spent: 100n } }]);
		expect(await world.balance(server.payee)).toBe(100n);
	});

	it("is not overpaid when it fell: what was signed and not charged is used or comes back", async () => {
		const server = await world.serve({ routes: pricedRoutes({ "/quote": 100n }) });
		const { agent, get } = await agentFor(server);
		await get("/quote");
		await server.restart({ routes: pricedRoutes({ "/quote": 30n }) });
		await get("/quote");
		await get("/quote");
		expect(agent.channels[0]).toMatchObject({ consumed: 160n });
		await agent.close();
		expect(await world.balance(server.payee)).toBe(160n);
	});

	it("that the opening voucher does not cover is asked for again: the receipt is not taken for the resource (D11)", async () => {
		const server = await world.serve({ routes: pricedRoutes({ "/quote": 100n }) });
		let restarted = false;
		const fetch: typeof globalThis.fetch = async (input, init) => {
			const request = new Request(input, init);
			if (request.headers.has(AUTHORIZATION) && !restarted) {
				restarted = true;
				await server.restart({ routes: pricedRoutes({ "/quote": 150n }) });
			}
			return globalThis.fetch(request);
		};
		const { agent, spy, get } = await agentFor(server, {}, { fetch });
		expect(await (await get("/quote")).json()).toEqual({ served: 1 });
		expect(await amounts(server, agent)).toMatchObject({ spent: 150n });
		expect(spy.deposits()).toHaveLength(1);
	});
});

describe("close", () => {
	it("pays the payee what was consumed and the payer the rest", async () => {
		const server = await world.serve();
		const { agent, payer, get } = await agentFor(server);
		const before = await world.balance(payer.address);
		await get();
		await get();
		const [closed] = await agent.close();
		expect(closed?.receipt).toMatchObject({ spent: 200n, txHash: expect.stringMatching(/^0x/) });
		expect(await world.balance(server.payee)).toBe(200n);
		expect(await world.balance(payer.address)).toBe(before - 200n);
		expect(agent.channels).toEqual([]);
	});

	it("waits for requests on their way, and pays for them (D6)", async () => {
		const server = await world.serve();
		const { fetch, sent } = cutting();
		const { agent, get } = await agentFor(server, {}, { fetch });
		await get();
		const held = server.hold("/session");
		const running = get();
		await held.entered;
		const paid = sent.length;
		const closing = agent.close();
		// Time enough for a close that would not wait.
		await get("/free");
		expect(sent).toHaveLength(paid + 1);
		held.release();
		expect((await running).status).toBe(200);
		expect(await closing).toMatchObject([{ receipt: { spent: 200n } }]);
		expect(parseCredential(sent.at(-1)?.credential ?? "").payload).toMatchObject({ cumulativeAmount: "200" });
		expect(await world.balance(server.payee)).toBe(200n);
	});

	it("waits for a channel that is being opened", async () => {
		const server = await world.serve();
		const { agent, get } = await agentFor(server);
		const held = server.hold("/session");
		const opening = get();
		await held.entered;
		const closing = agent.close();
		held.release();
		expect((await opening).status).toBe(200);
		expect(await closing).toMatchObject([{ receipt: { spent: 100n } }]);
	});

	it("makes later requests wait, who then open another channel", async () => {
		const server = await world.serve();
		const { agent, spy, get } = await agentFor(server);
		await get();
		const held = server.hold("/session");
		const running = get();
		await held.entered;
		const closing = agent.close();
		const later = get();
		held.release();
		await running;
		const [closed] = await closing;
		expect((await later).status).toBe(200);
		expect(noncesOf(spy)).toHaveLength(2);
		expect(agent.channels).toHaveLength(1);
		expect(agent.channels[0]?.channelId).not.toBe(closed?.channel.channelId);
	});

	it("done twice, or twice at the same time, closes once", async () => {
		const server = await world.serve();
		const { agent, get } = await agentFor(server);
		await get();
		const transactions = await server.transactions();
		const outcomes = await Promise.all([agent.close(), agent.close(), agent.close()]);
		expect(outcomes.map((closed) => closed.length).sort()).toEqual([0, 0, 1]);
		expect(await agent.close()).toEqual([]);
		expect(await server.transactions()).toBe(transactions + 1);
	});

	it("whose answer was lost ends well when it is done again: the escrow is asked", async () => {
		const server = await world.serve();
		const { fetch, cut } = cutting();
		const { agent, payer, get } = await agentFor(server, {}, { fetch, retry: { retries: 0 } });
		await get();
		const before = await world.balance(payer.address);
		cut(1);
		await expect(agent.close()).rejects.toThrow("fetch failed");
		expect(agent.channels).toHaveLength(1);
		expect((await agent.close()).length).toBeLessThanOrEqual(1);
		expect(agent.channels).toEqual([]);
		expect(await world.balance(payer.address)).toBe(before + 9_900n);
	});

	it("closes one channel by its id and leaves the others", async () => {
		const [one, two] = await Promise.all([world.serve(), world.serve()]);
		const payer = await world.payer();
		const hosts = [one, two].map(({ url }) => new URL(url).host);
		const agent = clientFor(world, payer.account, hosts);
		await agent.fetch(`${one.url}/session`);
		await agent.fetch(`${two.url}/session`);
		const [first, second] = agent.channels;
		expect(await agent.close(second?.channelId)).toMatchObject([{ channel: second }]);
		expect(agent.channels).toEqual([first]);
		expect(await agent.close("0x")).toEqual([]);
	});

	it("closes the others when one server is gone, and says which was not closed", async () => {
		const [one, two] = await Promise.all([world.serve(), world.serve()]);
		const payer = await world.payer();
		const hosts = [one, two].map(({ url }) => new URL(url).host);
		const agent = clientFor(world, payer.account, hosts);
		await agent.fetch(`${one.url}/session`);
		await agent.fetch(`${two.url}/session`);
		await one.stop();
		await expect(agent.close()).rejects.toThrow();
		expect(agent.channels.map(({ parameters }) => parameters.payee)).toEqual([one.payee]);
		expect(await world.balance(two.payee)).toBe(100n);
	});
});

describe("a charge", () => {
	it("is paid once by one signature, also when its answer is lost (I6)", async () => {
		const server = await world.serve();
		const { fetch, cut } = cutting();
		const { agent, spy, get } = await agentFor(server, {}, { fetch });
		cut(1);
		expect(await (await get("/charge")).json()).toEqual({ served: 1 });
		expect(spy.charges()).toHaveLength(1);
		expect(spy.vouchers()).toEqual([]);
		expect(agent.channels).toEqual([]);
		expect(await world.balance(server.payee)).toBe(100n);
	});

	it("and a session beside it are chosen in the server's order, as the policy allows", async () => {
		const both: Routes = (app, { handler }) => {
			const offers = [{ price: 100n }, { price: 90n, intent: "charge" as const }];
			app.get("/both", { config: { payment: offers } }, handler("/both"));
		};
		const server = await world.serve({ routes: both });
		const first = await agentFor(server);
		await first.get("/both");
		expect([first.spy.vouchers().length, first.spy.charges().length]).toEqual([1, 0]);
		const second = await agentFor(server, { escrows: [] });
		expect((await second.get("/both")).status).toBe(200);
		expect([second.spy.vouchers().length, second.spy.charges().length]).toEqual([0, 1]);
	});
});

it("what is free is handed on as it is: nothing is signed, nothing is asked of the chain", async () => {
	const server = await world.serve({ routes: standardRoutes });
	const { agent, spy, get } = await agentFor(server);
	expect((await get("/free")).status).toBe(200);
	expect((await get("/nothing-here")).status).toBe(404);
	expect(spy.signed).toEqual([]);
	expect(await agent.close()).toEqual([]);
});

it("a receipt reaches the caller as the server sent it", async () => {
	const server = await world.serve();
	const { get } = await agentFor(server);
	const { headers } = await get();
	const json = JSON.parse(Buffer.from(headers.get("payment-receipt") ?? "", "base64url").toString("utf8"));
	expect(json).toMatchObject({ spent: "100", acceptedCumulative: "100", status: "success" });
});
