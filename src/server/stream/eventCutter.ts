/** The longest event that is put together from several pieces, in bytes. */
const MAX_EVENT_BYTES = 8 * 1_024 * 1_024;

/** An event of a metered stream does not end: it can neither be paid for nor be interrupted. */
export class EventTooLongError extends Error {
	override readonly name = "EventTooLongError";
	readonly code = "EVENT_TOO_LONG";
	constructor() {
		super(
			`an event of a metered stream has no end within ${MAX_EVENT_BYTES} bytes; end each with an empty line, or answer with another content type than text/event-stream`,
		);
	}
}

const LF = 10;
const CR = 13;

/**
 * Cuts a stream of Server-Sent Events behind each event's empty line, byte for byte as it came (HTML, 9.2.5): between two
 * of its blocks is where another event can be put.
 */
export class EventCutter {
	readonly #held: Uint8Array[] = [];
	#heldBytes = 0;
	#isLineEmpty = true;
	#isAfterCr = false;
	#hasJustEnded = false;

	/**
	 * What has become complete with these bytes, a block for each event.
	 *
	 * @throws EventTooLongError
	 */
	push(bytes: Uint8Array): Uint8Array[] {
		const blocks: Uint8Array[] = [];
		let from = 0;
		for (const end of this.#ends(bytes)) {
			blocks.push(this.#joined(bytes.subarray(from, end)));
			from = end;
		}
		if (from < bytes.length) {
			this.#held.push(bytes.subarray(from));
			this.#heldBytes += bytes.length - from;
			if (this.#heldBytes > MAX_EVENT_BYTES) throw new EventTooLongError();
		}
		return blocks;
	}

	/** Whether it stands between two events: a whole one that comes then is a block as it is, and needs no cutting. */
	get isBetween(): boolean {
		return this.#held.length === 0 && this.#isLineEmpty;
	}

	/** A whole event went by, its empty line included, while it stood between two. */
	passed(): void {
		this.#isAfterCr = false;
		this.#hasJustEnded = true;
	}

	/** What is left of a stream that has ended: an event without its empty line. */
	rest(): Uint8Array {
		return this.#joined(new Uint8Array());
	}

	#ends(bytes: Uint8Array): number[] {
		const ends: number[] = [];
		for (let at = 0; at < bytes.length; at++) {
			const byte = bytes[at];
			if (byte === LF && this.#isAfterCr) {
				this.#isAfterCr = false;
				if (!this.#hasJustEnded) continue;
				// The second half of the line break that ended the event.
				if (ends.at(-1) === at) ends.pop();
				ends.push(at + 1);
				continue;
			}
			const isBreak = byte === LF || byte === CR;
			this.#isAfterCr = byte === CR;
			this.#hasJustEnded = isBreak && this.#isLineEmpty;
			this.#isLineEmpty = isBreak;
			if (this.#hasJustEnded) ends.push(at + 1);
		}
		return ends;
	}

	#joined(last: Uint8Array): Uint8Array {
		if (this.#held.length === 0) return last;
		const block = Buffer.concat([...this.#held, last]);
		this.#held.length = 0;
		this.#heldBytes = 0;
		return block;
	}
}
