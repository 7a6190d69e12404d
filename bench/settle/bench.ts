import { alternate, type Bench, type RunOptions } from "../lib/bench.ts";
import { type Figures, figuresOf, median } from "../lib/figures.ts";
import { startSide } from "../lib/side.ts";
import { setStage } from "../lib/stage.ts";
import { table, whole } from "../lib/table.ts";
import type { Order, SettledRound, Start } from "./ours.ts";

/** What one size of batches comes to. Medians. */
export type SettleFigures = Readonly<{
	/** The most channels of one transaction; null: the policy's default. */
	batchSize: number | null;
	channelsPerSecond: number;
	/** By what the transactions' receipts say that was used. */
	channelsPerMillionGas: number;
	/** Of one round. */
	transactions: number;
	gasUsed: number;
	figures: Figures;
}>;

export type SettleResult = Readonly<{
	channels: number;
	/** By the policy's default, as a server without one settles. */
	channelsPerSecond: number;
	channelsPerMillionGas: number;
	transactions: number;
	sizes: readonly SettleFigures[];
}>;

/** How much is done: in each round `channels` channels of each size of batches. */
export type SettlePlan = Readonly<{ channels: number; batchSizes: readonly (number | null)[] }>;

const PLAN: SettlePlan = { channels: 200, batchSizes: [1, 10, 50, null] };
const QUICK: SettlePlan = { channels: 20, batchSizes: [1, null] };
const DEPOSIT = 10n ** 9n;

/** @param set sets its stage: one of its own, for it changes channels on chain that others share */
export async function measureSettle(
	{ rounds, progress }: Pick<RunOptions, "rounds" | "progress">,
	{ channels: count, batchSizes }: SettlePlan,
	set = setStage,
): Promise<SettleResult> {
	// Each side has channels of its own: the others' settlements must not show in its books.
	const stage = await set({ channels: count * batchSizes.length, deposit: DEPOSIT });
	const stops: (() => Promise<void>)[] = [stage.stop];
	try {
		const turns: Record<string, { side: Awaited<ReturnType<typeof start>>; order: Order }> = {};
		const start = (batchSize: number | null, at: number) => {
			const channels = stage.place.channels.slice(at * count, (at + 1) * count);
			const { place, folder } = { ...stage, place: { ...stage.place, channels } };
			const told: Start = { place, folder, ...(batchSize !== null && { batchSize }) };
			return startSide<Order, unknown>(new URL("./ours.ts", import.meta.url), told);
		};
		for (const [at, batchSize] of batchSizes.entries()) {
			const side = await start(batchSize, at);
			stops.unshift(side.stop);
			turns[at] = { side, order: {} };
		}
		progress(`${rounds} rounds of ${count} channels, by ${batchSizes.length} sizes of batches`);
		const measured = await alternate(rounds, turns);
		const sizes = batchSizes.map((batchSize, at) => sizeOf(batchSize, measured[at] as readonly SettledRound[]));
		const own = sizes.find(({ batchSize }) => batchSize === null) ?? sizes.at(-1);
		if (own === undefined) throw new RangeError("there is no size of batches to measure");
		const { channelsPerSecond, channelsPerMillionGas, transactions } = own;
		return { channels: count, channelsPerSecond, channelsPerMillionGas, transactions, sizes };
	} finally {
		for (const stop of stops) await stop();
	}
}

function sizeOf(batchSize: number | null, rounds: readonly SettledRound[]): SettleFigures {
	const figures = figuresOf(rounds);
	return {
		batchSize,
		channelsPerSecond: figures.perSecond,
		channelsPerMillionGas: median(rounds.map(({ count, gasUsed }) => (1e6 * count) / gasUsed)),
		transactions: median(rounds.map(({ transactions }) => transactions)),
		gasUsed: median(rounds.map(({ gasUsed }) => gasUsed)),
		figures,
	};
}

export const bench: Bench<SettleResult> = {
	name: "settle",
	description: "Channels that owe are settled on chain by the product's own run, on anvil, which mines at once.",
	run: (options) => measureSettle(options, options.quick ? QUICK : PLAN),
	table({ channels, sizes }) {
		const rows = sizes.map(
			({ batchSize, channelsPerSecond, channelsPerMillionGas, transactions, gasUsed, figures }) => [
				batchSize === null ? "the policy's default" : String(batchSize),
				whole(channelsPerSecond),
				channelsPerMillionGas.toFixed(1),
				whole(transactions),
				whole(gasUsed),
				whole(figures.cpuMicros),
			],
		);
		const head = [
			"at most in a transaction",
			"channels a second",
			"channels per million gas",
			"transactions",
			"gas in all",
			"CPU µs a channel",
		];
		return [`${channels} channels that owe, each round`, "", table(head, rows)].join("\n");
	},
};
