/** How every peer's side but the HTTP one does its rounds. */
import { measureRound } from "../lib/round.ts";

/**
 * Measures `work` over `items`, one after the other: all of it is computing, so more at a time would only wait longer.
 *
 * @template Item
 * @param {readonly Item[]} items what was made ahead
 * @param {(item: Item) => Promise<void> | void} work throws where the peer refuses
 * @returns {Promise<import("../lib/round.ts").Round>}
 */
export function oneByOne(items, work) {
	return measureRound(items.length, async (latenciesMs) => {
		for (const item of items) {
			const startedAt = performance.now();
			await work(item);
			latenciesMs.push(performance.now() - startedAt);
		}
	});
}
