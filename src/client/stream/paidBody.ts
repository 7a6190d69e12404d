import type { SessionReceipt, SessionRequest } from "../../protocol/index.ts";
import { maxStreamOf } from "../asking.ts";
import type { Offered, PayerChannel } from "../channel.ts";
import type { Outgoing } from "../outgoing.ts";
import type { SessionParts } from "../parts.ts";
import { StreamStoppedError } from "./errors.ts";
import { EventBlocks, joined } from "./eventBlocks.ts";
import { own } from "./lost.ts";
import type { StreamSettings } from "./options.ts";
import { isPaymentEvent, neededVoucher, receiptEvent } from "./paymentEvents.ts";
import { StreamTab } from "./tab.ts";
import { unitCounter } from "./units.ts";
import { StreamVouchers } from "./vouchers.ts";

/** How long a body that can't ask for vouchers is silent before it is taken to need one, in ms. */
const QUIET_MS = 1_000;

/** Statuses whose answers have no body. */
const BODILESS = new Set([204, 205, 304]);

export type PaidAnswer = Readonly<{
	parts: SessionParts;
	key: string;
	channel: PayerChannel;
	request: Outgoing;
	offer: Offered<SessionRequest>;
	settings: StreamSettings;
	/** What the request has in the books already, in base units. It is not known to be delivered. */
	price: bigint;
	response: Response;
	/** Of its head. */
	receipt: SessionReceipt;
}>;

/** Whether an answer is a stream of Server-Sent Events. */
export function isEventStream({ headers }: Pick<Response, "headers">): boolean {
	return /^\s*text\/event-stream\s*(;|$)/i.test(headers.get("content-type") ?? "");
}

/**
 * Whether more may be asked for an answer while it is read: an event stream can say so, and of other bodies those that are
 * still being made and are not charged yet.
 *
 * @param counted - what the channel has consumed by the payer's count, this request's price included
 * @param mayCostMore - whether the policy lets it cost more than that price
 */
export function mayGoOn(
	{ method }: Pick<Outgoing, "method">,
	response: Response,
	{ spent }: Pick<SessionReceipt, "spent">,
	counted: bigint,
	mayCostMore: boolean,
): boolean {
	if (method === "HEAD" || response.body === null || BODILESS.has(response.status)) return false;
	return isEventStream(response) || (mayCostMore && !response.headers.has("content-length") && spent < counted);
}

/**
 * The answer with a body that pays for itself as it is read, and only then: nothing is buffered, events of the payment are
 * taken out, all other bytes are handed on as they came. It ends with an error where it can't be paid for.
 */
export function paidAnswer(answer: PaidAnswer): Response {
	const { response } = answer;
	const { status, statusText, headers, url, redirected, type } = response;
	const paid = new Response(paidBody(answer), { status, statusText, headers });
	return Object.defineProperties(paid, {
		url: { value: url },
		redirected: { value: redirected },
		type: { value: type },
	});
}

function paidBody(answer: PaidAnswer): ReadableStream<Uint8Array<ArrayBuffer>> {
	let reading: PaidReading | undefined;
	let stream: ReadableStreamDefaultController<Uint8Array> | undefined;
	return new ReadableStream<Uint8Array<ArrayBuffer>>(
		{
			start(controller) {
				stream = controller as ReadableStreamDefaultController<Uint8Array>;
			},
			pull() {
				if (stream === undefined) return undefined;
				// Until somebody reads, nothing is paid, listened to or booked.
				reading ??= new PaidReading(answer, stream);
				return reading.pull();
			},
			cancel(reason) {
				// The response is held here: where it is collected, its body is cancelled.
				return reading === undefined ? answer.response.body?.cancel(reason) : reading.cancel(reason);
			},
		},
		{ highWaterMark: 0 },
	);
}

/** One body that is being read. */
class PaidReading {
	readonly #answer: PaidAnswer;
	readonly #target: ReadableStreamDefaultController<Uint8Array>;
	readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
	readonly #blocks: EventBlocks | undefined;
	readonly #unitsIn: ReturnType<typeof unitCounter>;
	readonly #tab: StreamTab;
	readonly #vouchers: StreamVouchers;
	readonly #stop = () => this.#fail(own(new StreamStoppedError("closed")));
	readonly #onAbort = () => this.#fail(own(this.#answer.request.signal.reason));
	#receipt: SessionReceipt | undefined;
	#isOver = false;

	constructor(answer: PaidAnswer, target: ReadableStreamDefaultController<Uint8Array>) {
		const { parts, key, channel, request, offer, settings, price, response, receipt } = answer;
		const { request: terms } = offer;
		const { body } = response;
		if (body === null) throw new TypeError("an answer without a body is not paid for while it is read");
		this.#answer = answer;
		this.#target = target;
		this.#reader = body.getReader();
		this.#blocks = isEventStream(response) ? new EventBlocks() : undefined;
		this.#unitsIn = unitCounter(terms.unitType, this.#blocks !== undefined, settings, parts.now);
		const held = channel.beginStream(this.#stop, price);
		this.#tab = new StreamTab({
			channel,
			terms,
			settings,
			// What the receipt of the head has in its count is part of what the answer costs.
			maxStream: maxStreamOf(parts, channel.parameters) - (price - held),
			price: held,
		});
		this.#vouchers = new StreamVouchers({
			...{ parts, key, channel, request, offer },
			tab: this.#tab,
			accepted: receipt.acceptedCumulative,
			onFault: (error) => this.#fail(own(error)),
		});
		request.signal.addEventListener("abort", this.#onAbort);
		if (request.signal.aborted) this.#onAbort();
	}

	/** Hands one piece on. */
	async pull(): Promise<void> {
		while (!this.#isOver) {
			let read: ReadableStreamReadResult<Uint8Array>;
			try {
				read = await this.#read();
			} catch (error) {
				return this.#fail(this.#isReplaced ? own(new StreamStoppedError("replaced", error)) : error);
			}
			if (this.#isOver) return;
			try {
				if (read.done) return this.#complete();
				const content = this.#take(read.value);
				if (content.length === 0) continue;
				this.#target.enqueue(content);
				return this.#vouchers.delivered();
			} catch (error) {
				return this.#fail(own(error));
			}
		}
	}

	/** Whether the payer itself has sent a newer stream on the channel, which has one at a time. */
	get #isReplaced(): boolean {
		const { channel, request } = this.#answer;
		return request.stream !== undefined && channel.newestStream.hasReplaced(request.stream);
	}

	/** Nobody reads on. */
	cancel(reason: unknown): Promise<void> {
		this.#end();
		return this.#reader.cancel(reason);
	}

	async #read(): Promise<ReadableStreamReadResult<Uint8Array>> {
		if (this.#blocks !== undefined) return this.#reader.read();
		const timer = setTimeout(() => this.#vouchers.maybeNeeded(), QUIET_MS);
		try {
			return await this.#reader.read();
		} finally {
			clearTimeout(timer);
		}
	}

	/** What of a chunk is handed on. Its units are counted, and what it says of the payment is heard. */
	#take(chunk: Uint8Array): Uint8Array {
		if (this.#blocks === undefined) {
			this.#tab.deliver(this.#unitsIn({ bytes: chunk, event: undefined, isEvent: false }));
			return chunk;
		}
		const { passPaymentEvents } = this.#answer.settings;
		const content: Uint8Array[] = [];
		for (const block of this.#blocks.feed(chunk)) {
			const { event, bytes, isEvent } = block;
			if (!isPaymentEvent(event)) this.#tab.deliver(this.#unitsIn(block));
			else if (isEvent) this.#hear(event);
			if (passPaymentEvents || !isPaymentEvent(event)) content.push(bytes);
		}
		return joined(content);
	}

	#hear(event: Parameters<typeof neededVoucher>[0]): void {
		const { channel } = this.#answer;
		const required = neededVoucher(event, channel);
		if (required !== undefined) this.#vouchers.need(required);
		this.#receipt = receiptEvent(event, channel) ?? this.#receipt;
	}

	#complete(): void {
		const rest = this.#blocks?.end();
		if (rest !== undefined && rest.length > 0) this.#target.enqueue(rest);
		this.#end(true);
		this.#target.close();
	}

	#fail(error: unknown): void {
		if (this.#isOver) return;
		this.#end();
		this.#target.error(error);
		this.#reader.cancel(error).catch(() => undefined);
	}

	#end(isComplete = false): void {
		if (this.#isOver) return;
		this.#isOver = true;
		const { channel, request } = this.#answer;
		if (request.stream !== undefined) channel.newestStream.ended(request.stream);
		request.signal.removeEventListener("abort", this.#onAbort);
		if (isComplete) this.#vouchers.finish(this.#receipt !== undefined);
		else this.#vouchers.stop();
		this.#tab.end(this.#stop, { isComplete, spent: this.#receipt?.spent });
	}
}
