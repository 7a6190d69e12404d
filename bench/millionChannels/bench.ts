import { join } from "node:path";
import { alternate, type Bench, type RunOptions } from "../lib/bench.ts";
import { type Figures, figuresOf, ratioOf } from "../lib/figures.ts";
import { openShop } from "../lib/shop.ts";
import { startSide } from "../lib/side.ts";
import { setStage } from "../lib/stage.ts";
import { figuresTable, times } from "../lib/table.ts";
import { writeBooks } from "./books.ts";
import { withLongGrace } from "./place.ts";
import type { Info, Order, Start } from "./side.ts";

export type MillionChannelsResult = Readonly<{
	/** How many there are in `many`, and in `few`. */
	channels: number;
	fewChannels: number;
	many: Figures;
	few: Figures;
	/** Many against few. */
	ratio: number;
	/** The most that the process had resident at the end of a round, with many. */
	rssMb: number;
	/** From the opening of the store until the engine takes requests, with many. */
	startSeconds: number;
}>;

/** How much is done. */
export type MillionChannelsPlan = Readonly<{ channels: number; fewChannels: number; atOnce: number; count: number }>;

const PLAN: MillionChannelsPlan = { channels: 1_000_000, fewChannels: 200, atOnce: 128, count: 10_000 };
const QUICK: MillionChannelsPlan = { ...PLAN, channels: 50_000, count: 2_000 };

/** How long ago the channels were paid on: none of them is due for anything. */
const PAID_BEFORE_MS = 60_000;

export async function measureMillionChannels(
	{ rounds, progress, setStage: set = setStage }: RunOptions,
	{ channels, fewChannels, atOnce, count }: MillionChannelsPlan,
): Promise<MillionChannelsResult> {
	const stage = await set({ channels: 1, deposit: 10n ** 12n });
	const sides: Readonly<{ stop(): Promise<void> }>[] = [stage];
	try {
		const place = await withLongGrace(stage.place);
		const start = async (many: number) => {
			const folder = join(stage.folder, `books-of-${many}`);
			// A server was there before: it has followed the chain up to now, so that no channel has to be read from there.
			await (await openShop({ ...place, channels: [] }, { folder })).close();
			const told = Math.ceil(many / 4);
			await writeBooks(place, {
				folder,
				count: many,
				at: Date.now() - PAID_BEFORE_MS,
				progress: (written) => {
					if (written % told === 0) progress(`${written} of ${many} channels are written`);
				},
			});
			const options: Start = { place, folder, channels: many };
			const side = await startSide<Order, Info>(new URL("./side.ts", import.meta.url), options);
			sides.unshift(side);
			return side;
		};
		const few = await start(fewChannels);
		const many = await start(channels);
		progress(`${rounds} rounds of ${count} vouchers, ${atOnce} at once, on channels drawn by chance`);
		const order: Order = { count, atOnce };
		const measured = await alternate(rounds, { few: { side: few, order }, many: { side: many, order } });
		const figures = figuresOf(measured.many);
		return {
			channels,
			fewChannels,
			many: figures,
			few: figuresOf(measured.few),
			ratio: ratioOf(measured.many, measured.few),
			rssMb: figures.rssBytes / 1e6,
			startSeconds: many.info.startSeconds,
		};
	} finally {
		for (const side of sides) await side.stop();
	}
}

export const bench: Bench<MillionChannelsResult> = {
	name: "million-channels",
	description:
		"Vouchers on channels drawn by chance out of a million in the store, against 200, and the start on them.",
	run: (options) => measureMillionChannels(options, options.quick ? QUICK : PLAN),
	table({ channels, fewChannels, many, few, ratio, rssMb, startSeconds }) {
		return [
			figuresTable("vouchers", [
				{ label: `${channels.toLocaleString("en-US")} channels`, figures: many },
				{ label: `${fewChannels} channels`, figures: few },
			]),
			"",
			`many: ${times(ratio)} few, ${rssMb.toFixed(0)} MB resident, started in ${startSeconds.toFixed(2)} s`,
		].join("\n");
	},
};
