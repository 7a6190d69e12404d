import type { MeterControl } from "./meter.ts";

/**
 * Charges what the route says that a piece costs, before it leaves. Nothing to wait for where it costs nothing.
 *
 * @param workedMs how long its handler has worked on it
 */
export type Tariff = (bytes: number, workedMs: number) => Promise<void> | undefined;

/**
 * The tariff of one answer. What has no bytes costs nothing. Of a route that is paid by the second, the second that has
 * begun is paid as well; time in which nothing was made, because the reader stopped or a voucher was waited for, is not.
 */
export function tariffOf({ meter, settings: { per } }: Pick<MeterControl, "meter" | "settings">): Tariff {
	let totalMs = 0;
	let seconds = 0n;
	return (bytes, workedMs) => {
		totalMs += workedMs;
		if (bytes === 0 || per === undefined) return undefined;
		if (per === "piece") return meter.charge(1n);
		if (per === "byte") return meter.charge(bytes);
		const begun = BigInt(Math.floor(totalMs / 1_000)) + 1n;
		const more = begun - seconds;
		seconds = begun;
		return more > 0n ? meter.charge(more) : undefined;
	};
}
