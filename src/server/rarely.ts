/**
 * Runs what it is given at once, and leaves it out while less than `ms` have passed since it ran last. For what would fill a
 * log. A clock that was set back ends the wait.
 *
 * @param now Unix milliseconds
 * @example
 * const tell = rarely(60_000, Date.now);
 * tell(() => log.warn({}, "the node does not answer"));
 */
export function rarely(ms: number, now: () => number): (work: () => void) => void {
	let ranAt = Number.NEGATIVE_INFINITY;
	return (work) => {
		const passed = now() - ranAt;
		if (passed >= 0 && passed < ms) return;
		ranAt = now();
		work();
	};
}
