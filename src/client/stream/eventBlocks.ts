import { createParser, type EventSourceMessage } from "eventsource-parser";
import type { StreamEvent } from "./options.ts";

/** The longest event that is held back to be looked at; a longer one is handed on unseen, and is no event of a payment. */
const MAX_HELD_BYTES = 1_048_576;

const LF = 10;
const CR = 13;

/** Bytes of an event stream up to and with the blank line that ends an event, and that event if there is one. */
export type EventBlock = Readonly<{
	bytes: Uint8Array;
	event: StreamEvent | undefined;
	/** Whether an event ends here, also one that was too long to be looked at. */
	isEvent: boolean;
}>;

/**
 * Cuts an event stream where its events end, wherever its chunks do. All bytes come out again, in their order: an event can be
 * left out, and the others stay as they were, byte for byte.
 */
export class EventBlocks {
	readonly #decoder = new TextDecoder();
	readonly #parser = createParser({
		onEvent: (message) => {
			this.#parsed = message;
		},
		onRetry: (ms) => {
			this.#retry = ms;
		},
	});
	/** Of the block that has begun, from earlier chunks. */
	#held: Uint8Array[] = [];
	#heldBytes = 0;
	/** The block that has begun is too long: its beginning was handed on. */
	#isOversized = false;
	#isLineEmpty = true;
	/** The last byte was a carriage return: a line feed now belongs to it. */
	#afterReturn = false;
	/** The last block ended with that carriage return: the line feed is its own. */
	#afterBlock: EventBlock | undefined;
	#parsed: EventSourceMessage | undefined;
	#retry: number | undefined;

	/** The blocks that end in this chunk; what is left of it is held until the next one. */
	feed(chunk: Uint8Array): readonly EventBlock[] {
		const blocks: EventBlock[] = [];
		let start = 0;
		for (let at = 0; at < chunk.length; at++) {
			const byte = chunk[at];
			if (byte === LF && this.#afterReturn) {
				this.#afterReturn = false;
				if (this.#afterBlock !== undefined) {
					blocks.push({ ...this.#afterBlock, bytes: chunk.subarray(at, at + 1), isEvent: false });
					start = at + 1;
				}
				this.#afterBlock = undefined;
				continue;
			}
			this.#afterBlock = undefined;
			this.#afterReturn = byte === CR;
			if (byte !== LF && byte !== CR) {
				this.#isLineEmpty = false;
				continue;
			}
			if (!this.#isLineEmpty) {
				this.#isLineEmpty = true;
				continue;
			}
			const block = this.#block(chunk.subarray(start, at + 1));
			blocks.push(block);
			start = at + 1;
			if (byte === CR) this.#afterBlock = block;
		}
		if (start < chunk.length) blocks.push(...this.#hold(chunk.subarray(start)));
		return blocks;
	}

	/** What the stream ends with though no blank line came: no event (WHATWG HTML, Server-sent events). */
	end(): Uint8Array {
		return this.#takeHeld();
	}

	#block(last: Uint8Array): EventBlock {
		this.#held.push(last);
		const bytes = this.#takeHeld();
		if (this.#isOversized) {
			this.#isOversized = false;
			return { bytes, event: undefined, isEvent: true };
		}
		const event = this.#parse(bytes);
		return { bytes, event, isEvent: event !== undefined };
	}

	#parse(bytes: Uint8Array): StreamEvent | undefined {
		if (bytes.length <= 2) return undefined;
		this.#parsed = undefined;
		// One kind of line break: a parser can't know whether more follows a carriage return.
		this.#parser.feed(this.#decoder.decode(bytes).replace(/\r\n?/g, "\n"));
		// The callback has set it meanwhile.
		const parsed = this.#parsed as EventSourceMessage | undefined;
		if (parsed === undefined) return undefined;
		const { event = "message", data, id } = parsed;
		const retry = this.#retry;
		this.#retry = undefined;
		return { event, data, ...(id !== undefined && { id }), ...(retry !== undefined && { retry }) };
	}

	#hold(bytes: Uint8Array): readonly EventBlock[] {
		if (!this.#isOversized && this.#heldBytes + bytes.length <= MAX_HELD_BYTES) {
			this.#held.push(bytes);
			this.#heldBytes += bytes.length;
			return [];
		}
		this.#isOversized = true;
		this.#held.push(bytes);
		return [{ bytes: this.#takeHeld(), event: undefined, isEvent: false }];
	}

	#takeHeld(): Uint8Array {
		const bytes = joined(this.#held);
		this.#held = [];
		this.#heldBytes = 0;
		return bytes;
	}
}

/** Parts in a row. */
export function joined(parts: readonly Uint8Array[]): Uint8Array {
	const [only] = parts;
	if (parts.length === 1 && only !== undefined) return only;
	const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
	let at = 0;
	for (const part of parts) {
		bytes.set(part, at);
		at += part.length;
	}
	return bytes;
}
