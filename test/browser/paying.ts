/** What a page pays at a server of another origin. */
import assert from "node:assert/strict";
import { PRICE } from "../../src/cli/demo/world.ts";
import type { Case } from "./cases.ts";
import { closedWith, FUNDS, numbersTo, servedOf } from "./stage.ts";

const session: Case = {
	title: "a page opens a channel at a server of another origin, pays 20 requests with it, and closes it",
	async play(stage) {
		const requests = 20;
		const page = await stage.tab();
		const answers = await page.evaluate(([url, count]) => payer.pay(url, count, 4), [stage.url, requests] as const);
		assert.deepEqual(servedOf(answers), numbersTo(requests));
		return closedWith(stage, requests, page);
	},
};

const stream: Case = {
	title: "a page reads a stream of another origin and pays for each token of it",
	async play(stage) {
		const tokens = 50;
		const page = await stage.tab();
		const url = `${stage.world.server.url}/stream?tokens=${tokens}`;
		const texts = await page.evaluate((url) => payer.stream(url), url);
		assert.deepEqual(
			texts,
			numbersTo(tokens).map((number) => `token ${number}`),
		);
		return closedWith(stage, tokens, page);
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

const injected: Case = {
	title: "a page pays with the visitor's wallet (EIP-1193), which is asked for one signature: the deposit's",
	async play(stage) {
		const requests = 5;
		const page = await stage.tab({ isInjected: true });
		const answers = await page.evaluate(([url, count]) => payer.pay(url, count, 2), [stage.url, requests] as const);
		assert.deepEqual(servedOf(answers), numbersTo(requests));
		const outcome = await closedWith(stage, requests, page);
		const { asked, signed } = await page.evaluate(() => payer.asked());
		assert.deepEqual({ asked, signed }, { asked: 1, signed: 1 });
		return { ...outcome, signed };
	},
};

const rejected: Case = {
	title: "a visitor who says no has signed nothing, is not asked for anything else, and may say yes later",
	async play(stage) {
		const { world, url } = stage;
		const page = await stage.tab({ isInjected: true });
		assert.equal(await page.evaluate((url) => payer.refused(url), url), "USER_REJECTED");
		assert.deepEqual(await page.evaluate(() => payer.asked()), { asked: 1, signed: 0 });
		assert.equal(await stage.transactions(), 0);
		assert.equal(await world.balance(stage.payer()), FUNDS);
		const answers = await page.evaluate((url) => payer.pay(url, 3, 1), url);
		assert.deepEqual(servedOf(answers), numbersTo(3));
		assert.deepEqual(await page.evaluate(() => payer.asked()), { asked: 2, signed: 1 });
		return closedWith(stage, 3, page);
	},
};

export const paying: readonly Case[] = [session, stream, charge, injected, rejected];
