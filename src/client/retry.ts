import pRetry, { AbortError } from "p-retry";

export type RetryOptions = Readonly<{
	/** How often a request is sent again when the connection fails or the server asks for it (default 5). */
	retries?: number;
	/** The first pause in ms, doubled each time and jittered (default 200). */
	minDelayMs?: number;
	/** The longest pause in ms (default 5,000). */
	maxDelayMs?: number;
	/**
	 * How long one request may take in ms until its answer begins, with its tries, pauses and payments. Then it ends with a
	 * `DeadlineError`. Default: as long as they take.
	 */
	deadlineMs?: number;
}>;

/** The server asks to come back: 409, 425, 429 or 503 with `Retry-After`. */
class ComeBack extends Error {
	readonly response: Response;
	readonly afterMs: number;
	constructor(response: Response, afterMs: number) {
		super("the server asks to come back later");
		this.response = response;
		this.afterMs = afterMs;
	}
}

const COME_BACK = new Set([409, 425, 429, 503]);

/**
 * Sends a request, again after a broken connection and when the server asks for it with `Retry-After`. Safe for paid
 * requests because each carries its `Idempotency-Key`: a lost answer never means a second price (I6). When all tries are
 * used up the last answer is handed on.
 */
export async function sendWithRetries(
	send: () => Promise<Response>,
	retryAfterMs: (response: Response) => number | undefined,
	{ retries = 5, minDelayMs = 200, maxDelayMs = 5_000, signal }: RetryOptions & Readonly<{ signal?: AbortSignal }>,
): Promise<Response> {
	const attempt = async () => {
		let response: Response;
		try {
			response = await send();
		} catch (error) {
			// The caller's own abort is final; all else is a broken connection.
			throw signal?.aborted
				? new AbortError(error instanceof Error ? error : new Error(String(error)))
				: new LostConnection(error);
		}
		const afterMs = COME_BACK.has(response.status) ? retryAfterMs(response) : undefined;
		if (afterMs === undefined) return response;
		throw new ComeBack(response, afterMs);
	};
	try {
		return await pRetry(attempt, {
			retries,
			minTimeout: Math.min(minDelayMs, maxDelayMs),
			maxTimeout: maxDelayMs,
			randomize: true,
			...(signal && { signal }),
			onFailedAttempt: async ({ error, retriesLeft }) => {
				if (!(error instanceof ComeBack) || retriesLeft <= 0) return;
				discard(error.response);
				await pause(error.afterMs, signal);
			},
		});
	} catch (error) {
		if (error instanceof ComeBack) return error.response;
		if (error instanceof LostConnection) throw error.cause;
		throw error;
	}
}

/** Lets go of an answer that nobody will read, and so of its connection. */
export function discard(response: Response | undefined): void {
	response?.body?.cancel().catch(() => undefined);
}

/** Waits, but not longer than the caller does: resolves at once when that is aborted. */
export function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
	return new Promise((resolve) => {
		const end = () => {
			clearTimeout(timer);
			signal?.removeEventListener("abort", end);
			resolve();
		};
		const timer = setTimeout(end, ms);
		if (signal?.aborted) end();
		else signal?.addEventListener("abort", end);
	});
}

/** p-retry gives up on a TypeError that it does not know; every failed `fetch` is one. */
class LostConnection extends Error {
	constructor(cause: unknown) {
		super("the connection failed", { cause });
	}
}
