/**
 * Resolves when all of these have ended, well or not, and after `ms` at the latest. Until then the process is kept alive.
 */
export async function within(ms: number, work: readonly (Promise<unknown> | undefined)[]): Promise<void> {
	const { promise: over, resolve } = Promise.withResolvers<void>();
	const timer = setTimeout(resolve, ms);
	await Promise.race([Promise.allSettled(work), over]);
	clearTimeout(timer);
}

/** How long a stop waits, also after its deadline, for what was told to end, in ms. */
export const STOP_GRACE_MS = 1_000;
