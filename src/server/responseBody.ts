/**
 * A response's body, begun: `whole` where all of it was there at once (a text, a JSON value, nothing), `stream` where it
 * goes on, `withdrawn` where the client left before it began. `stream` gives all of it, from the first byte on.
 */
export type Opened =
	| Readonly<{ kind: "whole"; bytes: Uint8Array<ArrayBuffer> }>
	| Readonly<{ kind: "stream"; stream: ReadableStream<Uint8Array> }>
	| Readonly<{ kind: "withdrawn" }>;

/** A handler's response can't be sent: its fate is not known before it is paid for. */
export class UnsendableResponseError extends TypeError {
	override readonly name = "UnsendableResponseError";
	readonly code = "UNSENDABLE_RESPONSE";
}

/** The most pieces that a body which is there at once is put together from. */
const MAX_PIECES = 1_024;

/**
 * Reads a body until it is known how it goes on. Of one that does not end at once, nothing more is waited for than its first
 * byte.
 *
 * @param maxBytes of a longer body it is of no interest whether it is whole
 * @param maxPieces nor of one in more pieces; no more are read ahead
 * @throws what the body fails with before its first byte
 */
export async function openBody(
	{ body }: Response,
	signal: AbortSignal,
	maxBytes: number,
	maxPieces = MAX_PIECES,
): Promise<Opened> {
	if (signal.aborted) {
		await body?.cancel().catch(() => undefined);
		return { kind: "withdrawn" };
	}
	if (body === null) return { kind: "whole", bytes: new Uint8Array() };
	const reader = body.getReader();
	const left = aborted(signal);
	try {
		const first = await Promise.race([firstBytes(reader), left.promise]);
		if (first === ABORTED) {
			await reader.cancel().catch(() => undefined);
			return { kind: "withdrawn" };
		}
		return first === undefined
			? { kind: "whole", bytes: new Uint8Array() }
			: await rest(reader, first, maxBytes, maxPieces);
	} finally {
		left.stop();
	}
}

type Reader = ReadableStreamDefaultReader<Uint8Array>;
type Read = ReadableStreamReadResult<Uint8Array>;

async function firstBytes(reader: Reader): Promise<Uint8Array | undefined> {
	for (;;) {
		const { done, value } = await reader.read();
		if (done) return undefined;
		if (!(value instanceof Uint8Array))
			throw new UnsendableResponseError("a response's body must be a stream of Uint8Array");
		if (value.byteLength > 0) return value;
	}
}

async function rest(reader: Reader, first: Uint8Array, maxBytes: number, maxPieces: number): Promise<Opened> {
	const pieces = [first];
	let length = first.byteLength;
	const later = nextTask();
	while (length <= maxBytes && pieces.length < maxPieces) {
		const pending = reader.read();
		// Its failure belongs to whoever reads the stream.
		pending.catch(() => undefined);
		const read = await Promise.race([pending, later]).catch((): typeof LATER => LATER);
		if (read === LATER) return { kind: "stream", stream: rejoined(pieces, pending, reader) };
		if (read.done) return { kind: "whole", bytes: joined(pieces, length) };
		pieces.push(read.value);
		length += read.value.byteLength;
	}
	return { kind: "stream", stream: rejoined(pieces, undefined, reader) };
}

const LATER: unique symbol = Symbol("later");

/** After everything that is ready now: a body that was given whole has ended by then. */
function nextTask(): Promise<typeof LATER> {
	return new Promise((resolve) => setTimeout(() => resolve(LATER), 0));
}

const ABORTED = Symbol("aborted");

function aborted(signal: AbortSignal): Readonly<{ promise: Promise<typeof ABORTED>; stop(): void }> {
	const { promise, resolve } = Promise.withResolvers<typeof ABORTED>();
	const abort = () => resolve(ABORTED);
	signal.addEventListener("abort", abort);
	return { promise, stop: () => signal.removeEventListener("abort", abort) };
}

function joined(pieces: readonly Uint8Array[], length: number): Uint8Array<ArrayBuffer> {
	const bytes = new Uint8Array(length);
	let at = 0;
	for (const piece of pieces) {
		bytes.set(piece, at);
		at += piece.byteLength;
	}
	return bytes;
}

/** What was read already, and then the rest. */
function rejoined(read: Uint8Array[], pending: Promise<Read> | undefined, reader: Reader): ReadableStream<Uint8Array> {
	let next = pending;
	return new ReadableStream({
		async pull(controller) {
			const piece = read.shift();
			if (piece !== undefined) return controller.enqueue(piece);
			const result = await (next ?? reader.read());
			next = undefined;
			if (result.done) controller.close();
			else controller.enqueue(result.value);
		},
		cancel: (reason) => reader.cancel(reason),
	});
}

/** Header fields as a retry gets them again; `Set-Cookie` may stand several times. */
export function remember(headers: Headers): [string, string | readonly string[]][] {
	const cookies = headers.getSetCookie();
	const others = [...headers].filter(([name]) => name !== "set-cookie");
	return cookies.length === 0 ? others : [...others, ["set-cookie", cookies]];
}
