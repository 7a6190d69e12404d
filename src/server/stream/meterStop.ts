import { problem } from "../../protocol/index.ts";
import { type Refused, refused } from "../admission.ts";
import { type MeterControl, MeterStoppedError } from "./meter.ts";

/** Why a meter has stopped before its answer began, if it has. */
export function stopOf({ meter: { signal } }: Pick<MeterControl, "meter">): MeterStoppedError | undefined {
	return signal.aborted && signal.reason instanceof MeterStoppedError ? signal.reason : undefined;
}

/**
 * Whether a request that has not answered is over by this: nothing is waited for and nothing sold. After other stops its
 * handler may still answer with what it has charged: that is paid for.
 */
export function endsAtOnce({ why }: MeterStoppedError): boolean {
	return why === "left" || why === "replaced" || why === "failed";
}

/**
 * Aborts when there is no use in waiting for an answer to begin: its client has left, or its meter has stopped. An answer
 * that was made after a stop is one of its own: it is waited for.
 */
export function untilStopped({ meter: { signal } }: Pick<MeterControl, "meter">, client: AbortSignal): AbortSignal {
	return signal.aborted ? client : AbortSignal.any([client, signal]);
}

/** Calls `release` when the meter stops before it has ended, at once where it has: whoever takes its place waits for that. */
export function onStop(control: Pick<MeterControl, "meter">, release: () => void): void {
	const { signal } = control.meter;
	const stop = () => {
		// A release ends it as well.
		if (stopOf(control)?.why !== "ended") release();
	};
	if (signal.aborted) stop();
	else signal.addEventListener("abort", stop, { once: true });
}

/** What is answered in place of an answer that can't be paid for; `undefined` where that is a fault of ours. */
export function stopRefusal({ why, problem: known }: MeterStoppedError): Refused | undefined {
	if (known !== undefined) return refused(known);
	if (why === "replaced")
		return refused(
			problem("conflict", "A new request on the same channel has taken this one's place; it cost nothing."),
		);
	if (why === "closed")
		return refused(
			problem("session/channel-closing", "The channel was closed before this request was served; it cost nothing."),
		);
	return undefined;
}
