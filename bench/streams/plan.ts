import type { Plan } from "./messages.ts";

/** What may be chosen of a run. */
export type Choice = Readonly<{ streams?: number; seconds?: number; pieces?: number; pause?: number }>;

const STREAMS = 1_000;
const SECONDS = 60;
const PAUSE_MS = 500;

/**
 * Many streams with a pause before each piece, as one has whose model is at work: each voucher is for 20 pieces and comes when
 * its stream waits for it already. Or, where `pieces` is given, one stream of so many as fast as it goes, paid ahead by thousands.
 */
export function planOf({ streams, seconds = SECONDS, pieces = 0, pause: pauseMs = PAUSE_MS }: Choice): Plan {
	if (pieces > 0) {
		const fast = { pauseMs: 0, step: 5_000, ahead: 10_000, lateMs: 0, blockUnits: 1_000 };
		return { streams: streams ?? 1, seconds: 0, pieces, ...fast };
	}
	const slow = { pauseMs, step: 20, ahead: 20, lateMs: 2 * pauseMs, blockUnits: 32 };
	return { streams: streams ?? STREAMS, seconds, pieces: 0, ...slow };
}
