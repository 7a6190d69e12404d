import { randomBytes } from "node:crypto";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { beforeEach, describe, expect, it } from "vitest";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import { merged, StillClock, topUpByAuthorization, topUpByHash, topUpOnChain } from "../../support/sessionDrafts.ts";
import { useWorld } from "../../support/useWorld.ts";
import {
	DEPOSIT,
	type PaidServer,
	type Payer,
	PRICE,
	type ServerOptions,
	type TestChannel,
} from "../../support/world.ts";

const world = useWorld();
let payer: Payer;
/** What two servers have in common of which the second one has lost the store. */
let same: Partial<ServerOptions>;
let server: PaidServer;

beforeEach(async () => {
	payer = await world.payer({ gas: true });
	const account = privateKeyToAccount(generatePrivateKey());
	same = { account, engine: { secrets: [randomBytes(32).toString("base64url")] } };
	server = await world.serve(same);
});

const stranger = privateKeyToAccount(generatePrivateKey());
const challenge = () => server.challenge("/session");
const pay = async (channel: TestChannel, amount: bigint, method = "GET") =>
	server.pay("/session", await payer.voucher(await challenge(), channel, amount), { method });

/** From now on `server` is one with the same payee, secrets and prices, and an empty store. */
async function loseTheStore(engine: ServerOptions["engine"] = {}): Promise<void> {
	await server.stop();
	server = await world.serve({ ...same, engine: { ...same.engine, ...engine } });
}

/** A channel of which 500 were accepted and 300 spent, and that nobody remembers. */
async function lostChannel(engine: ServerOptions["engine"] = {}): Promise<TestChannel> {
	const channel = await server.open(payer);
	for (let n = 0; n < 3; n++) expectPaid(await pay(channel, 5n * PRICE));
	await loseTheStore(engine);
	expect(await server.ledger(channel)).toBeUndefined();
	return channel;
}

describe("a channel that the store has lost", () => {
	it("is adopted with a voucher: all but this request's price counts as spent (D10)", async () => {
		const channel = await lostChannel();
		const answer = await pay(channel, 6n * PRICE);
		expectPaid(answer);
		expect(answer.receipt).toMatchObject({ acceptedCumulative: 6n * PRICE, spent: 6n * PRICE });
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: 6n * PRICE, spent: 6n * PRICE, reserved: 0n });
		expect(await server.ledger(channel)).toMatchObject({ deposit: DEPOSIT, payer: payer.address, settledOnChain: 0n });
		expectRefusal(await pay(channel, 6n * PRICE), "session/insufficient-balance");
		expectPaid(await pay(channel, 7n * PRICE));
	});

	it("is adopted by HEAD with all of it spent (D10, D11)", async () => {
		const channel = await lostChannel();
		expectPaid(await pay(channel, 6n * PRICE, "HEAD"));
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: 6n * PRICE, spent: 6n * PRICE, reserved: 0n });
	});

	it("is adopted to be closed: the client's amount is captured, the rest goes back (D6, D10)", async () => {
		const channel = await lostChannel();
		expectPaid(await server.pay("/session", await payer.close(await challenge(), channel, 5n * PRICE)));
		expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: 5n * PRICE });
		expect(await world.balance(server.payee)).toBe(5n * PRICE);
	});

	it("is adopted once, whoever asks at the same time, and survives a restart (I5)", async () => {
		const channel = await lostChannel();
		const one = await challenge();
		const drafts = await Promise.all(
			Array.from({ length: 10 }, (_, n) => payer.voucher(one, channel, (6n + BigInt(n)) * PRICE)),
		);
		const answers = await Promise.all(drafts.map((draft) => server.pay("/session", draft)));
		const served = BigInt(answers.filter(({ status }) => status === 200).length);
		expect(served).toBeGreaterThan(0n);
		const { acceptedCumulative = 0n, spent = 0n } = (await server.amounts(channel)) ?? {};
		expect(acceptedCumulative).toBe(15n * PRICE);
		// Whichever came first is what nobody remembers: never more is sold than was signed after it.
		expect(15n * PRICE - spent).toBeLessThanOrEqual(9n * PRICE);
		expect(spent).toBeGreaterThanOrEqual(5n * PRICE + served * PRICE);
		const adoptions = [];
		for await (const { kind } of server.store.audit()) if (kind === "adopted") adoptions.push(kind);
		expect(adoptions).toEqual(["adopted"]);
		await server.restart();
		expect(await server.amounts(channel)).toMatchObject({ acceptedCumulative, spent });
	});

	it("is never adopted below what was settled, and a settled voucher, which is public, spends and closes nothing (D7, D10)", async () => {
		const channel = await server.open(payer);
		expectPaid(await pay(channel, 5n * PRICE));
		await server.stop();
		await world.settle(server.account, channel, 5n * PRICE, await payer.sign(channel, 5n * PRICE));
		server = await world.serve(same);
		for (const amount of [5n * PRICE, 2n * PRICE]) {
			expectRefusal(await pay(channel, amount), "session/insufficient-balance");
			expectRefusal(
				await server.pay("/session", await payer.close(await challenge(), channel, amount)),
				"session/insufficient-balance",
			);
		}
		expect(server.calls()).toBe(0);
		expect(await server.ledger(channel)).toMatchObject({
			acceptedCumulative: 5n * PRICE,
			spent: 5n * PRICE,
			settledOnChain: 5n * PRICE,
			closingBy: null,
		});
		expectPaid(await pay(channel, 6n * PRICE));
	});

	it("is not adopted with somebody else's signature, nor is anything said of it (I3)", async () => {
		const channel = await lostChannel();
		for (const action of ["voucher", "close"] as const) {
			const forged = await payer[action](await challenge(), channel, 6n * PRICE, { signer: stranger });
			expectRefusal(
				await unchanged(server, [channel], () => server.pay("/session", forged)),
				"session/signer-mismatch",
			);
		}
		const above = await payer.voucher(await challenge(), channel, DEPOSIT + 1n);
		expectRefusal(
			await unchanged(server, [channel], () => server.pay("/session", above)),
			"session/amount-exceeds-deposit",
		);
	});

	it("is not adopted while a close is pending: 409 (D10)", async () => {
		const channel = await lostChannel();
		await payer.requestClose(channel);
		for (const method of ["GET", "HEAD"]) {
			const answer = await unchanged(server, [channel], () => pay(channel, 6n * PRICE, method));
			expect(answer.status).toBe(409);
		}
	});

	it("that was closed meanwhile is 410 channel-finalized", async () => {
		const channel = await lostChannel();
		await world.closeOnChain(server.account, channel, 5n * PRICE, await payer.sign(channel, 5n * PRICE));
		const draft = await payer.voucher(await challenge(), channel, 6n * PRICE);
		const close = await payer.close(await challenge(), channel, 6n * PRICE);
		const topUp = await topUpByAuthorization(payer, await challenge(), channel, PRICE);
		for (const one of [draft, close, topUp]) {
			const answer = await unchanged(server, [channel], () => server.pay("/session", one));
			expectRefusal(answer, "session/channel-finalized");
		}
	});

	it("is not adopted under a challenge that another channel has answered (D9)", async () => {
		const channel = await lostChannel();
		const one = await challenge();
		const other = await server.open(payer);
		expectPaid(await server.pay("/session", await payer.voucher(one, other, PRICE)));
		const draft = await payer.voucher(one, channel, 6n * PRICE);
		expectRefusal(
			await unchanged(server, [channel], () => server.pay("/session", draft)),
			"session/challenge-not-found",
		);
	});

	it("is topped up only with or after a voucher: without one nobody would know what was spent", async () => {
		const channel = await lostChannel();
		const draft = await topUpByAuthorization(payer, await challenge(), channel, PRICE);
		const hash = topUpByHash(payer, await challenge(), channel, await topUpOnChain(payer, channel, PRICE), PRICE);
		for (const one of [draft, hash]) {
			const answer = await unchanged(server, [channel], () => server.pay("/session", one));
			expectRefusal(answer, "session/insufficient-balance");
		}
		expectPaid(await pay(channel, 6n * PRICE));
		for (const one of [draft, hash]) expectPaid(await server.pay("/session", one));
		expect(await server.ledger(channel)).toMatchObject({ deposit: DEPOSIT + 2n * PRICE, spent: 6n * PRICE });
	});

	it("is adopted with a voucher above its deposit where a top-up is merged with it (D10, D14)", async () => {
		const channel = await lostChannel();
		const one = await challenge();
		const topUp = await topUpByAuthorization(payer, one, channel, 3n * PRICE);
		const high = merged(await payer.voucher(one, channel, DEPOSIT + 4n * PRICE), topUp);
		const before = await server.transactions();
		expectRefusal(
			await unchanged(server, [channel], () => server.pay("/session", high)),
			"session/amount-exceeds-deposit",
		);
		const draft = merged(await payer.voucher(one, channel, DEPOSIT + 2n * PRICE), topUp);
		const answer = await server.pay("/session", draft);
		expectPaid(answer);
		expect(answer.receipt).toMatchObject({ spent: DEPOSIT + 2n * PRICE });
		expect(await server.transactions()).toBe(before + 1);
		expect(await server.ledger(channel)).toMatchObject({ deposit: DEPOSIT + 3n * PRICE });
		expectRefusal(
			await unchanged(server, [channel], () => server.pay("/session", draft)),
			"session/insufficient-balance",
		);
	});
});

describe("a channel whose opening this server has sent and not seen mined yet", () => {
	it("is not taken for a lost one: its vouchers come back later, and nothing of them counts as spent (D10)", async () => {
		server = await world.serve({ ...same, engine: { ...same.engine, limits: { transactionTimeoutMs: 300 } } });
		const channel = payer.channel(server.payee);
		const open = await payer.open(await challenge(), channel, { deposit: DEPOSIT, amount: PRICE });
		const voucher = await payer.voucher(await challenge(), channel, 3n * PRICE);
		const close = await payer.close(await challenge(), channel, 3n * PRICE);
		server.rpc.fails = (method) => method === "eth_getTransactionReceipt";
		expectRefusal(await server.pay("/session", open), "service-unavailable");
		expect(await world.onChain(channel)).toMatchObject({ deposit: DEPOSIT });
		for (const draft of [voucher, close]) {
			const answer = await server.pay("/session", draft);
			expectRefusal(answer, "service-unavailable");
			expect(answer.header("retry-after")).toMatch(/^[1-9]\d*$/);
			expect(await server.ledger(channel)).toBeUndefined();
		}
		server.rpc.up();
		await expect.poll(async () => (await server.pay("/session", open)).status, { timeout: 10_000 }).toBe(200);
		expectPaid(await server.pay("/session", voucher));
		expect(await server.amounts(channel)).toMatchObject({ acceptedCumulative: 3n * PRICE, spent: 2n * PRICE });
	});
});

describe("an open of a channel that is older than its challenge", () => {
	it("counts as spent what its voucher says beyond the price: it may have been served before (D10)", async () => {
		const channel = payer.channel(server.payee);
		const hash = await payer.openOnChain(channel, DEPOSIT);
		server.clock.advance(600_000);
		const draft = await payer.openByHash(await challenge(), channel, hash, 5n * PRICE);
		const answer = await server.pay("/session", draft);
		expectPaid(answer);
		expect(answer.receipt).toMatchObject({ acceptedCumulative: 5n * PRICE, spent: 5n * PRICE });
	});

	it("counts all of it where the open is about the channel alone, and nothing where it says nothing (D11)", async () => {
		const [first, second] = [payer.channel(server.payee), payer.channel(server.payee)];
		const hashes = [await payer.openOnChain(first, DEPOSIT), await payer.openOnChain(second, DEPOSIT)] as const;
		server.clock.advance(600_000);
		const head = await payer.openByHash(await challenge(), first, hashes[0], 5n * PRICE);
		expectPaid(await server.pay("/session", head, { method: "HEAD" }));
		expect(await server.amounts(first)).toMatchObject({ acceptedCumulative: 5n * PRICE, spent: 5n * PRICE });
		expectPaid(await server.pay("/session", await payer.openByHash(await challenge(), second, hashes[1], 0n)));
		expect(await server.amounts(second)).toMatchObject({ acceptedCumulative: 0n, spent: 0n });
	});

	it("does so for an authorization whose channel the store has lost, and deposits nothing more", async () => {
		const channel = await lostChannel();
		server.clock.advance(600_000);
		const before = await server.transactions();
		const draft = await payer.open(await challenge(), channel, { deposit: DEPOSIT, amount: 6n * PRICE });
		const answer = await server.pay("/session", draft);
		expectPaid(answer);
		expect(answer.receipt).toMatchObject({ acceptedCumulative: 6n * PRICE, spent: 6n * PRICE });
		expect(await server.transactions()).toBe(before);
	});

	it("of a channel that was opened for this challenge has its whole voucher to spend", async () => {
		const channel = payer.channel(server.payee);
		const one = await challenge();
		const hash = await payer.openOnChain(channel, DEPOSIT);
		expectPaid(await server.pay("/session", await payer.openByHash(one, channel, hash, 5n * PRICE)));
		expect(await server.amounts(channel)).toMatchObject({ acceptedCumulative: 5n * PRICE, spent: PRICE });
	});
});

describe("a channel that is not on chain", () => {
	it("is 410 only after the chain was asked, and the answer is remembered for a while (D10)", async () => {
		const channel = payer.channel(server.payee);
		const before = server.rpc.calls();
		expectRefusal(await pay(channel, PRICE), "session/channel-not-found");
		expect(server.rpc.calls()).toBe(before + 1);
		for (let n = 0; n < 3; n++) expectRefusal(await pay(channel, PRICE), "session/channel-not-found");
		expectRefusal(
			await server.pay("/session", await payer.close(await challenge(), channel, 0n)),
			"session/channel-not-found",
		);
		expect(server.rpc.calls()).toBe(before + 1);
	});

	it("of another payee or another token is 410: it is not ours", async () => {
		const elsewhere = await world.serve();
		const foreign = await elsewhere.open(payer);
		expectRefusal(await pay(foreign, PRICE), "session/channel-not-found");
		expect(await server.ledger(foreign)).toBeUndefined();
	});

	it("is asked for within a rate, and beyond it refused with 503, never 410 (D10, I10)", async () => {
		server = await world.serve({ engine: { limits: { maxLookupsPerSecond: 2 } }, clock: new StillClock() });
		const before = server.rpc.calls();
		const answers = [];
		for (let n = 0; n < 6; n++) answers.push(await pay(payer.channel(server.payee), PRICE));
		const refused = answers.filter(({ status }) => status === 503);
		expect(refused.length).toBe(4);
		const asked = answers.filter(({ status }) => status === 410).length;
		expect(asked).toBe(6 - refused.length);
		expect(server.rpc.calls()).toBe(before + asked);
		for (const answer of refused) expectRefusal(answer, "service-unavailable");
		server.clock.advance(1_000);
		expectRefusal(await pay(payer.channel(server.payee), PRICE), "session/channel-not-found");
	});

	it("that a bare top-up names, which nobody has signed, is asked for at the same rate (I10)", async () => {
		const channel = payer.channel(server.payee);
		await payer.openOnChain(channel, DEPOSIT);
		server = await world.serve({
			...same,
			engine: { ...same.engine, limits: { maxLookupsPerSecond: 2 } },
			clock: new StillClock(),
		});
		const draft = topUpByHash(payer, await challenge(), channel, `0x${"ab".repeat(32)}`, 1n);
		expectRefusal(await server.pay("/session", draft), "session/insufficient-balance");
		const before = server.rpc.calls();
		for (let n = 0; n < 3; n++) expectRefusal(await server.pay("/session", draft), "service-unavailable");
		expect(server.rpc.calls()).toBe(before);
	});

	it("while the chain does not answer is 503, never 410 (D10, I10)", async () => {
		const draft = await payer.voucher(await challenge(), payer.channel(server.payee), PRICE);
		server.rpc.down();
		expectRefusal(await server.pay("/session", draft), "service-unavailable");
		server.rpc.up();
		expectRefusal(await server.pay("/session", draft), "session/channel-not-found");
	});
});
