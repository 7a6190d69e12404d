/** A metered server that does what a test tells it to, behind a `fetch` of its own: every byte and every answer is the test's. */

import type { Address, Hex } from "viem";
import {
	type Challenge,
	encodeReceipt,
	formatTimestamp,
	parseCredential,
	receiptToJson,
	type SessionReceipt,
} from "../../src/protocol/index.ts";
import { challengeOf, type Place, paymentRequired, type Reply, sessionTerms, type Terms } from "./support.ts";

export const PAYEE: Address = `0x${"bb".repeat(20)}`;
export const ORIGIN = "http://localhost:4000";
export const PRICE = 100n;

/** One answer that is being sent. */
export type Sending = Readonly<{
	channelId: Hex;
	headers: Headers;
	/** Sends text as one chunk, or bytes. */
	send(content: string | Uint8Array): void;
	/** So many events with the next ids, in one chunk. */
	events(count: number): void;
	need(required: bigint | string, changes?: Readonly<Record<string, unknown>>): void;
	receipt(spent: bigint): void;
	end(): void;
	/** Breaks the connection. */
	cut(): void;
	/** Whether the payer has let go of it. */
	isCancelled(): boolean;
	/** Events sent so far. */
	sent(): number;
}>;

export type Asked = Readonly<{
	method: string;
	url: string;
	headers: Headers;
	amount: bigint | undefined;
	action: string;
	signal: AbortSignal;
}>;

export type FakeMeter = Readonly<{
	fetch: typeof globalThis.fetch;
	/** Every request that came with a credential, in order. */
	paid: readonly Asked[];
	/** Vouchers by `HEAD`. */
	heads(): readonly bigint[];
	/** The highest voucher that came. */
	accepted(): bigint;
	/** The answers so far. */
	streams: readonly Sending[];
	/** Resolves when there is an answer number `index`. */
	stream(index?: number): Promise<Sending>;
	/** What the server says it has charged. */
	spent: bigint;
	/** Answers a `HEAD` with a voucher, instead of with a receipt. */
	onHead: ((asked: Asked) => Response | undefined | Promise<Response | undefined>) | undefined;
	receiptFor(channelId: Hex, changes?: Partial<SessionReceipt>): string;
	challenge(): Challenge;
}> & { spent: bigint; onHead: ((asked: Asked) => Response | undefined | Promise<Response | undefined>) | undefined };

export type FakeOptions = Readonly<{ terms?: Terms; details?: Terms; contentType?: string; unread?: boolean }>;

export function fakeMeter(place: Place, { terms = {}, details = {}, contentType }: FakeOptions = {}): FakeMeter {
	const paid: Asked[] = [];
	const streams: Sending[] = [];
	let waiting: (() => void)[] = [];
	let accepted = 0n;
	const challenge = () =>
		challengeOf(sessionTerms(place, PAYEE, { amount: String(PRICE), suggestedDeposit: "1000000", ...terms }, details));

	const meter: FakeMeter = {
		paid,
		streams,
		spent: 0n,
		onHead: undefined,
		heads: () => paid.flatMap(({ method, amount }) => (method === "HEAD" && amount !== undefined ? [amount] : [])),
		accepted: () => accepted,
		challenge,
		async stream(index = 0) {
			for (;;) {
				const found = streams[index];
				if (found !== undefined) return found;
				await new Promise<void>((resolve) => waiting.push(resolve));
			}
		},
		receiptFor(channelId, changes = {}) {
			return encodeReceipt(receiptOf(channelId, changes));
		},
		async fetch(input, init) {
			const request = new Request(input, init);
			request.signal.throwIfAborted();
			const { method, url, headers } = request;
			const authorization = headers.get("authorization");
			if (authorization === null) return responseOf(paymentRequired(challenge()));
			const { payload } = parseCredential(authorization);
			const channelId = String(payload.channelId) as Hex;
			const amount = BigInt(String(payload.cumulativeAmount));
			const asked = { method, url, headers, amount, action: String(payload.action), signal: request.signal };
			paid.push(asked);
			if (method === "HEAD") {
				const own = await meter.onHead?.(asked);
				if (own !== undefined) return own;
				if (amount > accepted) accepted = amount;
				return new Response(null, { headers: { "payment-receipt": meter.receiptFor(channelId) } });
			}
			if (amount > accepted) accepted = amount;
			const { sending, body } = sendingOf(channelId, headers, request.signal);
			streams.push(sending);
			for (const wake of waiting) wake();
			waiting = [];
			return new Response(body, {
				headers: { "content-type": contentType ?? "text/event-stream", "payment-receipt": meter.receiptFor(channelId) },
			});
		},
	};

	function receiptOf(channelId: Hex, changes: Partial<SessionReceipt>): SessionReceipt {
		return {
			method: "evm",
			intent: "session",
			status: "success",
			timestamp: formatTimestamp(Date.now()),
			challengeId: "fake",
			reference: channelId,
			channelId,
			chainId: place.chain.chainId,
			acceptedCumulative: accepted,
			spent: meter.spent,
			...changes,
		};
	}

	function sendingOf(channelId: Hex, headers: Headers, signal: AbortSignal) {
		const encoder = new TextEncoder();
		let sent = 0;
		let isCancelled = false;
		let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
		const body = new ReadableStream<Uint8Array>({
			start(its) {
				controller = its;
			},
			cancel() {
				isCancelled = true;
			},
		});
		signal.addEventListener("abort", () => {
			if (!isCancelled) controller?.error(signal.reason);
			isCancelled = true;
		});
		const live = () => (isCancelled ? undefined : controller);
		const event = (name: string, data: unknown) =>
			`event: ${name}\ndata: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`;
		const sending: Sending = {
			channelId,
			headers,
			send: (content) => live()?.enqueue(typeof content === "string" ? encoder.encode(content) : content),
			events(count) {
				const from = Number(headers.get("last-event-id") ?? 0);
				const texts = Array.from({ length: count }, (_, index) => `id: ${from + sent + index + 1}\ndata: token\n\n`);
				sent += count;
				sending.send(texts.join(""));
			},
			need(required, changes = {}) {
				const data = {
					channelId,
					requiredCumulative: String(required),
					acceptedCumulative: String(accepted),
					deposit: "1000000",
					...changes,
				};
				sending.send(event("payment-need-voucher", data));
			},
			receipt(spent) {
				meter.spent = spent;
				sending.send(event("payment-receipt", receiptToJson(receiptOf(channelId, { spent }))));
			},
			end: () => live()?.close(),
			cut() {
				live()?.error(new TypeError("terminated"));
				isCancelled = true;
			},
			isCancelled: () => isCancelled,
			sent: () => sent,
		};
		return { sending, body };
	}

	return meter;
}

/** A scripted reply as a `Response`. */
export function responseOf(reply: Exclude<Reply, "cut">): Response {
	const headers = new Headers();
	for (const [name, value] of Object.entries(reply.headers ?? {}))
		for (const one of typeof value === "string" ? [value] : value) headers.append(name, one);
	return new Response(reply.body ?? null, { status: reply.status ?? 200, headers });
}

/** Waits for a condition, as long as a test may. */
export async function until(condition: () => boolean | Promise<boolean>, what = "it"): Promise<void> {
	const deadline = Date.now() + 20_000;
	while (!(await condition())) {
		if (Date.now() > deadline) throw new Error(`${what} did not come`);
		await new Promise((resolve) => setTimeout(resolve, 5));
	}
}

/** Long enough for whatever would come to have come. */
export function aWhile(ms = 60): Promise<void> {
	return new Promise((resolve) => setTimeout(resolve, ms));
}
