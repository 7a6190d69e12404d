/** Answers of undici's dispatchers, in terms of the platform's. */
import type { IncomingHttpHeaders } from "node:http";
import type { Dispatcher } from "undici";

/** Statuses whose answers have no body. */
const BODILESS = new Set([204, 205, 304]);

/** The longest rest of an answer that is read for nothing, so that its connection can be used again, in bytes. */
const MAX_DUMPED_BYTES = 65_536;

/** Names and values as they came. */
export type RawFields = Exclude<Dispatcher.DispatchController["rawHeaders"], undefined>;

/** An answer as it came, as far as the platform's `Response` can't tell it. */
export type RawAnswer = {
	readonly statusCode: number;
	readonly statusMessage: string;
	readonly headers: IncomingHttpHeaders;
	readonly rawHeaders: RawFields;
	/** There when the body has ended. */
	trailers?: IncomingHttpHeaders;
	rawTrailers?: RawFields;
};

/** The answer came in a form that no `Response` has. */
export class OddAnswerError extends Error {
	override readonly name = "OddAnswerError";
	readonly code = "ODD_ANSWER";
	constructor(statusCode: number, cause: unknown) {
		super(`the answer with status ${statusCode} can't be read; send this request without the payer`, { cause });
	}
}

/**
 * Sends by a dispatcher, as it is told: no redirects, no decoding, no fields of its own. Bytes come as fast as they are read.
 *
 * @param onAnswer - told of the answer before it is resolved to
 */
export function sendBy(
	dispatch: Dispatcher.Dispatch,
	options: Dispatcher.DispatchOptions,
	signal: AbortSignal,
	onAnswer: (response: Response, raw: RawAnswer) => void,
): Promise<Response> {
	return new Promise((resolve, reject) => {
		signal.throwIfAborted();
		dispatch(options, new AnswerHandler(options.method, signal, { resolve, reject, onAnswer }));
	});
}

type Outcome = Readonly<{
	resolve: (response: Response) => void;
	reject: (error: unknown) => void;
	onAnswer: (response: Response, raw: RawAnswer) => void;
}>;

class AnswerHandler implements Dispatcher.DispatchHandler {
	readonly #method: string;
	readonly #signal: AbortSignal;
	readonly #outcome: Outcome;
	readonly #onAbort = () => this.#connection?.abort(this.#signal.reason);
	#connection: Dispatcher.DispatchController | undefined;
	#body: ReadableStreamDefaultController<Uint8Array> | undefined;
	#raw: RawAnswer | undefined;
	/** How many bytes are still to come, where that is known. */
	#left: number | undefined;
	#isDumped = false;

	constructor(method: string, signal: AbortSignal, outcome: Outcome) {
		this.#method = method;
		this.#signal = signal;
		this.#outcome = outcome;
		signal.addEventListener("abort", this.#onAbort);
	}

	onRequestStart(controller: Dispatcher.DispatchController): void {
		this.#connection = controller;
		if (this.#signal.aborted) this.#onAbort();
	}

	onResponseStart(
		controller: Dispatcher.DispatchController,
		statusCode: number,
		headers: IncomingHttpHeaders,
		statusMessage = "",
	): void {
		// What comes before the answer is about one try alone.
		if (statusCode < 200) return;
		const raw: RawAnswer = { statusCode, statusMessage, headers, rawHeaders: controller.rawHeaders ?? null };
		this.#raw = raw;
		const length = headers["content-length"];
		this.#left = length === undefined ? undefined : Number(length);
		const hasBody = this.#method !== "HEAD" && !BODILESS.has(statusCode);
		try {
			const init = { status: statusCode, statusText: latin1(statusMessage), headers: platformHeaders(headers) };
			const response = new Response(hasBody ? this.#openBody(controller) : null, init);
			this.#outcome.onAnswer(response, raw);
			this.#outcome.resolve(response);
		} catch (error) {
			controller.abort(new OddAnswerError(statusCode, error));
		}
	}

	onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
		if (this.#left !== undefined) this.#left -= chunk.byteLength;
		// A parser that goes on tells of no bytes first: to pause it for those would be to turn in a circle.
		if (this.#isDumped || this.#body === undefined || chunk.byteLength === 0) return;
		this.#body.enqueue(chunk);
		if ((this.#body.desiredSize ?? 0) <= 0) controller.pause();
	}

	onResponseEnd(controller: Dispatcher.DispatchController, trailers: IncomingHttpHeaders): void {
		this.#signal.removeEventListener("abort", this.#onAbort);
		if (this.#raw !== undefined) {
			this.#raw.trailers = trailers;
			this.#raw.rawTrailers = controller.rawTrailers ?? null;
		}
		if (!this.#isDumped) this.#body?.close();
	}

	onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
		this.#signal.removeEventListener("abort", this.#onAbort);
		this.#outcome.reject(error);
		if (!this.#isDumped) this.#body?.error(error);
	}

	#openBody(connection: Dispatcher.DispatchController): ReadableStream<Uint8Array> {
		return new ReadableStream<Uint8Array>(
			{
				start: (body) => {
					this.#body = body;
					connection.pause();
				},
				pull: () => connection.resume(),
				cancel: (reason) => {
					this.#isDumped = true;
					if (this.#left !== undefined && this.#left <= MAX_DUMPED_BYTES) connection.resume();
					else
						connection.abort(reason instanceof Error ? reason : new DOMException("not read to its end", "AbortError"));
				},
			},
			{ highWaterMark: 0 },
		);
	}
}

function platformHeaders(headers: IncomingHttpHeaders): Headers {
	const all = new Headers();
	for (const [name, value = []] of Object.entries(headers))
		for (const one of Array.isArray(value) ? value : [value]) all.append(name, latin1(one));
	return all;
}

/** A text that was read as UTF-8, as the platform has its bytes. */
function latin1(text: string): string {
	return Buffer.from(text, "utf8").toString("latin1");
}
