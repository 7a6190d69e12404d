import type { Round } from "./round.ts";
import type { RunningSide } from "./side.ts";
import type { setStage } from "./stage.ts";

/** How a bench is run. */
export type RunOptions = Readonly<{
	/** How often each side is measured. */
	rounds: number;
	/** Less work in each round, for a look in under a minute all together. */
	quick: boolean;
	progress: (text: string) => void;
	/** Sets a bench's stage. A run of several gives them one to share, for a chain with its channels takes seconds to set up. */
	setStage?: typeof setStage;
}>;

/** One bench. */
export type Bench<Result> = Readonly<{
	/** As it is called on the command line, for example `session-verify`. */
	name: string;
	/** What it measures, in one sentence. */
	description: string;
	run(options: RunOptions): Promise<Result>;
	/** For people. */
	table(result: Result): string;
}>;

/** A side and what each of its rounds is told. */
export type Turn<Order> = Readonly<{ side: Pick<RunningSide<Order, unknown>, "round">; order: Order }>;

/**
 * Measures sides in turn, round by round, so that whatever happens to the machine happens to all of them. A first round of
 * each does not count: code and caches are warm after it.
 *
 * @param turns undefined, or not there, is a side that is left out: it has no rounds
 * @returns the rounds of each side
 * @example
 * const { ours, mppx } = await alternate(5, { ours: { side: a, order: { count: 20_000 } }, mppx: { side: b, order: { count: 400 } } });
 */
// biome-ignore lint/suspicious/noExplicitAny: each side has orders of its own.
export async function alternate<Turns extends Readonly<Record<string, Turn<any> | undefined>>>(
	rounds: number,
	turns: Turns,
): Promise<Measured<Turns>> {
	const sides = Object.entries(turns).flatMap(([name, turn]) => (turn === undefined ? [] : [{ name, ...turn }]));
	const measured: Record<string, Round[]> = {};
	for (const { side, order } of sides) await side.round(order);
	for (let round = 0; round < rounds; round++) {
		for (const { name, side, order } of sides) {
			measured[name] ??= [];
			measured[name].push(await side.round(order));
		}
	}
	return measured as Measured<Turns>;
}

/** The rounds of each side that was not left out. */
export type Measured<Turns> = {
	-readonly [Name in keyof Turns]: undefined extends Turns[Name] ? readonly Round[] | undefined : readonly Round[];
};
