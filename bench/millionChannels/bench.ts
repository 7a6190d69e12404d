import { join } from "node:path";
import { alternate, type Bench, type RunOptions } from "../lib/bench.ts";
import { type Figures, figuresOf, ratioOf } from "../lib/figures.ts";
import { plainSources } from "../lib/plain.ts";
import { isProfiling } from "../lib/profiling.ts";
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
	/** Few, whose payers answer a new challenge with each voucher, as those of many do, who are hardly ever drawn twice. */
	fewFresh: Figures;
	/** Many against few: each payer answers one challenge all round. */
	ratio: number;
	/** Many against few with new challenges: what is left of the difference when that of the challenges is gone. */
	vsFresh: number;
	/** The most that the process had resident at the end of a round, with many. */
	rssMb: number;
	/** From the opening of the store until the engine takes requests, with many. */
	startSeconds: number;
}>;

/** How much is done. */
export type MillionChannelsPlan = Readonly<{ channels: number; fewChannels: number; atOnce: number; count: number }>;

const PLAN: MillionChannelsPlan = { channels: 1_000_000, fewChannels: 200, atOnce: 128, count: 5_000 };
const QUICK: MillionChannelsPlan = { ...PLAN, channels: 10_000, count: 1_000 };

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
		// A profile names the sources.
		const plain = isProfiling()
			? (script: URL) => script
			: await plainSources(join(stage.folder, "plain"), ["bench/millionChannels/*.ts"]);
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
			const side = await startSide<Order, Info>(plain(new URL("./side.ts", import.meta.url)), options);
			sides.unshift(side);
			return side;
		};
		const few = await start(fewChannels);
		const many = await start(channels);
		progress(`${rounds} rounds of ${count} vouchers, ${atOnce} at once, on channels drawn by chance`);
		const order: Order = { count, atOnce, keepsChallenges: true };
		const measured = await alternate(rounds, {
			few: { side: few, order },
			many: { side: many, order },
			fewFresh: { side: few, order: { ...order, keepsChallenges: false } },
		});
		const figures = figuresOf(measured.many);
		return {
			channels,
			fewChannels,
			many: figures,
			few: figuresOf(measured.few),
			fewFresh: figuresOf(measured.fewFresh),
			ratio: ratioOf(measured.many, measured.few),
			vsFresh: ratioOf(measured.many, measured.fewFresh),
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
	table({ channels, fewChannels, many, few, fewFresh, ratio, vsFresh, rssMb, startSeconds }) {
		return [
			figuresTable("vouchers", [
				{ label: `${channels.toLocaleString("en-US")} channels`, figures: many },
				{ label: `${fewChannels} channels`, figures: few },
				{ label: "the same, a new challenge each time", figures: fewFresh },
			]),
			"",
			`many: ${times(ratio)} few, ${times(vsFresh)} few with a new challenge each time, ${rssMb.toFixed(0)} MB resident, started in ${startSeconds.toFixed(2)} s`,
		].join("\n");
	},
};
