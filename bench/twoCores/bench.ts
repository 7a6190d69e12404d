import { alternate, type Bench, type RunOptions } from "../lib/bench.ts";
import { type Figures, figuresOf, ratioOf } from "../lib/figures.ts";
import { type Stoppable, startSide, together } from "../lib/side.ts";
import { setStage } from "../lib/stage.ts";
import { figuresTable, times } from "../lib/table.ts";
import type { Order, Start } from "../sessionVerify/ours.ts";

export type TwoCoresResult = Readonly<{
	/** The engine verifies on its own thread. */
	alone: Figures;
	/** One thread verifies beside it, or two. */
	one: Figures;
	two: Figures;
	/** With one thread, against alone. */
	ratio: number;
}>;

/** How much is done. */
export type TwoCoresPlan = Readonly<{ channels: number; atOnce: number; count: number }>;

const PLAN: TwoCoresPlan = { channels: 200, atOnce: 128, count: 20_000 };
const QUICK: TwoCoresPlan = { ...PLAN, channels: 50, count: 1_000 };
const DEPOSIT = 10n ** 12n;

export async function measureTwoCores(
	{ rounds, progress, setStage: set = setStage }: RunOptions,
	{ channels, atOnce, count }: TwoCoresPlan,
): Promise<TwoCoresResult> {
	const stage = await set({ channels, deposit: DEPOSIT });
	const { place, folder } = stage;
	const sides: Stoppable[] = [];
	try {
		const start = (threads: number) => {
			const options: Start = { place, folder, fsync: true, threads };
			return startSide<Order, unknown>(new URL("../sessionVerify/ours.ts", import.meta.url), options);
		};
		const started = await together(start(0), start(1), start(2));
		sides.push(...started);
		const order: Order = { count, atOnce };
		const [none, oneThread, twoThreads] = started;
		const turns = {
			alone: { side: none, order },
			one: { side: oneThread, order },
			two: { side: twoThreads, order },
		};
		progress(`${rounds} rounds of ${count} vouchers, ${atOnce} at once on ${channels} channels`);
		const { alone, one, two } = await alternate(rounds, turns);
		return { alone: figuresOf(alone), one: figuresOf(one), two: figuresOf(two), ratio: ratioOf(one, alone) };
	} finally {
		await Promise.all(sides.map((side) => side.stop()));
		await stage.stop();
	}
}

export const bench: Bench<TwoCoresResult> = {
	name: "two-cores",
	description: "The engine of session-verify with threads that verify beside it, against the same without.",
	run: (options) => measureTwoCores(options, options.quick ? QUICK : PLAN),
	table({ alone, one, two, ratio }) {
		return [
			figuresTable("vouchers", [
				{ label: "no thread besides the engine's own", figures: alone },
				{ label: "one thread that verifies", figures: one },
				{ label: "two threads that verify", figures: two },
			]),
			"",
			`one thread that verifies: ${times(ratio)} none`,
		].join("\n");
	},
};
