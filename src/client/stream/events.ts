import { IDEMPOTENCY_KEY } from "../../protocol/index.ts";
import { pause, type RetryOptions } from "../retry.ts";
import { StreamBrokenError, StreamRefusedError } from "./errors.ts";
import { EventBlocks } from "./eventBlocks.ts";
import { isLostConnection } from "./lost.ts";
import type { StreamEvent } from "./options.ts";
import { isEventStream } from "./paidBody.ts";

export type StreamParts = Readonly<{
	/** A `fetch` that pays, and whose body pays for itself. */
	fetch: (request: Request) => Promise<Response>;
	retry: RetryOptions;
}>;

/**
 * Reads a stream event by event, over as many connections as it takes: a new one begins where the last one broke off (WHATWG
 * HTML, Server-sent events), as the same request. One that broke off twice in a row without an event in between is given up
 * after as many tries as any request gets.
 */
export async function* streamEvents(
	{ fetch, retry }: StreamParts,
	plain: Request,
): AsyncGenerator<StreamEvent, void, undefined> {
	const { retries = 5, minDelayMs = 200, maxDelayMs = 5_000 } = retry;
	const { signal } = plain;
	const body = plain.body === null ? undefined : await plain.blob();
	const headers = new Headers(plain.headers);
	if (!headers.has("accept")) headers.set("Accept", "text/event-stream");
	if (!headers.has(IDEMPOTENCY_KEY)) headers.set(IDEMPOTENCY_KEY, crypto.randomUUID());
	let delayMs = minDelayMs;
	let hasEvents = false;
	for (let failures = 0; ; failures++) {
		let response: Response | undefined;
		try {
			response = await fetch(new Request(plain, { headers, ...(body !== undefined && { body }) }));
			if (!response.ok || !isEventStream(response)) throw new StreamRefusedError(response);
			for await (const event of eventsOf(response)) {
				failures = 0;
				hasEvents = true;
				if (event.retry !== undefined) delayMs = event.retry;
				if (event.id !== undefined) setLastEventId(headers, event.id);
				yield event;
			}
			return;
		} catch (error) {
			if (signal.aborted || response === undefined || error instanceof StreamRefusedError) throw error;
			if (!isLostConnection(error) || error instanceof StreamBrokenError) throw error;
			if (hasEvents && !headers.has(LAST_EVENT_ID))
				throw new StreamBrokenError("and its events have no ids to go on from", error);
			if (failures >= retries) throw new StreamBrokenError(`${failures + 1} times in a row`, error);
		}
		const most = Math.min(Math.max(delayMs, 0) * 2 ** failures, maxDelayMs);
		await pause(most * (0.5 + Math.random() / 2), signal);
		signal.throwIfAborted();
	}
}

/** The events of one answer. Whoever leaves the loop cancels its body, and so stops paying. */
async function* eventsOf({ body }: Response): AsyncGenerator<StreamEvent, void, undefined> {
	const reader = body?.getReader();
	const blocks = new EventBlocks();
	try {
		for (;;) {
			const { value } = (await reader?.read()) ?? {};
			if (value === undefined) return;
			for (const { event, isEvent } of blocks.feed(value)) {
				if (event !== undefined && isEvent) yield event;
				else if (isEvent) throw new StreamBrokenError("at an event that is too long to be kept", undefined);
			}
		}
	} finally {
		reader?.cancel().catch(() => undefined);
	}
}

const LAST_EVENT_ID = "Last-Event-ID";

/** An id that no header can carry stands for none. */
function setLastEventId(headers: Headers, id: string): void {
	headers.delete(LAST_EVENT_ID);
	if (/^[\x20-\x7e]+$/.test(id)) headers.set(LAST_EVENT_ID, id);
}
