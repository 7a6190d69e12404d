/** Ids, times and coins as people read them. */
import { formatEther, formatGwei } from "viem";

/** An id or address, so short that a row has room for it, and long enough to find it again. */
export function shortHex(hex: string): string {
	return `${hex.slice(0, 8)}…${hex.slice(-4)}`;
}

/** A length of time, to within its largest unit. */
export function duration(seconds: number): string {
	const whole = Math.max(0, Math.floor(seconds));
	if (whole < 120) return `${whole} s`;
	if (whole < 7_200) return `${Math.floor(whole / 60)} min`;
	if (whole < 172_800) return `${Math.floor(whole / 3_600)} h`;
	return `${Math.floor(whole / 86_400)} d`;
}

/** A moment in ISO 8601, UTC. */
export function moment(unixMs: number): string {
	return new Date(unixMs).toISOString();
}

export function coins(wei: bigint): string {
	return `${formatEther(wei)} of the native coin`;
}

export function gwei(wei: bigint): string {
	return `${formatGwei(wei)} gwei`;
}
