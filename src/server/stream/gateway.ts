import { createParser } from "eventsource-parser";
import { EventCutter } from "./eventCutter.ts";
import type { Meter } from "./meter.ts";
import { fromReader } from "./source.ts";

/** An event of an upstream, as it is priced. */
export type UpstreamEvent = Readonly<{ data: string; event?: string | undefined; id?: string | undefined }>;

/**
 * What an event costs: so many units more, nothing (`undefined`), or as much as brings all units of this request to
 * `total`, as an upstream that counts itself says at its end. What is charged already is never given back.
 */
export type EventPrice = number | bigint | undefined | Readonly<{ total: number | bigint }>;

/** Of an upstream's head, what its client gets as well; all else is between the two of them. */
const KEPT = ["content-type", "cache-control"];

/** Events of an upstream's own payment begin like this: its client would take them for those of ours. */
const PAYMENT_EVENT = "payment-";

/**
 * Sends an upstream's Server-Sent Events on, byte for byte, and meters them: each event leaves when its price is paid, and
 * is read when its reader asks for it. A client that leaves lets go of the upstream. Events about payments (`payment-…`) are
 * between the two of them as well: they are left out, and cost nothing.
 *
 * Of a `Response` status, content type and body go on; one from 400 on as it is, and free. Take care that it is an event
 * stream: in another body no event is found, so nothing is charged before its end.
 *
 * @param price Asked of each event before it leaves. What it throws ends the answer.
 * @throws EventTooLongError in the stream, where an event does not end
 * @example
 * // An OpenAI-compatible upstream: each event counts as one token until the last chunk says how many there were.
 * app.post("/v1/chat/completions", { config: { payment } }, async ({ payment, body }) => {
 *   const meter = meterOf(payment);
 *   const upstream = await fetch(`${UPSTREAM}/v1/chat/completions`, {
 *     method: "POST",
 *     headers: { "content-type": "application/json", authorization },
 *     body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
 *     signal: meter.signal,
 *   });
 *   return meterEvents(meter, upstream, ({ data }) => {
 *     if (data === "[DONE]") return undefined;
 *     const { usage } = JSON.parse(data);
 *     return usage ? { total: usage.total_tokens } : 1;
 *   });
 * });
 */
export function meterEvents(meter: Meter, upstream: Response, price: (event: UpstreamEvent) => EventPrice): Response;
export function meterEvents(
	meter: Meter,
	upstream: ReadableStream<Uint8Array>,
	price: (event: UpstreamEvent) => EventPrice,
): ReadableStream<Uint8Array<ArrayBuffer>>;
export function meterEvents(
	meter: Meter,
	upstream: Response | ReadableStream<Uint8Array>,
	price: (event: UpstreamEvent) => EventPrice,
): Response | ReadableStream<Uint8Array<ArrayBuffer>> {
	if ("getReader" in upstream) return metered(meter, upstream, price);
	const { status, body } = upstream;
	const headers = new Headers();
	for (const name of KEPT) {
		const value = upstream.headers.get(name);
		if (value !== null) headers.set(name, value);
	}
	const isMetered = body !== null && status < 400;
	return new Response(isMetered ? metered(meter, body, price) : body, { status, headers });
}

function metered(
	meter: Meter,
	upstream: ReadableStream<Uint8Array>,
	price: (event: UpstreamEvent) => EventPrice,
): ReadableStream<Uint8Array<ArrayBuffer>> {
	const source = fromReader(upstream);
	const blocks = pricedBlocks(source, price);
	return new ReadableStream<Uint8Array<ArrayBuffer>>(
		{
			async pull(controller) {
				try {
					const { done, value } = await blocks.next();
					if (done) return controller.close();
					for (const cost of value.costs) {
						if (typeof cost !== "object") await meter.charge(cost ?? 0);
						else if (BigInt(cost.total) > meter.units) await meter.charge(BigInt(cost.total) - meter.units);
					}
					controller.enqueue(value.bytes as Uint8Array<ArrayBuffer>);
				} catch (error) {
					source.cancel(error);
					throw error;
				}
			},
			cancel: (reason) => source.cancel(reason),
		},
		{ highWaterMark: 0 },
	);
}

/** Each event's bytes, with what it costs. */
async function* pricedBlocks(
	source: ReturnType<typeof fromReader>,
	price: (event: UpstreamEvent) => EventPrice,
): AsyncGenerator<Readonly<{ bytes: Uint8Array; costs: readonly EventPrice[] }>, void, undefined> {
	const cutter = new EventCutter();
	const decoder = new TextDecoder();
	let costs: EventPrice[] = [];
	let isOfPayment = false;
	const parser = createParser({
		onEvent: (event) => {
			if (event.event?.startsWith(PAYMENT_EVENT)) isOfPayment = true;
			else costs.push(price(event));
		},
	});
	const priced = (bytes: Uint8Array, end = "") => {
		costs = [];
		isOfPayment = false;
		// A block ends where its lines do; the parser would wait for the other half of a lone carriage return.
		parser.feed(`${decoder.decode(bytes, { stream: true }).replace(/\r\n?/g, "\n")}${end}`);
		return isOfPayment ? [] : [{ bytes, costs }];
	};
	for (;;) {
		const { done, value } = await source.next();
		if (done) break;
		for (const block of cutter.push(value as Uint8Array)) yield* priced(block);
	}
	const rest = cutter.rest();
	// Whoever reads it may take it for an event as well.
	if (rest.length > 0) yield* priced(rest, "\n\n");
}
