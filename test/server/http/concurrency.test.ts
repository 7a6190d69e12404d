import { beforeAll, describe, expect, it } from "vitest";
import { tenTimes } from "../../support/atOnce.ts";
import { expectPaid, expectRefusal } from "../../support/expect.ts";
import { approvedPayer, topUpByHash, topUpByPermit2, topUpOnChain } from "../../support/sessionDrafts.ts";
import { KINDS, MORE, openBy, topUpBy, voucherThatOpens, voucherThatTopsUp } from "../../support/sessionStage.ts";
import { useWorld } from "../../support/useWorld.ts";
import { DEPOSIT, type Draft, type PaidServer, type Payer, PRICE, transactionOf } from "../../support/world.ts";

const world = useWorld();
let server: PaidServer;
let payer: Payer;

beforeAll(async () => {
	server = await world.serve();
	payer = await approvedPayer(world);
});

const challenge = () => server.challenge("/session");

/** Every index below `count` once, in an order without order. `step` and `count` have no common factor. */
const shuffled = (count: number, step: number) => Array.from({ length: count }, (_, n) => (n * step + 7) % count);

const tenAtOnce = (draft: Draft) => tenTimes(server, "/session", draft);

describe("vouchers at once", () => {
	it("100 shuffled vouchers at once end at the highest", async () => {
		const channel = await server.open(payer);
		const one = await challenge();
		const drafts = await Promise.all(
			shuffled(100, 37).map((n) => payer.voucher(one, channel, BigInt(n + 1) * (DEPOSIT / 100n))),
		);
		expect(new Set(drafts.map(({ payload }) => payload.cumulativeAmount)).size).toBe(100);
		const before = server.calls();
		const answers = await Promise.all(drafts.map((draft) => server.pay("/session", draft, { method: "HEAD" })));
		for (const answer of answers) expectPaid(answer);
		expect(server.calls()).toBe(before);
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: DEPOSIT, spent: 0n, reserved: 0n });
		await server.restart();
		expect(await server.amounts(channel)).toMatchObject({ acceptedCumulative: DEPOSIT });
		// What is kept is the highest voucher with its own signature: the chain takes it.
		expectPaid(await server.pay("/session", await payer.close(one, channel, DEPOSIT)));
		expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: DEPOSIT });
	});

	it.each([
		[30, 1n],
		[40, 13n],
		[25, 24n],
	])("%i requests that race for a balance worth %i units are served exactly that often", async (requests, units) => {
		const channel = await server.open(payer);
		const drafts: Draft[] = [];
		for (let n = 0; n < requests; n++) drafts.push(await payer.voucher(await challenge(), channel, units * PRICE));
		const before = server.calls("/session");
		const answers = await Promise.all(drafts.map((draft) => server.pay("/session", draft)));
		const served = answers.filter(({ status }) => status === 200);
		expect(served.length).toBe(Number(units));
		expect(server.calls("/session") - before).toBe(Number(units));
		for (const answer of answers) if (answer.status !== 200) expectRefusal(answer, "session/insufficient-balance");
		const amount = units * PRICE;
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: amount, spent: amount, reserved: 0n });
	});
});

describe("one credential ten times at once", () => {
	it.each(KINDS)("that opens by %s opens one channel and spends gas once", async (kind) => {
		const channel = payer.channel(server.payee);
		const options = { deposit: DEPOSIT, amount: 0n };
		const draft = await openBy[kind](payer, await challenge(), channel, options);
		const [transactions, before] = [await server.transactions(), await world.balance(payer.address)];
		for (const answer of await tenAtOnce(draft)) expectPaid(answer);
		expect(await server.transactions()).toBe(transactions + 1);
		expect(await world.balance(payer.address)).toBe(before - DEPOSIT);
		expect(await server.ledger(channel)).toMatchObject({ deposit: DEPOSIT, acceptedCumulative: 0n });
	});

	it("one top-up hash ten times at once is credited once", async () => {
		const channel = await server.open(payer);
		const hash = await topUpOnChain(payer, channel, MORE);
		const transactions = await server.transactions();
		for (const answer of await tenAtOnce(topUpByHash(payer, await challenge(), channel, hash, MORE))) {
			expectPaid(answer);
			expect(transactionOf(answer)).toBe(hash);
		}
		expect(await server.transactions()).toBe(transactions);
		expect(await server.ledger(channel)).toMatchObject({ deposit: DEPOSIT + MORE });
		expect(await credits(hash)).toBe(1);
	});

	it.each(KINDS)("that tops up by %s is one transaction, credited once", async (kind) => {
		const channel = await server.open(payer);
		const draft = await topUpBy[kind](payer, await challenge(), channel, MORE);
		const transactions = await server.transactions();
		const answers = await tenAtOnce(draft);
		for (const answer of answers) expectPaid(answer);
		expect(new Set(answers.map(transactionOf)).size).toBe(1);
		expect(await server.transactions()).toBe(transactions + 1);
		expect(await server.ledger(channel)).toMatchObject({ deposit: DEPOSIT + MORE });
		expect(await world.onChain(channel)).toMatchObject({ deposit: DEPOSIT + MORE });
	});

	it("one Permit2 nonce signed for two channels tops up one of them, and only that one is told so", async () => {
		const channels = [await server.open(payer), await server.open(payer)];
		const drafts: Draft[] = [];
		for (const channel of channels)
			drafts.push(await topUpByPermit2(payer, await challenge(), channel, MORE, { permit: { nonce: 91n } }));
		const answers = await Promise.all(drafts.map((draft) => server.pay("/session", draft)));
		expect(answers.map(({ status }) => status).sort()).toEqual([200, 409]);
		for (const [at, channel] of channels.entries()) {
			const deposit = answers[at]?.status === 200 ? DEPOSIT + MORE : DEPOSIT;
			expect(await server.ledger(channel)).toMatchObject({ deposit });
			expect(await world.onChain(channel)).toMatchObject({ deposit });
		}
	});

	it.each(KINDS)("with a merged top-up by %s funds once and delivers once", async (kind) => {
		const channel = await server.open(payer);
		const draft = await voucherThatTopsUp(kind, { server, payer }, channel, DEPOSIT + MORE);
		const [transactions, calls] = [await server.transactions(), server.calls("/session")];
		const answers = await tenAtOnce(draft);
		expect(answers.filter(({ status }) => status === 200).length).toBe(1);
		expect(server.calls("/session")).toBe(calls + 1);
		expect(await server.transactions()).toBe(transactions + 1);
		expect(await world.onChain(channel)).toMatchObject({ deposit: DEPOSIT + MORE });
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: DEPOSIT + MORE, spent: PRICE, reserved: 0n });
	});

	it.each(KINDS)("with a merged open by %s funds once and delivers once", async (kind) => {
		const channel = payer.channel(server.payee);
		const draft = await voucherThatOpens(kind, { server, payer }, channel, 5n * PRICE);
		const [transactions, calls] = [await server.transactions(), server.calls("/session")];
		const answers = await tenAtOnce(draft);
		expect(answers.filter(({ status }) => status === 200).length).toBe(1);
		expect(server.calls("/session")).toBe(calls + 1);
		expect(await server.transactions()).toBe(transactions + 1);
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: 5n * PRICE, spent: PRICE, reserved: 0n });
	});
});

async function credits(hash: string): Promise<number> {
	let count = 0;
	for await (const { kind, values } of server.store.audit())
		if (kind === "topped-up" && values.txHash === hash) count++;
	return count;
}
