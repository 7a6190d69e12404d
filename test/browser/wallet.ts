/** What a wallet in IndexedDB outlives, and which tabs share it. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import type { Page } from "playwright-core";
import { until } from "../../src/cli/demo/until.ts";
import type { Case } from "./cases.ts";
import type { PageAnswer } from "./page.ts";
import { closedWith, numbersTo, servedOf } from "./stage.ts";

/** How long a tab pays for nothing, now and then, in milliseconds. */
const REST_MS = 100;

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
		return closedWith(stage, 15, again);
	},
};

const sharing: Case = {
	title:
		"two tabs at once pay each request once, with a channel that they share or one each, and no amount for two requests",
	async play(stage) {
		const { url } = stage;
		const each = 15;
		const tabs = [await stage.tab({ maxChannels: 2 }), await stage.tab({ maxChannels: 2 })];
		const answers = await Promise.all(
			tabs.map((page) => page.evaluate(([url, count]) => payer.pay(url, count, 2), [url, each] as const)),
		);
		assert.deepEqual(servedOf(answers.flat()), numbersTo(2 * each));
		const outcome = await closedWith(stage, 2 * each, ...tabs);
		assert.equal(outcome.accepted, outcome.paid, "what was signed is what was bought");
		return outcome;
	},
};

const takingTurns: Case = {
	title: "two tabs at once pay with the one channel that they may have, which goes from one to the other as they rest",
	async play(stage) {
		const { url } = stage;
		const rounds = 5;
		const tabs = [await stage.tab(), await stage.tab()];
		const all: PageAnswer[] = [];
		const payOnAndOff = async (page: Page) => {
			for (let round = 0; round < rounds; round++) {
				for (let n = 0; n < 3; n++) all.push(...(await payInTurn(page, url)));
				await sleep(REST_MS);
			}
		};
		await Promise.all(tabs.map(payOnAndOff));
		assert.deepEqual(servedOf(all), numbersTo(2 * rounds * 3));
		const outcome = await closedWith(stage, 2 * rounds * 3, ...tabs);
		assert.equal(outcome.channels, 1);
		assert.equal(outcome.accepted, outcome.paid, "what was signed is what was bought");
		return outcome;
	},
};

/** One request. Where the other tab is at it for longer than one waits for a channel, it is refused, and tried again. */
async function payInTurn(page: Page, url: string): Promise<readonly PageAnswer[]> {
	return until("the tab has its turn", async () => {
		try {
			return await page.evaluate((url) => payer.pay(url, 1, 1), url);
		} catch (error) {
			if (String(error).includes("hold a deposit already")) return undefined;
			throw error;
		}
	});
}

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
		return closedWith(stage, 9, last);
	},
};

const dying: Case = {
	title:
		"a tab that crashes while it pays gives its channel back: the next one goes on where it was, at no second price",
	async play(stage) {
		const { url } = stage;
		const planned = 90;
		const crashed = await stage.tab();
		const paying = crashed.evaluate(([url, count]) => payer.pay(url, count, 3), [url, planned] as const);
		const isCutOff = paying.then(
			() => false,
			() => true,
		);
		await crashed.waitForFunction(() => payer.answered() >= 5);
		await crashed.goto("chrome://crash").catch(() => undefined);
		const last = await stage.tab();
		const served = servedOf(await last.evaluate((url) => payer.pay(url, 3, 1), url));
		// Whether the page has heard of it or not, what the server has served it has also charged, once.
		const units = served.at(-1) ?? 0;
		assert.deepEqual(served, [units - 2, units - 1, units]);
		assert(units > 5 && units < planned, `${units} were served: the tab has not died on the way`);
		const outcome = await closedWith(stage, units, last);
		await crashed.close();
		assert(await isCutOff);
		return outcome;
	},
};

export const walletCases: readonly Case[] = [outlives, sharing, takingTurns, leaving, dying];
