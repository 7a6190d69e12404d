import assert from "node:assert/strict";
import { PRICE } from "../../src/cli/demo/world.ts";
import { DEPOSIT, FUNDS, type Stage, servedOf } from "./stage.ts";

/** Something that a page has to be able to do; throws where it does not. Resolves to figures for the report. */
export type Case = Readonly<{ title: string; play(stage: Stage): Promise<Readonly<Record<string, unknown>>> }>;

const session: Case = {
	title: "a page opens a channel at a server of another origin, pays 20 requests with it, and closes it",
	async play(stage) {
		const { world } = stage;
		const requests = 20;
		const page = await stage.tab();
		const url = `${world.server.url}/session`;
		const answers = await page.evaluate(([url, count]) => payer.pay(url, count, 4), [url, requests] as const);
		assert.deepEqual(
			servedOf(answers),
			Array.from({ length: requests }, (_, index) => index + 1),
		);
		const closed = await page.evaluate(() => payer.close());
		const paid = PRICE * BigInt(requests);
		assert.deepEqual(
			closed.map(({ spent }) => spent),
			[String(paid)],
		);
		const channelIds = closed.map(({ channelId }) => channelId);
		const transactions = await stage.transactions();
		assert.equal(transactions, 2, "one transaction opens the channel, one closes it");
		assert.deepEqual(await stage.books(channelIds), [
			{
				chain: { deposit: DEPOSIT, settled: paid, finalized: true },
				store: { accepted: paid, spent: paid, reserved: 0n },
			},
		]);
		assert.equal(await world.balance(world.payee.address), paid);
		assert.equal(await world.balance(stage.payer()), FUNDS - paid);
		assert.equal(await world.balance(world.escrow), 0n);
		return { requests, channels: channelIds.length, transactions, paid: String(paid) };
	},
};

const stream: Case = {
	title: "a page reads a stream of another origin and pays for each token of it",
	async play(stage) {
		const { world } = stage;
		const tokens = 50;
		const page = await stage.tab();
		const url = `${world.server.url}/stream?tokens=${tokens}`;
		const texts = await page.evaluate((url) => payer.stream(url), url);
		assert.deepEqual(
			texts,
			Array.from({ length: tokens }, (_, index) => `token ${index + 1}`),
		);
		const closed = await page.evaluate(() => payer.close());
		const paid = PRICE * BigInt(tokens);
		assert.deepEqual(
			closed.map(({ spent }) => spent),
			[String(paid)],
		);
		assert.equal(await world.balance(world.payee.address), paid);
		return { tokens, paid: String(paid) };
	},
};

const charge: Case = {
	title: "a page pays a charge at a server of another origin, and reads its receipt",
	async play(stage) {
		const { world } = stage;
		const page = await stage.tab();
		const answers = await page.evaluate((url) => payer.pay(url, 1, 1), `${world.server.url}/charge`);
		assert.deepEqual(servedOf(answers), [1]);
		assert.equal(await world.balance(stage.payer()), FUNDS - PRICE);
		return { paid: String(PRICE) };
	},
};

export const CASES: readonly Case[] = [session, stream, charge];
