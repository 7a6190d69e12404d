import { AsyncLocalStorage } from "node:async_hooks";
import type { Transport as McpTransport, TransportSendOptions } from "@modelcontextprotocol/sdk/shared/transport.js";
import type { JSONRPCMessage, MessageExtraInfo, RequestId } from "@modelcontextprotocol/sdk/types.js";
import {
	CREDENTIAL_META,
	formatAcceptPayment,
	IDEMPOTENCY_META,
	isJsonObject,
	isLoopback,
	type JsonObject,
	PAYMENT_MANAGE_METHOD,
	type PaymentCapability,
	parsePaymentCapability,
	rangesOfCapability,
} from "../../protocol/index.ts";
import type { Payment } from "../admission.ts";
import { describeError } from "../describeError.ts";
import type { PaymentEngine, Transport } from "../engine.ts";
import { answerPaid } from "../jsonrpc/answerPaid.ts";
import { managedCall } from "../jsonrpc/managed.ts";
import { errorResponse, isRequest, type ReadMessage, readMessage } from "../jsonrpc/message.ts";
import type { RpcOutcome, RpcRequest } from "../jsonrpc/types.ts";
import { nestMeta } from "./nestMeta.ts";
import type { McpPrices, PricedCall } from "./prices.ts";
import { RunningCalls } from "./running.ts";

/** How messages come here, where the SDK's transport does not say it. */
export type McpTransportOptions = Readonly<{
	/**
	 * How a message came. Default: as the URL of its HTTP request says it; without an HTTP request it came by a pipe, within
	 * this machine. Say it behind a proxy that ends TLS, and for transports of your own.
	 */
	transport?: (extra: MessageExtraInfo | undefined) => Transport;
	/** How many paid calls of one connection may run at a time (default 256). */
	maxRunning?: number;
}>;

type Answering = Readonly<{ id: RpcRequest["id"]; abort: AbortController }>;

/** The payment that a handler of the SDK works for, and the id by which it knows its request. */
export const paying = new AsyncLocalStorage<Readonly<{ requestId: RequestId; payment: Payment }>>();

/** Tasks outlive their request, and their results are fetched by another one: what is paid for runs as no task. */
const RELATED_TASK_META = "io.modelcontextprotocol/related-task";

const MAX_RUNNING = 256;

/**
 * A transport of the official SDK's on which some operations are paid for: it stands between the SDK's transport and its server,
 * asks for payments before the server sees a call, and takes them before a result leaves.
 */
export class PaidTransport implements McpTransport {
	onclose?: () => void;
	onerror?: (error: Error) => void;
	onmessage?: <T extends JSONRPCMessage>(message: T, extra?: MessageExtraInfo) => void;
	readonly #engine: PaymentEngine;
	readonly #prices: McpPrices;
	readonly #inner: McpTransport;
	readonly #options: McpTransportOptions;
	readonly #capability: () => PaymentCapability;
	readonly #running = new RunningCalls();
	/** What the client has said that it can pay with. */
	#acceptPayment: string | undefined;
	#initializeId: RequestId | undefined;
	/** Paid calls that are not answered yet. */
	readonly #answering = new Set<Answering>();

	constructor(
		{
			engine,
			prices,
			capability,
		}: Readonly<{ engine: PaymentEngine; prices: McpPrices; capability: () => PaymentCapability }>,
		inner: McpTransport,
		options: McpTransportOptions,
	) {
		this.#engine = engine;
		this.#prices = prices;
		this.#capability = capability;
		this.#inner = inner;
		this.#options = options;
	}

	get sessionId(): string | undefined {
		return this.#inner.sessionId;
	}

	setProtocolVersion(version: string): void {
		this.#inner.setProtocolVersion?.(version);
	}

	async start(): Promise<void> {
		const { onclose, onerror } = this.#inner;
		this.#inner.onclose = () => {
			for (const { abort } of this.#answering) abort.abort(new Error("the connection was closed"));
			onclose?.();
			this.onclose?.();
		};
		this.#inner.onerror = (error) => {
			onerror?.(error);
			this.onerror?.(error);
		};
		this.#inner.onmessage = (message, extra) => this.#hear(nestMeta(message), extra);
		await this.#inner.start();
	}

	async close(): Promise<void> {
		await this.#inner.close();
	}

	async send(message: JSONRPCMessage, options: TransportSendOptions = {}): Promise<void> {
		if (!("method" in message) && this.#running.isOwn(message.id)) {
			// Of a call that its client has given up nothing is sent.
			const outcome: RpcOutcome = "result" in message ? { result: message.result } : { error: message.error };
			this.#running.settle(message.id, outcome);
			return;
		}
		const { relatedRequestId } = options;
		if (!this.#running.isOwn(relatedRequestId)) return this.#inner.send(this.#advertised(message), options);
		const clientId = this.#running.clientId(relatedRequestId);
		if (clientId !== undefined) await this.#inner.send(message, { ...options, relatedRequestId: clientId });
	}

	#hear(message: JSONRPCMessage, extra: MessageExtraInfo | undefined): void {
		const read = "method" in message ? readMessage(message) : undefined;
		if (read === undefined) {
			// A request of which it can't be said whether it is paid for goes nowhere.
			if ("method" in message && "id" in message) this.#answer(errorResponse(message.id, -32600));
			else if (!("method" in message)) this.onmessage?.(message, extra);
			return;
		}
		const isAbout = read.method === PAYMENT_MANAGE_METHOD;
		const about = isAbout ? managedCall(read) : read;
		const priced = about && this.#prices.find(about);
		if (!isRequest(read)) {
			if (read.method === "notifications/cancelled") this.#cancel(message, read, extra);
			// A notification can't be asked for a payment: nothing paid is done for it.
			else if (priced === undefined) this.onmessage?.(message, extra);
			return;
		}
		if (priced !== undefined) {
			void this.#pay(read, priced, isAbout, extra);
		} else if (isAbout) {
			const why =
				about === undefined ? "name the operation whose payment it is about" : "that operation is not paid for";
			this.#answer(errorResponse(read.id, -32602, why));
		} else {
			if (read.method === "initialize") this.#meet(read);
			this.onmessage?.(message, extra);
		}
	}

	async #pay(message: RpcRequest, priced: PricedCall, isManagement: boolean, extra: MessageExtraInfo | undefined) {
		const { id } = message;
		if (this.#answering.size >= (this.#options.maxRunning ?? MAX_RUNNING))
			return this.#answer(
				errorResponse(id, -32603, "too many paid calls are running on this connection; wait for one"),
			);
		if (priced.call.params.task !== undefined)
			return this.#answer(errorResponse(id, -32602, "what is paid for does not run as a task"));
		const abort = new AbortController();
		const answering = { id, abort };
		this.#answering.add(answering);
		try {
			const response = await answerPaid(
				this.#engine,
				{
					message,
					operation: priced.operation,
					offers: await this.#prices.offersOf(priced),
					from: {
						transport: (this.#options.transport ?? transportOf)(extra),
						signal: abort.signal,
						acceptPayment: this.#acceptPayment,
					},
					placement: "nested",
					isManagement,
					managedResult: (receipt) => (isManagement ? {} : MANAGED_RESULTS[priced.call.method](receipt)),
				},
				(payment, signal) => this.#carryOut(message, payment, signal, extra),
			);
			this.#answer(response);
		} catch (error) {
			if (abort.signal.aborted) return;
			this.onerror?.(new Error(`a paid call failed: ${describeError(error)}`));
			this.#answer(errorResponse(id, -32603));
		} finally {
			this.#answering.delete(answering);
		}
	}

	#carryOut(message: RpcRequest, payment: Payment, signal: AbortSignal, extra: MessageExtraInfo | undefined) {
		return this.#running.run(message.id ?? "", signal, (requestId) => {
			const call = { ...withoutPayment(message), id: requestId } as unknown as JSONRPCMessage;
			paying.run({ requestId, payment }, () => this.onmessage?.(call, extra));
		});
	}

	/** A call that its client gives up: what is paid is stopped, and costs nothing. */
	#cancel(message: JSONRPCMessage, { params }: ReadMessage, extra: MessageExtraInfo | undefined): void {
		const { requestId, ...rest } = isJsonObject(params) ? params : {};
		const paid = [...this.#answering].filter(({ id }) => id === requestId);
		if (paid.length === 0) this.onmessage?.(message, extra);
		for (const ownId of this.#running.ownIds(requestId)) {
			const own = { ...message, params: { ...rest, requestId: ownId } };
			this.onmessage?.(own as JSONRPCMessage, extra);
		}
		for (const { abort } of paid) abort.abort(new Error("the client gave the call up"));
	}

	#answer(response: object): void {
		this.#inner.send(response as JSONRPCMessage).catch((error: unknown) => {
			this.onerror?.(new Error(`the answer to a paid call was not sent: ${describeError(error)}`));
		});
	}

	/** Learns from the client's `initialize` what it can pay with (draft, MCP Capability Advertisement). */
	#meet({ id, params }: RpcRequest): void {
		this.#initializeId = id ?? undefined;
		const ranges = rangesOfCapability(paymentOf(isJsonObject(params) ? params.capabilities : undefined));
		try {
			this.#acceptPayment = ranges && formatAcceptPayment(ranges);
		} catch {
			// More than anybody has: then all is offered.
			this.#acceptPayment = undefined;
		}
	}

	/** The server's answer to `initialize` says what can be paid with. */
	#advertised(message: JSONRPCMessage): JSONRPCMessage {
		if (this.#initializeId === undefined || !("result" in message) || message.id !== this.#initializeId) return message;
		this.#initializeId = undefined;
		const { capabilities } = message.result;
		const own = isJsonObject(capabilities) ? capabilities : {};
		const experimental = isJsonObject(own.experimental) ? own.experimental : {};
		const advertised = { ...own, experimental: { ...experimental, payment: this.#capability() } };
		return { ...message, result: { ...message.result, capabilities: advertised } };
	}
}

/** A call about its payment alone, answered in a form that the SDK's clients can read. */
const MANAGED_RESULTS: Readonly<Record<PricedCall["call"]["method"], (receipt: JsonObject) => JsonObject>> = {
	"tools/call": (receipt) => ({ content: [{ type: "text", text: JSON.stringify(receipt) }] }),
	"resources/read": () => ({ contents: [] }),
	"prompts/get": () => ({ messages: [] }),
};

function paymentOf(capabilities: unknown): PaymentCapability | undefined {
	const experimental = isJsonObject(capabilities) ? capabilities.experimental : undefined;
	return isJsonObject(experimental) ? parsePaymentCapability(experimental.payment) : undefined;
}

/** What the server gets to see: handlers have no use for credentials, which are not to be logged. */
function withoutPayment(message: RpcRequest): RpcRequest {
	const { _meta: root, params, ...rest } = message;
	if (!isJsonObject(params) || !isJsonObject(params._meta)) return { ...rest, params };
	const { [CREDENTIAL_META]: _, [IDEMPOTENCY_META]: __, [RELATED_TASK_META]: ___, ...meta } = params._meta;
	return { ...rest, params: { ...params, _meta: meta } };
}

function transportOf(extra: MessageExtraInfo | undefined): Transport {
	const info = extra?.requestInfo;
	if (info === undefined) return { isSecure: false, isLoopback: true };
	const url = "url" in info && info.url instanceof URL ? info.url : undefined;
	if (url !== undefined) return { isSecure: url.protocol === "https:", isLoopback: isLoopback(url.hostname) };
	const host = [info.headers.host].flat()[0] ?? "";
	return { isSecure: false, isLoopback: isLoopback(URL.parse(`http://${host}`)?.hostname ?? "") };
}
