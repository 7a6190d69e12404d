/**
 * Which records of a kind that expires may be on disk. Nearly every request brings an `Idempotency-Key` that is new, and to look
 * for a record that is not there costs more than the look: LevelDB merges what it had to look through.
 *
 * Bloom filters: one for each million keys that were there before, and of what is written since one for each few hours in which it
 * expires, so that a filter can be let go when all of it has. A record that is there is never missed; the fuller the filters, the
 * more of those that are not there are looked for all the same. Of a server that keeps answers for a day and takes 100 requests with
 * a key each second, day and night, that is one in 40, and one in 24 after a restart; with 200 one in five, or in four; with 500 nearly all, as if
 * there were no filters.
 */

/** At first. Where records expire in more than `MOST_FILTERS` periods, periods become twice as long. */
const FIRST_PERIOD_MS = 3 * 3_600_000;

/** 2 MiB each; so many for what was there before, and for what is written since. */
const MOST_FILTERS = 16;
const LEARNED_BY_EACH = 1_000_000;
const BITS = 2 ** 24;
const BITS_OF_A_KEY = 4;

/** Of a key's last characters, so many are looked at. Ours end with a hash: they are as good as all of them. */
const TOLD_BY = 16;

export class ExpiringKeys {
	/** What was on disk when it was opened, whenever it expires: the last one is being filled. */
	readonly #before: Uint32Array[] = [];
	#learned = 0;
	#knowsBefore = false;
	#periodMs = FIRST_PERIOD_MS;
	/** What was written since, by the number of the period in which it expires. */
	#filters = new Map<number, Uint32Array>();

	/** A record that may be on disk, and whose end is not known: it is not forgotten. */
	learn(key: string): void {
		if (this.#learned++ % LEARNED_BY_EACH === 0 && this.#before.length < MOST_FILTERS) this.#before.push(emptyFilter());
		const filling = this.#before.at(-1);
		if (filling !== undefined) enter(filling, key);
	}

	/** Whatever was on disk when it was opened has been learned. */
	complete(): void {
		this.#knowsBefore = true;
	}

	/** A record that expires at `expiresAt`, in Unix milliseconds, is about to be written. */
	add(key: string, expiresAt: number): void {
		const period = Math.floor(expiresAt / this.#periodMs);
		let filter = this.#filters.get(period);
		if (filter === undefined) {
			filter = emptyFilter();
			this.#filters.set(period, filter);
		}
		enter(filter, key);
		while (this.#filters.size > MOST_FILTERS) this.#lengthen();
	}

	/** `false`: it is certainly not on disk. */
	mayHave(key: string): boolean {
		if (!this.#knowsBefore) return true;
		const { first, step } = hashOf(key);
		for (const filter of this.#before) if (has(filter, first, step)) return true;
		for (const filter of this.#filters.values()) if (has(filter, first, step)) return true;
		return false;
	}

	/** What expired before `now` is not on disk any more, but for what was damaged and is learned. */
	deleted(now: number): void {
		for (const period of this.#filters.keys()) if ((period + 1) * this.#periodMs <= now) this.#filters.delete(period);
	}

	/** Two periods become one. */
	#lengthen(): void {
		const longer = new Map<number, Uint32Array>();
		for (const [period, filter] of this.#filters) {
			const both = Math.floor(period / 2);
			const other = longer.get(both);
			if (other === undefined) longer.set(both, filter);
			else unite(other, filter);
		}
		this.#filters = longer;
		this.#periodMs *= 2;
	}
}

function emptyFilter(): Uint32Array {
	return new Uint32Array(BITS / 32);
}

function enter(filter: Uint32Array, key: string): void {
	const { first, step } = hashOf(key);
	for (let n = 0; n < BITS_OF_A_KEY; n++) {
		const bit = bitOf(first, step, n);
		filter[bit >>> 5] = (filter[bit >>> 5] ?? 0) | (1 << (bit & 31));
	}
}

function has(filter: Uint32Array, first: number, step: number): boolean {
	for (let n = 0; n < BITS_OF_A_KEY; n++) {
		const bit = bitOf(first, step, n);
		if (((filter[bit >>> 5] ?? 0) & (1 << (bit & 31))) === 0) return false;
	}
	return true;
}

function unite(into: Uint32Array, from: Uint32Array): void {
	for (let at = 0; at < into.length; at++) into[at] = (into[at] ?? 0) | (from[at] ?? 0);
}

function bitOf(first: number, step: number, n: number): number {
	return (first + Math.imul(n, step)) & (BITS - 1);
}

function hashOf(key: string): Readonly<{ first: number; step: number }> {
	let first = 0x811c9dc5;
	let step = 0x9747b28c;
	for (let at = Math.max(0, key.length - TOLD_BY); at < key.length; at++) {
		const code = key.charCodeAt(at);
		first = Math.imul(first ^ code, 0x01000193);
		step = Math.imul(step ^ code, 0x85ebca6b);
	}
	return { first: first ^ (first >>> 15), step: (step ^ (step >>> 13)) | 1 };
}
