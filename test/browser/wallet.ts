/** What a wallet in IndexedDB outlives, and which tabs share it. */
import assert from "node:assert/strict";
import type { Case } from "./cases.ts";
import { closedWith, numbersTo, servedOf } from "./stage.ts";

const outlives: Case = {
	title: "a wallet in IndexedDB outlives a reload of the page and the death of the browser: one channel, one deposit",
	async play(stage) {
		const { browser, url } = stage;
		const page = await stage.tab();
		const answers = [...(await page.evaluate((url) => payer.pay(url, 5, 2), url))];
		await page.reload();
		await stage.start(page);
		answers.push(...(await page.evaluate((url) => payer.pay(url, 5, 2), url)));
		await browser.kill();
		const again = await stage.tab();
		answers.push(...(await again.evaluate((url) => payer.pay(url, 5, 2), url)));
		assert.deepEqual(servedOf(answers), numbersTo(15));
		return closedWith(stage, again, 15);
	},
};

const sharing: Case = {
	title: "two tabs at once pay with one channel: each request once, and no amount for two of them",
	async play(stage) {
		const { url } = stage;
		const each = 15;
		const tabs = [await stage.tab(), await stage.tab()];
		const answers = await Promise.all(
			tabs.map((page) => page.evaluate(([url, count]) => payer.pay(url, count, 2), [url, each] as const)),
		);
		assert.deepEqual(servedOf(answers.flat()), numbersTo(2 * each));
		const [first, second] = tabs;
		assert(first !== undefined && second !== undefined);
		return closedWith(stage, first, 2 * each);
	},
};

const leaving: Case = {
	title: "a tab that is closed, or crashes, gives its channel back at once",
	async play(stage) {
		const { url } = stage;
		const pay = (page: Awaited<ReturnType<typeof stage.tab>>) => page.evaluate((url) => payer.pay(url, 3, 1), url);
		const closed = await stage.tab();
		const answers = [...(await pay(closed))];
		await closed.close();
		const crashed = await stage.tab();
		answers.push(...(await pay(crashed)));
		// The page's process ends, and so does what waits for it.
		await crashed.goto("chrome://crash").catch(() => undefined);
		const last = await stage.tab();
		answers.push(...(await pay(last)));
		assert.deepEqual(servedOf(answers), numbersTo(9));
		return closedWith(stage, last, 9);
	},
};

export const walletCases: readonly Case[] = [outlives, sharing, leaving];
