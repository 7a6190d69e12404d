import type { Plan } from "./messages.ts";

/** What may be chosen of a run. */
export type Choice = Readonly<{ streams?: number; seconds?: number; pieces?: number }>;

const STREAMS = 1_000;
const SECONDS = 60;

/**
 * Many streams with a piece every 200 ms, as a model makes them: each voucher is for 25 pieces and comes when its stream
 * waits for it already. Or, where `pieces` is given, one stream of so many as fast as it goes, paid ahead by thousands.
 */
export function planOf({ streams, seconds = SECONDS, pieces = 0 }: Choice): Plan {
	if (pieces > 0) {
		const fast = { pauseMs: 0, step: 5_000, ahead: 10_000, lateMs: 0, blockUnits: 1_000 };
		return { streams: streams ?? 1, seconds: 0, pieces, ...fast };
	}
	return {
		streams: streams ?? STREAMS,
		seconds,
		pieces: 0,
		pauseMs: 200,
		step: 25,
		ahead: 25,
		lateMs: 400,
		blockUnits: 32,
	};
}
