/**
 * A response's body, begun: `whole` where all of it was there at once (a text, a JSON value, nothing), `stream` where it
 * goes on, `withdrawn` where the client left before it began. `stream` gives all of it, from the first byte on.
 */
export type Opened =
	| Readonly<{ kind: "whole"; bytes: Uint8Array; stream: ReadableStream<Uint8Array> | null }>
	| Readonly<{ kind: "stream"; stream: ReadableStream<Uint8Array> }>
	| Readonly<{ kind: "withdrawn" }>;

/**
 * Reads a body until it is known how it goes on. Bodies that were given whole end right after their first chunk; for
 * anything that does not, nothing more is waited for than its beginning.
 *
 * @throws what the body fails with before its first byte
 */
export async function openBody({ body }: Response, signal: AbortSignal): Promise<Opened> {
	if (signal.aborted) {
		await body?.cancel().catch(() => undefined);
		return { kind: "withdrawn" };
	}
	if (body === null) return { kind: "whole", bytes: new Uint8Array(), stream: null };
	const reader = (body as ReadableStream<Uint8Array>).getReader();
	const first = await orAborted(reader.read(), signal);
	if (first === ABORTED) {
		await reader.cancel().catch(() => undefined);
		return { kind: "withdrawn" };
	}
	if (first.done) return { kind: "whole", bytes: new Uint8Array(), stream: null };
	const second = reader.read();
	// Its failure belongs to whoever reads the stream.
	second.catch(() => undefined);
	const ended = await Promise.race([
		second.then(
			({ done }) => done,
			() => false,
		),
		nextTask(),
	]);
	if (!ended) return { kind: "stream", stream: rejoined([first.value], second, reader) };
	return { kind: "whole", bytes: first.value, stream: rejoined([first.value], undefined, reader) };
}

const ABORTED = Symbol("aborted");

/** After everything that is ready now: a body that was given whole has ended by then. */
function nextTask(): Promise<false> {
	return new Promise((resolve) => setTimeout(() => resolve(false), 0));
}

function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | typeof ABORTED> {
	const { promise: aborted, resolve } = Promise.withResolvers<typeof ABORTED>();
	const abort = () => resolve(ABORTED);
	signal.addEventListener("abort", abort);
	return Promise.race([promise, aborted]).finally(() => signal.removeEventListener("abort", abort));
}

type Read = ReadableStreamReadResult<Uint8Array>;

/** What was read already, and then the rest. */
function rejoined(
	read: Uint8Array[],
	pending: Promise<Read> | undefined,
	reader: ReadableStreamDefaultReader<Uint8Array>,
): ReadableStream<Uint8Array> {
	let next = pending;
	return new ReadableStream({
		async pull(controller) {
			const chunk = read.shift();
			if (chunk !== undefined) return controller.enqueue(chunk);
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
