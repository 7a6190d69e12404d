/** The client and the server of this project, by every way of paying that both have. */

import type { Address, Hex } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { PaymentClientOptions, PaymentPolicy } from "../../src/client/index.ts";
import { approvePermit2 } from "../support/sessionDrafts.ts";
import { createWorld, type PaidServer, type Payer, type Routes, type World } from "../support/world.ts";
import { clientFor, spyOn } from "./support.ts";

const PRICE = 100n;
const SPLIT: Address = `0x${"5b".repeat(20)}`;

let world: World;
let server: PaidServer;

/** Sessions and charges of one credential type each, named by their path. */
const routes: Routes = (app, { handler }) => {
	for (const type of ["authorization", "permit2", "hash"] as const) {
		const payment = { price: PRICE, suggestedDeposit: 300n, credentialTypes: [type] };
		app.get(`/session/${type}`, { config: { payment } }, handler(`/session/${type}`));
	}
	for (const type of ["permit2", "authorization", "transaction", "hash"] as const) {
		const payment = { price: PRICE, intent: "charge" as const, credentialTypes: [type] };
		app.get(`/charge/${type}`, { config: { payment } }, handler(`/charge/${type}`));
	}
	const splits = [{ recipient: SPLIT, amount: 30n }];
	const split = { price: PRICE, intent: "charge" as const, credentialTypes: ["permit2" as const], splits };
	app.get("/split", { config: { payment: split } }, handler("/split"));
	const both = [
		{ price: PRICE, suggestedDeposit: 300n },
		{ price: 90n, intent: "charge" as const },
	];
	app.get("/both", { config: { payment: both } }, handler("/both"));
	// Which channel a payer is to go on with, the application knows: from an account, or from a cookie.
	const named = (request: { headers: Record<string, unknown> }) => {
		const channelId = request.headers["x-channel"];
		return {
			price: PRICE,
			suggestedDeposit: 300n,
			...(typeof channelId === "string" && { channelId: channelId as Hex }),
		};
	};
	app.get("/named", { config: { payment: named } }, handler("/named"));
	const bound = { price: PRICE, suggestedDeposit: 300n, bindBody: true };
	app.post("/bound", { config: { payment: bound } }, handler("/bound"));
};

beforeAll(async () => {
	world = await createWorld();
	server = await world.serve({ routes });
});
afterAll(() => world.stop());

async function agentFor(
	policy: Partial<PaymentPolicy> = {},
	options: Partial<PaymentClientOptions> = {},
	existing?: Payer,
) {
	const payer = existing ?? (await world.payer({ gas: true }));
	if (existing === undefined) await approvePermit2(world, payer);
	const spy = spyOn(payer.account);
	const host = new URL(server.url).host;
	const agent = clientFor(
		world,
		spy.account,
		[host],
		{ maxDeposit: 300n, splitRecipients: [SPLIT], ...policy },
		options,
	);
	return { agent, payer, spy, get: (path: string, init?: RequestInit) => agent.fetch(`${server.url}${path}`, init) };
}

const spentBy = async ({ address }: Payer) => 1_000_000n - (await world.balance(address));

describe("a session with the server", () => {
	it.each(["authorization", "permit2", "hash"])("is opened, topped up twice and closed by %s", async (type) => {
		const { agent, payer, get } = await agentFor();
		for (let i = 0; i < 8; i++) expect((await get(`/session/${type}`)).status).toBe(200);
		const [channel] = agent.channels;
		expect(channel).toMatchObject({ deposit: 900n, consumed: 800n });
		expect(await world.onChain({ channelId: channel?.channelId ?? "0x" })).toMatchObject({ deposit: 900n });
		expect(await agent.close()).toHaveLength(1);
		expect(await spentBy(payer)).toBe(800n);
	});

	it("of a payer without gas or allowance is paid to the end", async () => {
		const payer = await world.payer();
		const { spy, get } = await agentFor({}, {}, payer);
		for (let i = 0; i < 5; i++) expect((await get("/both")).status).toBe(200);
		expect(spy.transactions).toEqual([]);
		expect(spy.deposits()).toHaveLength(2);
	});

	it("goes on with another client, from its state", async () => {
		const first = await agentFor();
		await first.get("/session/authorization");
		const states = JSON.parse(JSON.stringify(first.agent.channels.map((channel) => channel.state())));
		const second = await agentFor({}, { resume: states }, first.payer);
		expect((await second.get("/session/authorization")).status).toBe(200);
		expect(second.spy.deposits()).toEqual([]);
		expect(await second.agent.close()).toHaveLength(1);
		expect(await spentBy(first.payer)).toBe(200n);
	});

	it("pays many at a time across top-ups, and the books of both sides agree", async () => {
		const { agent, payer, get } = await agentFor({ maxDeposit: 1_000n });
		const answers = await Promise.all(Array.from({ length: 24 }, () => get("/session/authorization")));
		expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
		const [channel] = agent.channels;
		if (channel === undefined) throw new Error("no channel");
		const onChain = await world.onChain(channel);
		expect(onChain?.deposit).toBe(channel.deposit);
		expect(await server.amounts(channel)).toMatchObject({ spent: 2_400n });
		await agent.close();
		expect(await spentBy(payer)).toBe(2_400n);
	});

	it.each(["authorization", "permit2", "hash"])(
		"a top-up by %s whose answer is lost is made once (I4)",
		async (type) => {
			let cuts = 0;
			const fetch: typeof globalThis.fetch = async (input, init) => {
				const response = await globalThis.fetch(input, init);
				if (cuts === 0) return response;
				cuts--;
				await response.arrayBuffer();
				throw new TypeError("fetch failed");
			};
			const { agent, payer, get } = await agentFor({}, { fetch, retry: { retries: 0 } });
			for (let i = 0; i < 3; i++) expect((await get(`/session/${type}`)).status).toBe(200);
			cuts = 1;
			await expect(get(`/session/${type}`)).rejects.toThrow("fetch failed");
			for (let i = 0; i < 2; i++) expect((await get(`/session/${type}`)).status).toBe(200);
			const [channel] = agent.channels;
			expect(await world.onChain({ channelId: channel?.channelId ?? "0x" })).toMatchObject({
				deposit: channel?.deposit,
			});
			await agent.close();
			// What was lost is the telling of a transaction, or a request that was served.
			expect(await spentBy(payer)).toBe(type === "hash" ? 500n : 600n);
		},
	);

	it("goes on without a record of it, where the server names the channel and the policy allows what it has taken", async () => {
		const first = await agentFor();
		await first.get("/named");
		const [channel] = first.agent.channels;
		const headers = { "x-channel": channel?.channelId ?? "" };
		const second = await agentFor({ maxUnaccounted: 100n }, {}, first.payer);
		expect((await second.get("/named", { headers })).status).toBe(200);
		expect(second.spy.deposits()).toEqual([]);
		expect(second.spy.vouchers(channel?.channelId)).toEqual([100n, 200n]);
		const careful = await agentFor({}, {}, first.payer);
		expect((await careful.get("/named", { headers })).status).toBe(200);
		expect(careful.spy.deposits()).toHaveLength(1);
		expect(careful.spy.vouchers(channel?.channelId)).toEqual([100n]);
		await careful.agent.close();
		await second.agent.close();
		expect(await spentBy(first.payer)).toBe(300n);
	});

	it("with a challenge for each body goes on with one channel", async () => {
		const { agent, get } = await agentFor();
		for (const body of ["one", "two", "two"])
			expect((await get("/bound", { method: "POST", body, headers: { "content-type": "text/plain" } })).status).toBe(
				200,
			);
		expect(agent.channels).toMatchObject([{ consumed: 300n }]);
	});
});

describe("a charge with the server", () => {
	it.each(["permit2", "authorization", "transaction", "hash"])("is paid by %s, once each time", async (type) => {
		const { payer, get } = await agentFor();
		for (let i = 0; i < 2; i++) expect((await get(`/charge/${type}`)).status).toBe(200);
		expect(await spentBy(payer)).toBe(200n);
	});

	it.each(["transaction", "hash"])("by %s whose answer is lost is not paid again (I6)", async (type) => {
		let cuts = 2;
		const fetch: typeof globalThis.fetch = async (input, init) => {
			const request = new Request(input, init);
			const isPaid = request.headers.has("authorization");
			const response = await globalThis.fetch(request);
			if (!isPaid || cuts-- <= 0) return response;
			await response.arrayBuffer();
			throw new TypeError("fetch failed");
		};
		const { payer, get } = await agentFor({}, { fetch });
		expect((await get(`/charge/${type}`)).status).toBe(200);
		expect(await spentBy(payer)).toBe(100n);
	});

	it("is split as the challenge says", async () => {
		const before = await Promise.all([SPLIT, server.payee].map((holder) => world.balance(holder)));
		const { payer, get } = await agentFor();
		expect((await get("/split")).status).toBe(200);
		const after = await Promise.all([SPLIT, server.payee].map((holder) => world.balance(holder)));
		expect(after.map((balance, at) => balance - (before[at] ?? 0n))).toEqual([30n, 70n]);
		expect(await spentBy(payer)).toBe(100n);
	});

	it("is what the client gets where it prefers it, by what it says in Accept-Payment", async () => {
		const { agent, payer, get } = await agentFor({}, { prefer: ["evm/charge"] });
		expect((await get("/both")).status).toBe(200);
		expect(agent.channels).toEqual([]);
		expect(await spentBy(payer)).toBe(90n);
	});
});
