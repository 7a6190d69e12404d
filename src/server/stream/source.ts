import type { Piece } from "./events.ts";

/** Where the pieces of an answer come from: each is made when it is asked for, one after the other. */
export type PieceSource = Readonly<{
	/** Rejects or throws where that fails. */
	next(): Promise<IteratorResult<unknown, unknown>>;
	/** Of a piece that was made before `next` gave it: what was charged by then, once it is paid for. */
	paid?(): Promise<bigint> | bigint | undefined;
	/** Lets go of it: whoever feeds it may stop, also while a piece is being made. Never throws. */
	cancel(reason: unknown): void;
}>;

/** What a metered handler may return in place of a whole answer, besides streams. */
export function isPieces(value: unknown): value is AsyncIterable<Piece> {
	if (typeof value !== "object" || value === null || value instanceof Uint8Array) return false;
	if (!(Symbol.asyncIterator in value) || typeof value[Symbol.asyncIterator] !== "function") return false;
	// Streams are taken as streams, though most of them can be iterated.
	return !("pipe" in value || "getReader" in value);
}

export function fromPieces(pieces: AsyncIterable<Piece>): PieceSource {
	const iterator = pieces[Symbol.asyncIterator]();
	return {
		next: () => iterator.next(),
		// A generator ends where it stands; one that is at work ends when it comes to its next piece. Nobody waits for that.
		cancel: () => quietly(() => iterator.return?.()),
	};
}

/** A Web stream, or whatever has its reader. */
export function fromReader(stream: Pick<ReadableStream<unknown>, "getReader">): PieceSource {
	const reader = stream.getReader();
	return {
		next: () => reader.read() as Promise<IteratorResult<unknown, unknown>>,
		cancel: (reason) => quietly(() => reader.cancel?.(reason)),
	};
}

function quietly(work: () => unknown): void {
	void (async () => work())().catch(() => undefined);
}
