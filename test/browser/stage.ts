import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { type Address, encodeFunctionData, type Hex } from "viem";
import { testUsdcAbi } from "../../src/cli/demo/generated/testUsdc.ts";
import { createWorld, PRICE, type World } from "../../src/cli/demo/world.ts";
import type { Browser } from "./chromium.ts";
import type { PageAnswer, PageSettings } from "./page.ts";
import type { Site } from "./site.ts";

/** What the page's purse is filled with, and what a channel may hold: the demo's server suggests the latter. */
const REQUESTS = 100;
export const DEPOSIT = 2n * PRICE * BigInt(REQUESTS);
export const FUNDS = 3n * DEPOSIT;

/** What a case tells. */
export type Figures = Readonly<Record<string, unknown>>;

/** What the escrow and the server's store have of a channel, once the server has stopped. */
export type Books = Readonly<{
	chain: Readonly<{ deposit: bigint; settled: bigint; finalized: boolean }>;
	store: Readonly<{ accepted: bigint; spent: bigint; reserved: bigint }>;
}>;

/** A case's own chain and paid server, of another origin than the page. */
export type Stage = Readonly<{
	world: World;
	browser: Browser;
	/** What is paid for by a channel. */
	url: string;
	/** A new tab with the payer in it; the first one's purse is filled. Its channels are in IndexedDB, one at a time. */
	tab(options?: Partial<PageSettings>): Promise<Page>;
	/** The payer begins anew in a tab that was loaded again. */
	start(page: Page): Promise<void>;
	/** The page's account. */
	payer(): Address;
	/** Transactions to the escrow and the token since the beginning, but for those that filled the purse. */
	transactions(): Promise<number>;
	/** Stops the server, and reads what is left of these channels. */
	books(channelIds: readonly Hex[]): Promise<readonly Books[]>;
	stop(): Promise<void>;
}>;

export async function createStage(browser: Browser, site: Site): Promise<Stage> {
	const folder = await mkdtemp(join(tmpdir(), "sluice-browser-store-"));
	const world = await createWorld(join(folder, "store"), REQUESTS, { allowOrigin: site.origin });
	const { chain, token, escrow } = world;
	let address: Address | undefined;
	const fill = async (purse: Address) => {
		const data = encodeFunctionData({ abi: testUsdcAbi, functionName: "mint", args: [purse, FUNDS] });
		await world.send(chain.account(0), { to: token, data });
		assert.equal(await world.balance(purse), FUNDS);
	};
	const settings: PageSettings = {
		rpcUrl: chain.url,
		chainId: chain.chainId,
		token,
		escrow,
		hosts: [new URL(world.server.url).host],
		maxDeposit: String(DEPOSIT),
		maxPrice: String(PRICE),
		maxChannels: 1,
		isInjected: false,
	};
	return {
		world,
		browser,
		get url() {
			return `${world.server.url}/session`;
		},
		async tab(options = {}) {
			const page = await browser.open(`${site.origin}/`);
			const purse = (await page.evaluate(() => payer.address())) as Address;
			if (address === undefined) await fill(purse);
			address = purse;
			await page.evaluate((given) => payer.start(given), { ...settings, ...options });
			return page;
		},
		start: (page) => page.evaluate((given) => payer.start(given), settings),
		payer() {
			if (address === undefined) throw new Error("no tab was opened");
			return address;
		},
		transactions: () => world.transactionsTo(escrow),
		async books(channelIds) {
			const onChain = await Promise.all(channelIds.map((channelId) => world.channelOnChain(channelId)));
			const store = await world.openStore();
			try {
				return await Promise.all(
					onChain.map(async ({ deposit, settled, finalized }, index) => {
						const channelId = channelIds[index] as Hex;
						const channel = await store.channel(channelId);
						assert(channel !== undefined, `the server's store has no channel ${channelId}`);
						const { acceptedCumulative: accepted, spent, reservations } = channel;
						const reserved = Object.values(reservations).reduce((sum, amount) => sum + amount, 0n);
						return { chain: { deposit, settled, finalized }, store: { accepted, spent, reserved } };
					}),
				);
			} finally {
				await store.close();
			}
		},
		async stop() {
			await world.stop().finally(() => rm(folder, { recursive: true, force: true }));
		},
	};
}

/** The numbers that the demo's server gives its answers: each answer is another request's. */
export function servedOf(answers: readonly PageAnswer[]): readonly number[] {
	for (const { status, receipt } of answers) {
		assert.equal(status, 200);
		assert.notEqual(receipt, null, "the page can read its receipt");
	}
	return answers.map(({ body }) => (body as { served: number }).served).sort((a, b) => a - b);
}

/** 1, 2, and so on. */
export function numbersTo(count: number): readonly number[] {
	return Array.from({ length: count }, (_, index) => index + 1);
}

/**
 * Closes what the pages have open: at most as many channels, each opened and closed by one transaction, on which pages, server
 * and escrow agree that `units` were paid. Resolves to that.
 */
export async function closedWith(stage: Stage, units: number, ...pages: readonly Page[]): Promise<Figures> {
	const { world } = stage;
	const paid = PRICE * BigInt(units);
	const closed = [];
	for (const page of pages) closed.push(...(await page.evaluate(() => payer.close())));
	assert(closed.length > 0 && closed.length <= pages.length);
	const transactions = await stage.transactions();
	assert.equal(transactions, 2 * closed.length, "one transaction opens a channel, one closes it");
	let total = 0n;
	let accepted = 0n;
	for (const [index, { chain, store }] of (await stage.books(closed.map(({ channelId }) => channelId))).entries()) {
		const { spent } = store;
		assert.deepEqual(chain, { deposit: DEPOSIT, settled: spent, finalized: true });
		assert.equal(closed[index]?.spent, String(spent));
		assert.equal(store.reserved, 0n);
		assert(store.accepted >= spent);
		total += spent;
		accepted += store.accepted;
	}
	assert.equal(total, paid);
	assert.equal(await world.balance(world.payee.address), paid);
	assert.equal(await world.balance(stage.payer()), FUNDS - paid);
	assert.equal(await world.balance(world.escrow), 0n);
	return { units, channels: closed.length, transactions, paid: String(paid), accepted: String(accepted) };
}
