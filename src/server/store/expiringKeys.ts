/**
 * Which records of a kind that expires may be on disk. Nearly every request brings an `Idempotency-Key` that is new, and to look
 * for a record that is not there costs more than the look: LevelDB sorts what it had to look through.
 *
 * Bloom filters, one for each few hours in which its records expire, so that one can be let go when all of them have. A record
 * that is there is never missed; of two million in one period, one look in six for one that is not there is made for nothing.
 */

/** Records that expire within one period share a filter. */
const PERIOD_MS = 3 * 3_600_000;

/** A MiB each. Of those beyond them the earliest two become one. */
const MOST_FILTERS = 16;
const BITS = 2 ** 23;
const BITS_OF_A_KEY = 4;

/** Of a key's last characters, so many are looked at. Ours end with a hash: they are as good as all of them. */
const TOLD_BY = 16;

export class ExpiringKeys {
	readonly #filters = new Map<number, Uint32Array>();
	#isComplete = false;

	/** How many filters there are. */
	get filters(): number {
		return this.#filters.size;
	}

	/** A record that expires at `expiresAt`, in Unix milliseconds, is on disk or is about to be written there. */
	add(key: string, expiresAt: number): void {
		const bits = this.#filterOf(Math.floor(expiresAt / PERIOD_MS));
		const { first, step } = hashOf(key);
		for (let n = 0; n < BITS_OF_A_KEY; n++) {
			const bit = bitOf(first, step, n);
			bits[bit >>> 5] = (bits[bit >>> 5] ?? 0) | (1 << (bit & 31));
		}
		if (this.#filters.size > MOST_FILTERS) this.#merge();
	}

	/** Whatever was on disk before this process has written anything has been added. */
	complete(): void {
		this.#isComplete = true;
	}

	/** `false`: it is certainly not on disk. */
	mayHave(key: string): boolean {
		if (!this.#isComplete) return true;
		const { first, step } = hashOf(key);
		for (const bits of this.#filters.values()) if (hasAll(bits, first, step)) return true;
		return false;
	}

	/** What expired before `now` has been deleted. */
	deleted(now: number): void {
		for (const period of this.#filters.keys()) if ((period + 1) * PERIOD_MS <= now) this.#filters.delete(period);
	}

	#filterOf(period: number): Uint32Array {
		let bits = this.#filters.get(period);
		if (bits === undefined) {
			bits = new Uint32Array(BITS / 32);
			this.#filters.set(period, bits);
		}
		return bits;
	}

	/** The earliest into the next one, which is let go later. */
	#merge(): void {
		const [earliest = 0, next = 0] = [...this.#filters.keys()].sort((a, b) => a - b);
		const from = this.#filters.get(earliest);
		const into = this.#filters.get(next);
		if (from === undefined || into === undefined) return;
		for (const [at, word] of from.entries()) into[at] = (into[at] ?? 0) | word;
		this.#filters.delete(earliest);
	}
}

function hasAll(bits: Uint32Array, first: number, step: number): boolean {
	for (let n = 0; n < BITS_OF_A_KEY; n++) {
		const bit = bitOf(first, step, n);
		if (((bits[bit >>> 5] ?? 0) & (1 << (bit & 31))) === 0) return false;
	}
	return true;
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
