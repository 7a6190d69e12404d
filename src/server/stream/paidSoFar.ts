import type { MeterControl } from "./meter.ts";

/**
 * What was charged so far, once it is paid for: also what the handler has not waited for. For `MeterControl.delivered`.
 * Rejects as `settled` does; nobody has to listen. No promise where all is paid for already.
 */
export function paidSoFar(metered: Pick<MeterControl, "settled" | "mark">): Promise<bigint> | bigint {
	const mark = metered.mark();
	const settled = metered.settled();
	if (settled === undefined) return mark;
	const paid = settled.then(() => mark);
	// It is waited for when what it is for is about to leave.
	paid.catch(() => undefined);
	return paid;
}
