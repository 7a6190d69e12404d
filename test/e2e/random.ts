/** A small generator of numbers from 0 to 1, so that a failed run can be run again (mulberry32). */
export function random(seed: number): () => number {
	let state = seed;
	return () => {
		state = (state + 0x6d2b79f5) | 0;
		let t = Math.imul(state ^ (state >>> 15), 1 | state);
		t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
		return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
	};
}

/** The seed of this run: `SLUICE_SEED`, or a new one. */
export function seedOfThisRun(): number {
	const given = process.env.SLUICE_SEED;
	return given === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(given);
}
