/** A payer of streams and the server of this project: what is delivered is what is paid, on both ledgers and on chain. */

import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { PaymentClientOptions, PaymentPolicy } from "../../src/client/index.ts";
import { type Meter, meterOf } from "../../src/server/index.ts";
import { createWorld, type PaidServer, type Routes, type World } from "../support/world.ts";
import { until } from "./streamStage.ts";
import { clientFor, type Spy, spyOn } from "./support.ts";

const PRICE = 100n;
const AHEAD = 20n;

let world: World;
let server: PaidServer;
/** Units that the handler has charged, on the run that is on. */
let charged = 0n;
let onCharged: () => void = () => undefined;
let isHandlerOver = false;
/** What `/slow` waits for after its first piece. */
let slow = Promise.withResolvers<void>();

async function* tokens(meter: Meter, count: number, from: number, pauseMs = 0) {
	charged = 0n;
	isHandlerOver = false;
	try {
		for (let id = from + 1; id <= count; id++) {
			await meter.charge(1);
			charged += 1n;
			onCharged();
			yield { id: String(id), data: `token ${id}` };
			if (pauseMs > 0) await sleep(pauseMs);
		}
	} finally {
		isHandlerOver = true;
	}
}

const routes: Routes = (app) => {
	const payment = { price: PRICE, unitType: "token", suggestedDeposit: 1_000_000n, metered: { blockUnits: 8 } };
	app.get<{ Querystring: Record<string, string> }>("/tokens", { config: { payment } }, (request) => {
		const { n = "10", pause = "0" } = request.query;
		const from = Number(request.headers["last-event-id"] ?? 0);
		return tokens(meterOf(request.payment), Number(n), from, Number(pause));
	});
	app.post("/prompt", { config: { payment } }, (request) => tokens(meterOf(request.payment), 60, 0));
	// Vouchers come beside the stream, by HEAD to its URL: Fastify makes such a route for GET alone.
	app.head("/prompt", { config: { payment } }, async () => "");
	const bytes = {
		...payment,
		price: 1n,
		unitType: "byte",
		metered: { estimateUnits: 1_000, blockUnits: 1_024, per: "byte" as const },
	};
	app.get("/bytes", { config: { payment: bytes } }, (_request, reply) => {
		reply.type("application/octet-stream");
		return (async function* () {
			for (let i = 0; i < 40; i++) yield new Uint8Array(1_000).fill(i);
		})();
	});
	const estimated = { ...payment, metered: { estimateUnits: 15 } };
	app.post("/whole", { config: { payment: estimated } }, async (request) => {
		await meterOf(request.payment).charge(7);
		return { text: "seven" };
	});
	const text = { ...bytes, metered: { ...bytes.metered, estimateUnits: 1_000 } };
	app.get("/text", { config: { payment: text } }, (_request, reply) => {
		reply.type("text/plain");
		return (async function* () {
			for (let i = 0; i < 62; i++) yield "ten bytes\n";
		})();
	});
	app.get("/slow", { config: { payment: text } }, (_request, reply) => {
		reply.type("text/plain");
		return (async function* () {
			yield "x".repeat(300);
			await slow.promise;
		})();
	});
	// Of no known length, and by tokens that nobody can count but the server.
	app.get("/usage", { config: { payment: estimated } }, (request, reply) => {
		reply.type("application/json");
		return (async function* () {
			await meterOf(request.payment).charge(7);
			yield JSON.stringify({ usage: 7 });
		})();
	});
	app.get("/quote", { config: { payment: { price: PRICE, suggestedDeposit: 1_000_000n } } }, async () => ({
		quote: 42,
	}));
};

beforeAll(async () => {
	world = await createWorld();
	server = await world.serve({ routes });
});
afterAll(() => world.stop());

async function agentFor(
	policy: Partial<PaymentPolicy> = {},
	options: Partial<PaymentClientOptions> = {},
	origin = server.url,
) {
	const payer = await world.payer();
	const spy = spyOn(payer.account);
	const agent = clientFor(
		world,
		spy.account,
		[new URL(origin).host],
		{ maxDeposit: 1_000_000n, maxStream: 1_000_000n, ...policy },
		{ stream: { aheadUnits: Number(AHEAD), stepUnits: 10 }, ...options },
	);
	const spent = async () => 1_000_000n - (await world.balance(payer.address));
	return { agent, spy, payer, spent, url: (path: string) => `${origin}${path}` };
}

type Agent = Awaited<ReturnType<typeof agentFor>>["agent"];

function channelOf(agent: Agent) {
	const [channel] = agent.channels;
	if (channel === undefined) throw new Error("no channel");
	return channel;
}

/** The ledger, once nothing is on its way. */
async function ledger(agent: Agent) {
	const channel = channelOf(agent);
	await until(async () => (await server.amounts(channel))?.reserved === 0n, "the end of what is reserved");
	return server.amounts(channel);
}

/** At each charge: how far one side is ahead of the other, in units. */
function measureLead(spy: Spy) {
	const lead = { prepaid: 0n, unpaid: 0n };
	onCharged = () => {
		const signed = (spy.vouchers().at(-1) ?? 0n) / PRICE;
		if (signed - charged > lead.prepaid) lead.prepaid = signed - charged;
		if (charged - signed > lead.unpaid) lead.unpaid = charged - signed;
	};
	return lead;
}

/** A way to the server that can be cut. */
async function startRelay() {
	const sockets = new Set<Socket>();
	const { hostname, port } = new URL(server.url);
	const relay = createServer((near) => {
		const far = connect({ host: hostname, port: Number(port) });
		for (const [one, other] of [
			[near, far],
			[far, near],
		] as const) {
			sockets.add(one);
			one.on("error", () => undefined);
			one.on("close", () => {
				sockets.delete(one);
				other.destroy();
			});
			one.pipe(other);
		}
	});
	relay.listen(0, "127.0.0.1");
	await once(relay, "listening");
	return {
		url: `http://127.0.0.1:${(relay.address() as AddressInfo).port}`,
		cut() {
			for (const socket of sockets) socket.destroy();
		},
		async stop() {
			this.cut();
			relay.close();
			await once(relay, "close");
		},
	};
}

describe("a stream with the server", () => {
	it("pays as it is read, neither side ever ahead by more than its bound, and to the last unit on chain", async () => {
		const { agent, spy, url, spent } = await agentFor();
		const lead = measureLead(spy);
		const response = await agent.fetch(url("/tokens?n=400"));
		const text = await response.text();
		const expected = Array.from({ length: 400 }, (_, i) => `id: ${i + 1}\ndata: token ${i + 1}\n\n`).join("");
		expect(text.trimEnd()).toBe(expected.trimEnd());
		expect(lead.unpaid).toBe(0n);
		expect(lead.prepaid).toBeLessThanOrEqual(AHEAD);
		expect(spy.vouchers().length).toBeLessThan(60);
		expect(await ledger(agent)).toMatchObject({ spent: 40_000n });
		await until(() => channelOf(agent).consumed === 40_000n);
		await agent.close();
		expect(await spent()).toBe(40_000n);
	});

	it("is paid no further than it is read", async () => {
		const { agent, spy, url } = await agentFor();
		const response = await agent.fetch(url("/tokens?n=4000"));
		await sleep(200);
		expect(spy.vouchers()).toEqual([PRICE]);
		const reader = response.body?.getReader();
		await reader?.read();
		await sleep(300);
		const signed = spy.vouchers().at(-1) ?? 0n;
		expect(signed).toBeLessThanOrEqual((2n + AHEAD) * PRICE);
		// The server is as far as sockets read ahead, and what was signed reaches.
		expect(charged * PRICE).toBeLessThanOrEqual(signed);
		await reader?.cancel();
		await until(() => isHandlerOver);
	});

	it("that is left halfway costs what was delivered, on both ledgers and on chain", async () => {
		const { agent, spy, url, spent } = await agentFor();
		let events = 0;
		for await (const event of agent.stream(url("/tokens?n=100000&pause=1"))) {
			expect(event).toEqual({ event: "message", id: String(++events), data: `token ${events}` });
			if (events === 57) break;
		}
		await until(() => isHandlerOver);
		const vouchers = spy.vouchers().length;
		const amounts = await ledger(agent);
		expect(amounts?.spent).toBeGreaterThanOrEqual(5_700n);
		expect(amounts?.spent).toBeLessThanOrEqual((57n + AHEAD) * PRICE);
		await agent.close();
		// One more signature: that of the close, for what the server had delivered.
		expect(spy.vouchers()).toHaveLength(vouchers + 2);
		expect(await spent()).toBe(amounts?.spent);
	});

	it("goes on after its connection was cut, with nothing lost, nothing twice, and nothing paid twice", async () => {
		const relay = await startRelay();
		const { agent, spy, url, spent } = await agentFor({}, {}, relay.url);
		const ids: number[] = [];
		for await (const { id } of agent.stream(url("/tokens?n=200&pause=1"))) {
			ids.push(Number(id));
			if (ids.length === 40 || ids.length === 120) relay.cut();
		}
		expect(ids).toEqual(Array.from({ length: 200 }, (_, i) => i + 1));
		const amounts = await ledger(agent);
		// What had left and was lost with the connection is delivered again: no more than what one pause lets leave.
		expect(amounts?.spent).toBeGreaterThanOrEqual(20_000n);
		expect(amounts?.spent).toBeLessThanOrEqual(20_000n + 2n * AHEAD * PRICE);
		// A voucher may still have been on its way when the stream ended.
		await until(() => channelOf(agent).consumed === amounts?.spent);
		expect(spy.vouchers().at(-1)).toBeLessThanOrEqual((amounts?.spent ?? 0n) + AHEAD * PRICE);
		await agent.close();
		expect(await spent()).toBe(amounts?.spent);
		await relay.stop();
	});

	it("is topped up before it dries up, again and again, and pays on", async () => {
		const { agent, spy, url, spent } = await agentFor({ maxDeposit: 5_000n });
		let events = 0;
		for await (const _ of agent.stream(url("/tokens?n=150"))) events++;
		expect(events).toBe(150);
		expect(spy.deposits().length).toBeGreaterThan(2);
		const channel = channelOf(agent);
		expect(await world.onChain(channel)).toMatchObject({ deposit: channel.deposit });
		expect(await ledger(agent)).toMatchObject({ spent: 15_000n });
		await agent.close();
		expect(await spent()).toBe(15_000n);
	});

	it("whose deposit may not grow is paid to its last unit, and ends with an error that says so", async () => {
		const { agent, url, spent } = await agentFor({ maxDeposit: 3_000n, maxTotal: 3_000n });
		const ids: string[] = [];
		const all = (async () => {
			for await (const { id } of agent.stream(url("/tokens?n=150"))) ids.push(id ?? "");
		})();
		await expect(all).rejects.toMatchObject({ code: "DEPOSIT_EXHAUSTED" });
		expect(ids).toHaveLength(30);
		await until(() => isHandlerOver);
		await ledger(agent);
		await agent.close();
		expect(await spent()).toBe(3_000n);
	});

	it("costs no more than the policy lets a whole answer cost", async () => {
		const { agent, url, spy } = await agentFor({ maxStream: 2_500n });
		await expect((await agent.fetch(url("/tokens?n=150"))).text()).rejects.toMatchObject({ code: "STREAM_LIMIT" });
		expect(spy.vouchers().at(-1)).toBe(2_500n);
	});

	it("shares its channel with requests, whose vouchers and its own are one rising row", async () => {
		const { agent, url, spy, spent } = await agentFor();
		const stream = (async () => {
			let events = 0;
			for await (const _ of agent.stream(url("/tokens?n=200&pause=1"))) events++;
			return events;
		})();
		await until(() => spy.vouchers().length > 2);
		for (let i = 0; i < 10; i++) expect((await agent.fetch(url("/quote"))).status).toBe(200);
		expect(await stream).toBe(200);
		const amounts = spy.vouchers();
		expect(amounts).toEqual([...amounts].sort((a, b) => Number(a - b)));
		expect(agent.channels).toHaveLength(1);
		expect(await ledger(agent)).toMatchObject({ spent: 21_000n });
		await agent.close();
		expect(await spent()).toBe(21_000n);
	});

	it("is asked for by POST as well, where the server takes vouchers by HEAD there", async () => {
		const { agent, url, spent } = await agentFor();
		const init = { method: "POST", body: "{}", headers: { "content-type": "application/json" } };
		let events = 0;
		for await (const _ of agent.stream(url("/prompt"), init)) events++;
		expect(events).toBe(60);
		await agent.close();
		expect(await spent()).toBe(6_000n);
	});

	it("gives its place to a newer one on the same channel, and is not fought for", async () => {
		const { agent, url } = await agentFor();
		const ids: string[] = [];
		const older = (async () => {
			for await (const { id } of agent.stream(url("/tokens?n=100000&pause=2"))) ids.push(id ?? "");
		})();
		const failed = expect(older).rejects.toMatchObject({ code: "STREAM_STOPPED" });
		await until(() => ids.length > 30);
		// A newer one takes the place only where its voucher rises (D16).
		let newer = 0;
		for (let tries = 0; newer === 0 && tries < 20; tries++) {
			try {
				for await (const _ of agent.stream(url("/tokens?n=50"))) newer++;
			} catch (error) {
				expect(error).toMatchObject({ code: "STREAM_REFUSED", response: { status: 409 } });
				await sleep(20);
			}
		}
		await failed;
		expect(newer).toBe(50);
	});

	it("goes on where its server was killed and started again", async () => {
		const own = await world.serve({ routes });
		const { agent, url, spent } = await agentFor(
			{},
			{ retry: { retries: 10, minDelayMs: 20, maxDelayMs: 200 } },
			own.url,
		);
		const ids: number[] = [];
		for await (const { id } of agent.stream(url("/tokens?n=120&pause=1"))) {
			ids.push(Number(id));
			if (ids.length === 50) {
				await own.crash();
				await own.restart();
			}
		}
		expect(ids).toEqual(Array.from({ length: 120 }, (_, i) => i + 1));
		await agent.close();
		// A crash costs the server a block at most; what was under way then may have been delivered twice.
		const paid = await spent();
		expect(paid).toBeGreaterThanOrEqual((120n - 8n) * PRICE);
		expect(paid).toBeLessThanOrEqual((120n + AHEAD) * PRICE);
	});
});

describe("an answer of another kind that is metered", () => {
	it("is paid by the byte as it is read", async () => {
		const { agent, url, spent } = await agentFor({}, { stream: { aheadUnits: 8_000, stepUnits: 2_000 } });
		const bytes = await (await agent.fetch(url("/bytes"))).bytes();
		expect(bytes).toHaveLength(40_000);
		expect(await ledger(agent)).toMatchObject({ spent: 40_000n });
		await agent.close();
		expect(await spent()).toBe(40_000n);
	});

	it("is covered by what the server estimates, and costs what it used", async () => {
		const { agent, url, spent } = await agentFor();
		for (let i = 0; i < 3; i++) {
			const response = await agent.fetch(url("/whole"), {
				method: "POST",
				body: "{}",
				headers: { "content-type": "application/json" },
			});
			expect({ status: response.status, json: await response.json() }).toEqual({
				status: 200,
				json: { text: "seven" },
			});
		}
		await agent.close();
		expect(await spent()).toBe(2_100n);
	});

	it("costs what was delivered of it, though more was estimated and no receipt says so", async () => {
		const { agent, url, spent, spy } = await agentFor({}, { stream: { aheadUnits: 2_000 } });
		expect(await (await agent.fetch(url("/text"))).text()).toHaveLength(620);
		expect(await ledger(agent)).toMatchObject({ spent: 620n });
		await agent.close();
		expect(await spent()).toBe(620n);
		expect(spy.vouchers().at(-1)).toBe(620n);
	});

	it.each([
		["/text", 620n, 1_000n],
		["/usage", 700n, 1_500n],
	])("is settled before the next one like it, which reserves no more for it: %s", async (path, cost, estimate) => {
		const { agent, url, spent, spy } = await agentFor({}, { stream: { aheadUnits: 2_000 } });
		for (let done = 0n; done < 3n; done++) {
			await (await agent.fetch(url(path))).text();
			expect(spy.vouchers().at(-1)).toBe(done * cost + estimate);
			expect(await ledger(agent)).toMatchObject({ spent: (done + 1n) * cost });
		}
		await agent.fetch(url("/quote"));
		expect(channelOf(agent).state()).toMatchObject({ consumed: String(3n * cost + PRICE), uncertain: "0" });
		await agent.close();
		expect(await spent()).toBe(3n * cost + PRICE);
	});

	it("that is left, or never read, costs what the server has delivered of it", async () => {
		for (const isRead of [true, false]) {
			slow = Promise.withResolvers();
			const { agent, url, spent } = await agentFor({}, { stream: { aheadUnits: 2_000 } });
			const { body } = await agent.fetch(url("/slow"));
			const reader = body?.getReader();
			if (isRead) expect((await reader?.read())?.value).toHaveLength(300);
			await reader?.cancel();
			slow.resolve();
			expect(await ledger(agent)).toMatchObject({ spent: 300n });
			await agent.close();
			expect(await spent()).toBe(300n);
		}
	});

	it("is not covered by more than the credit, or than the policy allows", async () => {
		for (const [policy, stream] of [
			[{ maxStream: 1_400n }, { aheadUnits: 20 }],
			[{}, { aheadUnits: 14 }],
		] as const) {
			const { agent, url, spy } = await agentFor(policy, { stream });
			const asked = agent.fetch(url("/whole"), {
				method: "POST",
				body: "{}",
				headers: { "content-type": "application/json" },
			});
			await expect(asked).rejects.toMatchObject({ code: "OVERCHARGE" });
			expect(new Set(spy.vouchers())).toEqual(new Set([PRICE]));
		}
	});
});
