import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { receiptFromJson } from "../../../src/protocol/index.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import {
	createWorld,
	DEPOSIT,
	type PaidServer,
	type Payer,
	PRICE,
	type TestChannel,
	transactionOf,
	type World,
} from "../../support/world.ts";

let world: World;
let server: PaidServer;
let payer: Payer;

beforeAll(async () => {
	world = await createWorld();
});
afterAll(() => world.stop());
beforeEach(async () => {
	payer = await world.payer({ gas: true });
	server = await world.serve({ engine: { limits: { drainDeadlineMs: 300 } } });
});

const challenge = () => server.challenge("/session");
const stranger = privateKeyToAccount(generatePrivateKey());

/** A channel of which 300 were spent and 500 accepted. */
async function usedChannel(): Promise<TestChannel> {
	const channel = await server.open(payer);
	for (const amount of [5n * PRICE, 5n * PRICE, 5n * PRICE])
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, amount)));
	expect(await server.amounts(channel)).toEqual({ acceptedCumulative: 5n * PRICE, spent: 3n * PRICE, reserved: 0n });
	return channel;
}

async function close(channel: TestChannel, amount: bigint) {
	return server.pay("/session", await payer.close(await challenge(), channel, amount));
}

describe("a cooperative close", () => {
	const amounts = [
		["nothing: the highest accepted", 0n, 5n * PRICE],
		["less than was spent: the highest accepted", 3n * PRICE - 1n, 5n * PRICE],
		["exactly what was spent: that", 3n * PRICE, 3n * PRICE],
		["between spent and accepted: the client's amount", 4n * PRICE, 4n * PRICE],
		["the highest accepted: that", 5n * PRICE, 5n * PRICE],
		["more than was accepted: the client's amount", 7n * PRICE, 7n * PRICE],
		["the whole deposit: that", DEPOSIT, DEPOSIT],
	] as const;

	it.each(amounts)(
		"with a voucher for %s is captured, the rest goes back (D6, I8)",
		async (_title, amount, captured) => {
			const channel = await usedChannel();
			const before = await world.balance(payer.address);
			const draft = await payer.close(await challenge(), channel, amount);
			const answer = await server.pay("/session", draft);
			expectPaid(answer);
			expect(receiptFromJson(answer.json)).toEqual(answer.receipt);
			expect(answer.receipt).toMatchObject({ channelId: channel.channelId, challengeId: draft.challenge.id });
			const receipt = await world.chain.client.getTransactionReceipt({ hash: transactionOf(answer) });
			expect(receipt.status).toBe("success");
			expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: captured });
			expect(await world.balance(server.payee)).toBe(captured);
			expect(await world.balance(payer.address)).toBe(before + DEPOSIT - captured);
			expect(await server.ledger(channel)).toMatchObject({
				finalized: true,
				settledOnChain: captured,
				closingBy: null,
			});
		},
	);

	it("above the deposit is refused, and the channel goes on", async () => {
		const channel = await usedChannel();
		const answer = await unchanged(server, [channel], () => close(channel, DEPOSIT + 1n));
		expectRefusal(answer, "session/amount-exceeds-deposit");
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, 6n * PRICE)));
	});

	it("with somebody else's signature is refused on every path, the forfeit path as well (I3, D6)", async () => {
		const channel = await usedChannel();
		for (const amount of [0n, 3n * PRICE - 1n, 4n * PRICE, 5n * PRICE, 6n * PRICE]) {
			const draft = await payer.close(await challenge(), channel, amount, { signer: stranger });
			expectRefusal(await unchanged(server, [channel], () => server.pay("/session", draft)), "session/signer-mismatch");
		}
		const zero = { ...(await payer.close(await challenge(), channel, 0n)) };
		const unsigned = { ...zero, payload: { ...zero.payload, signature: `0x${"00".repeat(65)}` } };
		expectRefusal(
			await unchanged(server, [channel], () => server.pay("/session", unsigned)),
			"session/invalid-signature",
		);
	});

	it("asked for again, because the answer was lost, gets the same answer without another transaction (I4)", async () => {
		const channel = await usedChannel();
		const first = await close(channel, 5n * PRICE);
		expectPaid(first);
		const again = await unchanged(server, [channel], () => close(channel, 5n * PRICE));
		expectPaid(again);
		expect(transactionOf(again)).toBe(transactionOf(first));
		const forged = await payer.close(await challenge(), channel, 5n * PRICE, { signer: stranger });
		expectRefusal(await server.pay("/session", forged), "session/signer-mismatch");
	});

	it("five times at once is one transaction, and all hear of it", async () => {
		const channel = await usedChannel();
		const before = await server.transactions();
		const drafts = await Promise.all(
			Array.from({ length: 5 }, async () => payer.close(await challenge(), channel, 5n * PRICE)),
		);
		const answers = await Promise.all(drafts.map((draft) => server.pay("/session", draft)));
		for (const answer of answers) expectPaid(answer);
		expect(new Set(answers.map(transactionOf)).size).toBe(1);
		expect(await server.transactions()).toBe(before + 1);
	});

	it("under an expired challenge is refused with a fresh one, under which it works (D9)", async () => {
		const channel = await usedChannel();
		const old = await challenge();
		server.clock.advance(301_000);
		const late = await payer.close(old, channel, 5n * PRICE);
		const answer = await unchanged(server, [channel], () => server.pay("/session", late));
		expectRefusal(answer, "session/challenge-not-found");
		const [fresh] = answer.challenges;
		if (fresh === undefined) throw new Error("no fresh challenge");
		expectPaid(await server.pay("/session", await payer.close(fresh, channel, 5n * PRICE)));
	});

	it("leaves a channel that takes nothing any more: 410", async () => {
		const channel = await usedChannel();
		expectPaid(await close(channel, 5n * PRICE));
		const voucher = await payer.voucher(await challenge(), channel, 6n * PRICE);
		const open = await payer.open(await challenge(), channel, { deposit: DEPOSIT, amount: 6n * PRICE });
		await unchanged(server, [channel], async () => {
			expectRefusal(await server.pay("/session", voucher), "session/channel-finalized");
			expect((await server.pay("/session", voucher, { method: "HEAD" })).status).toBe(410);
			expectRefusal(await server.pay("/session", open), "session/channel-finalized");
		});
	});
});

describe("a close while a request is running", () => {
	it("waits for it, refuses new ones with 409, and captures it (D1, D6)", async () => {
		await server.restart({ engine: { limits: { drainDeadlineMs: 20_000 } } });
		const channel = await usedChannel();
		const gate = server.hold("/session");
		const running = server.pay("/session", await payer.voucher(await challenge(), channel, 5n * PRICE));
		await gate.entered;
		const closing = close(channel, 5n * PRICE);
		await expect.poll(async () => (await server.ledger(channel))?.closingBy).not.toBeNull();
		const next = await payer.voucher(await challenge(), channel, 6n * PRICE);
		await unchanged(server, [channel], async () => {
			expectRefusal(await server.pay("/session", next), "session/channel-closing");
			expect((await server.pay("/session", next, { method: "HEAD" })).status).toBe(409);
		});
		gate.release();
		expectPaid(await running);
		expectPaid(await closing);
		expect(await server.amounts(channel)).toMatchObject({ spent: 4n * PRICE });
		expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: 5n * PRICE });
	});

	it("abandons it at the deadline: its answer is a refusal, and it costs nothing (I7, D6)", async () => {
		const channel = await usedChannel();
		const gate = server.hold("/session");
		const running = server.pay("/session", await payer.voucher(await challenge(), channel, 5n * PRICE));
		await gate.entered;
		expectPaid(await close(channel, 3n * PRICE));
		gate.release();
		const answer = await running;
		expectRefusal(answer, "session/channel-closing");
		expect(answer.json).not.toHaveProperty("served");
		expect(await server.amounts(channel)).toMatchObject({ spent: 3n * PRICE, reserved: 0n });
		expect(await world.balance(server.payee)).toBe(3n * PRICE);
	});

	it("and abandons it: its Idempotency-Key is not 'still running' for ever (I7, I10)", async () => {
		const channel = await usedChannel();
		const gate = server.hold("/session");
		const running = server.pay("/session", await payer.voucher(await challenge(), channel, 5n * PRICE), { key: "k" });
		await gate.entered;
		expectPaid(await close(channel, 3n * PRICE));
		gate.release();
		expectRefusal(await running, "session/channel-closing");
		const retry = await payer.voucher(await challenge(), channel, 5n * PRICE);
		expectRefusal(await server.pay("/session", retry, { key: "k" }), "session/channel-finalized");
	});
});

describe("a voucher that was published on chain", () => {
	it("does not let a stranger spend or close; its owner still can (D7)", async () => {
		const channel = await server.open(payer);
		const one = await challenge();
		const draft = await payer.voucher(one, channel, 5n * PRICE);
		expectPaid(await server.pay("/session", draft));
		await world.settle(server.account, channel, 5n * PRICE, await payer.sign(channel, 5n * PRICE));
		server.clock.advance(15_001);

		// What a stranger can make of public calldata: the signature, under any challenge it is given.
		const replayed = await payer.voucher(await challenge(), channel, 5n * PRICE);
		const before = server.calls();
		expectRefusal(await server.pay("/session", replayed), "session/insufficient-balance");
		expectRefusal(await close(channel, 5n * PRICE), "session/insufficient-balance");
		expect(server.calls()).toBe(before);
		expect(await server.ledger(channel)).toMatchObject({ spent: PRICE, closingBy: null, settledOnChain: 5n * PRICE });
		expect((await server.pay("/session", replayed, { method: "HEAD" })).status).toBe(200);
		expect(await world.onChain(channel)).toMatchObject({ finalized: false });

		expectPaid(await server.pay("/session", await payer.voucher(one, channel, 4n * PRICE)));
		expectPaid(await server.pay("/session", await payer.close(one, channel, 5n * PRICE)));
	});

	it("can always be closed by its owner with a higher one", async () => {
		const channel = await usedChannel();
		await world.settle(server.account, channel, 5n * PRICE, await payer.sign(channel, 5n * PRICE));
		server.clock.advance(15_001);
		const refused = await close(channel, 5n * PRICE);
		expect(refused.problem).toMatchObject({ requiredCumulative: String(5n * PRICE + 1n) });
		expectPaid(await close(channel, 5n * PRICE + 1n));
	});
});

describe("what the chain says of a channel", () => {
	it("is read again after maxChainStateAge: a requested close stops vouchers, not the close (I9, D1, D2)", async () => {
		const channel = await usedChannel();
		await payer.requestClose(channel);
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, 6n * PRICE)));
		server.clock.advance(15_001);
		const late = await payer.voucher(await challenge(), channel, 7n * PRICE);
		const before = server.calls();
		for (const method of ["GET", "HEAD"]) {
			const answer = await server.pay("/session", late, { method });
			expect(answer.status).toBe(409);
			if (method === "GET") expectRefusal(answer, "session/channel-closing");
		}
		expect(server.calls()).toBe(before);
		expect(await server.amounts(channel)).toMatchObject({ acceptedCumulative: 6n * PRICE });
		expectPaid(await close(channel, 6n * PRICE));
		expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: 6n * PRICE });
	});

	it("is not asked again while it is fresh, and once for all who need it when it is not (D2)", async () => {
		const channel = await server.open(payer);
		const one = await challenge();
		const pay = async (n: bigint) => server.pay("/session", await payer.voucher(one, channel, n * PRICE));
		const before = server.rpc.calls();
		for (let n = 1n; n <= 10n; n++) expectPaid(await pay(n));
		expect(server.rpc.calls()).toBe(before);
		server.clock.advance(15_001);
		const answers = await Promise.all(Array.from({ length: 10 }, (_, n) => pay(11n + BigInt(n))));
		expect(answers.filter(({ status }) => status === 200).length).toBeGreaterThan(0);
		// The head, and the channel as of it.
		expect(server.rpc.calls()).toBe(before + 2);
	});

	it("that it was closed past this server: 410 (I2)", async () => {
		const channel = await usedChannel();
		await world.closeOnChain(server.account, channel, 5n * PRICE, await payer.sign(channel, 5n * PRICE));
		server.clock.advance(15_001);
		const late = await payer.voucher(await challenge(), channel, 6n * PRICE);
		expectRefusal(await server.pay("/session", late), "session/channel-finalized");
		expect(await server.ledger(channel)).toMatchObject({ finalized: true, settledOnChain: 5n * PRICE });
	});
});
