import { randomBytes } from "node:crypto";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { PaymentHooks } from "../../../src/server/index.ts";
import { expectPaid } from "../../support/expect.ts";
import { merged, topUpByAuthorization } from "../../support/sessionDrafts.ts";
import { useWorld } from "../../support/useWorld.ts";
import { DEPOSIT, type PaidServer, type Payer, PRICE, transactionOf } from "../../support/world.ts";

const world = useWorld();
let server: PaidServer;
let payer: Payer;
let told: [hook: keyof PaymentHooks, event: object][];
/** What the store held when a hook was called: what is told is on disk. */
let known: unknown[];

beforeAll(async () => {
	payer = await world.payer({ gas: true });
});
beforeEach(async () => {
	told = [];
	known = [];
	server = await world.serve(shared());
});

const note = (hook: keyof PaymentHooks) => async (event: object) => {
	told.push([hook, event]);
	if ("channelId" in event) known.push(await server.ledger(event as { channelId: `0x${string}` }));
};
const hooks: PaymentHooks = {
	onVoucher: note("onVoucher"),
	onCharged: note("onCharged"),
	onChannelOpened: note("onChannelOpened"),
	onChannelClosed: note("onChannelClosed"),
};
let account = privateKeyToAccount(generatePrivateKey());
let secrets = [randomBytes(32).toString("base64url")];
function shared() {
	account = privateKeyToAccount(generatePrivateKey());
	secrets = [randomBytes(32).toString("base64url")];
	return { account, engine: { secrets, hooks } };
}

const challenge = () => server.challenge("/session");

describe("hooks of a session", () => {
	it("tell of an opening, each raised voucher, each charge and the close, once and in order", async () => {
		const channel = payer.channel(server.payee);
		const { channelId } = channel;
		const who = { channelId, payer: payer.address };
		expectPaid(
			await server.pay("/session", await payer.open(await challenge(), channel, { deposit: DEPOSIT, amount: PRICE })),
		);
		const charged = { ...who, intent: "session", amount: PRICE, method: "GET", url: "/session" };
		await expect
			.poll(() => told)
			.toEqual([
				["onChannelOpened", { ...who, deposit: DEPOSIT, txHash: expect.stringMatching(/^0x[0-9a-f]{64}$/) }],
				["onVoucher", { ...who, acceptedCumulative: PRICE, delta: PRICE }],
				["onCharged", charged],
			]);
		told.length = 0;
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, 5n * PRICE)));
		expectPaid(
			await server.pay("/session", await payer.voucher(await challenge(), channel, 5n * PRICE), { method: "POST" }),
		);
		expectPaid(
			await server.pay("/session", await payer.voucher(await challenge(), channel, 5n * PRICE), { method: "HEAD" }),
		);
		await expect
			.poll(() => told)
			.toEqual([
				["onVoucher", { ...who, acceptedCumulative: 5n * PRICE, delta: 4n * PRICE }],
				["onCharged", charged],
				["onCharged", { ...charged, method: "POST" }],
			]);
		told.length = 0;
		const closed = await server.pay("/session", await payer.close(await challenge(), channel, 6n * PRICE));
		expectPaid(closed);
		await expect
			.poll(() => told)
			.toEqual([
				["onVoucher", { ...who, acceptedCumulative: 6n * PRICE, delta: PRICE }],
				["onChannelClosed", { ...who, settledOnChain: 6n * PRICE, txHash: transactionOf(closed) }],
			]);
		expect(known).not.toContain(undefined);
	});

	it("tell of a raised voucher also where it does not cover the price, and of nothing where nothing was raised", async () => {
		const channel = await server.open(payer);
		told.length = 0;
		for (const amount of [PRICE - 1n, PRICE - 1n, 0n])
			expect((await server.pay("/session", await payer.voucher(await challenge(), channel, amount))).status).toBe(402);
		const stranger = privateKeyToAccount(generatePrivateKey());
		await server.pay("/session", await payer.voucher(await challenge(), channel, PRICE, { signer: stranger }));
		await expect
			.poll(() => told)
			.toEqual([
				[
					"onVoucher",
					{ channelId: channel.channelId, payer: payer.address, acceptedCumulative: PRICE - 1n, delta: PRICE - 1n },
				],
			]);
	});

	it("tell of a merged top-up's voucher once, and of nothing when it is sent again", async () => {
		const channel = await server.open(payer);
		told.length = 0;
		const one = await challenge();
		const topUp = await topUpByAuthorization(payer, one, channel, PRICE);
		const draft = merged(await payer.voucher(one, channel, DEPOSIT + PRICE), topUp);
		expectPaid(await server.pay("/session", draft));
		await server.pay("/session", draft);
		await expect.poll(() => told.map(([hook]) => hook)).toEqual(["onVoucher", "onCharged"]);
	});

	it("tell of a channel that was closed past this server, once, when it is seen", async () => {
		const channel = await server.open(payer);
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, PRICE)));
		await world.closeOnChain(server.account, channel, PRICE, await payer.sign(channel, PRICE));
		told.length = 0;
		server.clock.advance(15_001);
		for (let n = 0; n < 2; n++)
			expect((await server.pay("/session", await payer.voucher(await challenge(), channel, 2n * PRICE))).status).toBe(
				410,
			);
		await expect
			.poll(() => told)
			.toEqual([["onChannelClosed", { channelId: channel.channelId, payer: payer.address, settledOnChain: PRICE }]]);
	});

	it("tell of an adopted channel, and of what its voucher adds to spend", async () => {
		const channel = await server.open(payer);
		await server.stop();
		server = await world.serve({ account, engine: { secrets, hooks } });
		told.length = 0;
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, 7n * PRICE)));
		const who = { channelId: channel.channelId, payer: payer.address };
		await expect
			.poll(() => told)
			.toEqual([
				["onChannelOpened", { ...who, deposit: DEPOSIT }],
				["onVoucher", { ...who, acceptedCumulative: 7n * PRICE, delta: PRICE }],
				["onCharged", { ...who, intent: "session", amount: PRICE, method: "GET", url: "/session" }],
			]);
	});
});
