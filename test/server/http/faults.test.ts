import { Readable } from "node:stream";
import type { FastifyReply } from "fastify";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type ChannelStore, StoreUnavailableError } from "../../../src/server/index.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import {
	type Answer,
	createWorld,
	DEPOSIT,
	FUNDS,
	type PaidServer,
	type Payer,
	PRICE,
	type Routes,
	standardRoutes,
	type World,
} from "../../support/world.ts";

let world: World;
let server: PaidServer;
let payer: Payer;

const paid = { config: { payment: { price: PRICE } } };
const routes: Routes = async (app, kit) => {
	await standardRoutes(app, kit);
	const secretly = (_: unknown, reply: FastifyReply) =>
		reply
			.headers({ "x-answer": "42", location: "/secret", "set-cookie": "token=42", "content-encoding": "x-42" })
			.send("the answer");
	app.get("/headers", paid, kit.handler("/headers", secretly));
	app.get(
		"/stream",
		paid,
		kit.handler("/stream", () => Readable.from(["the answer"])),
	);
	app.get(
		"/fails",
		paid,
		kit.handler("/fails", (_, reply) => reply.code(404).send({ mine: true })),
	);
};

beforeAll(async () => {
	world = await createWorld();
});
afterAll(() => world.stop());
beforeEach(async () => {
	payer = await world.payer({ gas: true });
	server = await world.serve({ routes, engine: { limits: { transactionTimeoutMs: 300 } } });
});

const challenge = (path = "/session") => server.challenge(path);

/** As a client does that was told to come back: until the answer is another one than 503. */
async function insist(send: () => Promise<Answer>): Promise<Answer> {
	const answer = await send();
	if (answer.status !== 503) return answer;
	expectRefusal(answer, "service-unavailable");
	return insist(send);
}

describe("a chain that does not answer (I10)", () => {
	it("is not needed while a channel's state is fresh, then: 503, nothing charged, nothing served; and it goes on", async () => {
		const channel = await server.open(payer);
		server.rpc.down();
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, PRICE)));
		server.clock.advance(15_001);
		const one = await challenge();
		const voucher = await payer.voucher(one, channel, 2n * PRICE);
		const close = await payer.close(one, channel, 2n * PRICE);
		const [before, calls] = [await server.ledger(channel), server.calls()];
		expectRefusal(await server.pay("/session", voucher), "service-unavailable");
		expect((await server.pay("/session", voucher, { method: "HEAD" })).status).toBe(503);
		expectRefusal(await server.pay("/session", close), "service-unavailable");
		expect([await server.ledger(channel), server.calls()]).toEqual([before, calls]);
		server.rpc.up();
		expectPaid(await server.pay("/session", voucher));
		expectPaid(await server.pay("/session", close));
		expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: 2n * PRICE });
	});

	it("opens and charges nothing: 503, and the same credential works when it answers again", async () => {
		const channel = payer.channel(server.payee);
		const open = await payer.open(await challenge(), channel, { deposit: DEPOSIT, amount: PRICE });
		const charge = await payer.charge(await challenge("/charge"), server.payee, PRICE);
		server.rpc.down();
		expectRefusal(await server.pay("/session", open), "service-unavailable");
		expectRefusal(await server.pay("/charge", charge), "service-unavailable");
		expect(server.calls()).toBe(0);
		server.rpc.up();
		expectPaid(await server.pay("/session", open));
		expectPaid(await server.pay("/charge", charge));
		expect(await world.balance(payer.address)).toBe(FUNDS - DEPOSIT - PRICE);
	});

	// Node clients estimate gas by the first of the two methods that a node has.
	const interruptions = [
		"eth_sendRawTransaction",
		"eth_getTransactionReceipt",
		"eth_fillTransaction eth_estimateGas",
		"eth_getTransactionCount",
	];

	it.each(interruptions)(
		"from %s on: money moves once, and is delivered once, when it answers again",
		async (broken) => {
			const channel = payer.channel(server.payee);
			const open = await payer.open(await challenge(), channel, { deposit: DEPOSIT, amount: PRICE });
			const charge = await payer.charge(await challenge("/charge"), server.payee, PRICE);
			server.rpc.fails = (method) => broken.split(" ").includes(method);
			expectRefusal(await server.pay("/session", open), "service-unavailable");
			expectRefusal(await server.pay("/charge", charge), "service-unavailable");
			expect(server.calls()).toBe(0);
			server.rpc.up();
			expectPaid(await insist(() => server.pay("/session", open)));
			expectPaid(await insist(() => server.pay("/charge", charge)));
			expect(await world.balance(payer.address)).toBe(FUNDS - DEPOSIT - PRICE);

			const close = await payer.close(await challenge(), channel, PRICE);
			server.rpc.fails = (method) => broken.split(" ").includes(method);
			expectRefusal(await server.pay("/session", close), "service-unavailable");
			server.rpc.up();
			expectPaid(await insist(() => server.pay("/session", close)));
			expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: PRICE });
			expect(await server.ledger(channel)).toMatchObject({ finalized: true, settledOnChain: PRICE });
		},
	);

	describe("whose receipts come later than its account state does not make us forget a mined transaction (I4, I10)", () => {
		/** The next calls for a receipt find none, as on a node that lags behind, or one of several behind one URL. */
		function hideReceipts(calls = 6): void {
			let left = calls;
			server.rpc.lies = (method) =>
				method === "eth_getTransactionReceipt" && left-- > 0 ? { result: null } : undefined;
		}

		it("of a charge", async () => {
			const charge = await payer.charge(await challenge("/charge"), server.payee, PRICE);
			hideReceipts();
			const answer = await insist(() => server.pay("/charge", charge));
			expect(await world.balance(server.payee), "the money moved").toBe(PRICE);
			expectPaid(answer);
		});

		it("of an open", async () => {
			const channel = payer.channel(server.payee);
			const open = await payer.open(await challenge(), channel, { deposit: DEPOSIT, amount: PRICE });
			hideReceipts();
			const answer = await insist(() => server.pay("/session", open));
			if (answer.status !== 200) await server.pay("/session", open);
			expect(await world.onChain(channel), "the money moved").toMatchObject({ deposit: DEPOSIT });
			expectPaid(answer);
		});

		it("of a close", async () => {
			const channel = await server.open(payer);
			const close = await payer.close(await challenge(), channel, PRICE);
			hideReceipts();
			const answer = await insist(() => server.pay("/session", close));
			expect(await world.onChain(channel), "it is closed").toMatchObject({ finalized: true });
			expectPaid(answer);
			expect(await server.ledger(channel)).toMatchObject({ finalized: true, settledOnChain: PRICE });
		});
	});

	it("that has gone back behind the channel's opening sells nothing: 503", async () => {
		const snapshot = await world.chain.client.request({ method: "evm_snapshot" } as never);
		const channel = await server.open(payer);
		await world.chain.client.request({ method: "evm_revert", params: [snapshot] } as never);
		server.clock.advance(15_001);
		const voucher = await payer.voucher(await challenge(), channel, PRICE);
		const before = server.calls();
		const answer = await unchanged(server, [channel], () => server.pay("/session", voucher));
		expectRefusal(answer, "service-unavailable");
		expect(server.calls()).toBe(before);
	});
});

describe("a store that fails (I10)", () => {
	it("before the handler: 503, nothing is served, and unpaid requests still get their challenge", async () => {
		const channel = await server.open(payer);
		const one = await challenge();
		const voucher = await payer.voucher(one, channel, PRICE);
		const charge = await payer.charge(await challenge("/charge"), server.payee, PRICE);
		const open = await payer.open(await challenge(), payer.channel(server.payee), { deposit: DEPOSIT });
		const transactions = await server.transactions();
		await server.store.close();
		expectRefusal(await server.pay("/session", voucher), "service-unavailable");
		expectRefusal(await server.pay("/session", await payer.close(one, channel, PRICE)), "service-unavailable");
		expectRefusal(await server.pay("/session", open), "service-unavailable");
		expectRefusal(await server.pay("/charge", charge), "service-unavailable");
		expectRefusal(await server.send("/session"), "payment-required");
		expect(server.calls()).toBe(0);
		expect(await server.transactions()).toBe(transactions);
		await server.restart();
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: 0n, spent: 0n, reserved: 0n });
	});

	it.each(["/session", "/headers", "/stream"])(
		"while the handler of %s ran: 503, and nothing of its answer",
		async (path) => {
			const channel = await server.open(payer);
			const gate = server.hold(path);
			const paying = server.pay(path, await payer.voucher(await challenge(), channel, PRICE));
			await gate.entered;
			await server.store.close();
			gate.release();
			const answer = await paying;
			expectRefusal(answer, "service-unavailable");
			expect(answer.text).not.toContain("answer");
			expect(answer.json).not.toHaveProperty("served");
			for (const name of ["x-answer", "location", "set-cookie", "content-encoding"])
				expect(answer.header(name), name).toBeUndefined();
			await server.restart();
			expect(await server.amounts(channel)).toMatchObject({ spent: 0n });
		},
	);

	it("while a handler failed: its own answer, without a receipt", async () => {
		const channel = await server.open(payer);
		const gate = server.hold("/fails");
		const paying = server.pay("/fails", await payer.voucher(await challenge(), channel, PRICE));
		await gate.entered;
		await server.store.close();
		gate.release();
		const answer = await paying;
		expect(answer.receipt).toBeUndefined();
		expect([404, 503]).toContain(answer.status);
		expect(answer.text).not.toMatch(/store/i);
	});

	it("by a write that never reaches the disk: nothing is served that is not on it (I5)", async () => {
		let broken = false;
		const failing = (onDisk: ChannelStore): ChannelStore =>
			new Proxy(onDisk, {
				get(target, name) {
					const member: unknown = Reflect.get(target, name, target);
					if (typeof member !== "function") return member;
					if (name !== "transact") return member.bind(target);
					return async (...args: Parameters<ChannelStore["transact"]>) => {
						const { value, durable } = await target.transact(...args);
						if (!broken) return { value, durable };
						const lost = Promise.reject(new StoreUnavailableError("the disk is full"));
						lost.catch(() => undefined);
						return { value, durable: lost };
					};
				},
			});
		await server.restart({ store: failing });
		const channel = await server.open(payer);
		broken = true;
		for (const path of ["/session", "/headers", "/stream"]) {
			const answer = await server.pay(path, await payer.voucher(await challenge(), channel, PRICE));
			expectRefusal(answer, "service-unavailable");
			expect(answer.text).not.toContain("answer");
		}
		const charge = await payer.charge(await challenge("/charge"), server.payee, PRICE);
		expectRefusal(await server.pay("/charge", charge), "service-unavailable");
		expect(server.calls("/charge")).toBe(0);
		expect(await world.balance(payer.address)).toBe(FUNDS - DEPOSIT);
	});
});
