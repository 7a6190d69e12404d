import type { Transport as McpTransport, TransportSendOptions } from "@modelcontextprotocol/sdk/shared/transport.js";
import type { JSONRPCMessage, MessageExtraInfo } from "@modelcontextprotocol/sdk/types.js";
import {
	CREDENTIAL_META,
	IDEMPOTENCY_META,
	isJsonObject,
	type JsonObject,
	PAYMENT_MANAGE_METHOD,
	type PaymentCapability,
} from "../../protocol/index.ts";
import { describeError } from "../describeError.ts";
import type { PaymentEngine, Transport } from "../engine.ts";
import { answerPaid } from "../jsonrpc/answerPaid.ts";
import { managedCall } from "../jsonrpc/managed.ts";
import { errorResponse, isRequest, type ReadMessage, readMessage } from "../jsonrpc/message.ts";
import type { RpcOutcome, RpcRequest } from "../jsonrpc/types.ts";
import { arrivalOf } from "./arrival.ts";
import { Capabilities } from "./capabilities.ts";
import { nestMeta } from "./nestMeta.ts";
import { type Paying, paying } from "./paying.ts";
import type { McpPrices, PricedCall } from "./prices.ts";
import { RunningCalls } from "./running.ts";
import { MAX_RUNNING, Slots } from "./slots.ts";

/** How messages come here, where the SDK's transport does not say it. */
export type McpTransportOptions = Readonly<{
	/**
	 * How a message came. Default: by the socket that `overHttp` was given; without it by HTTPS where the URL of its HTTP request
	 * says so, else in plain text from anywhere; without an HTTP request by a pipe, within this machine. Say it behind a proxy
	 * that ends TLS, and for transports of your own.
	 */
	transport?: (extra: MessageExtraInfo | undefined) => Transport;
	/** How many paid calls of one connection may run at a time (default 256). A handler runs until it has ended, waited for or not. */
	maxRunning?: number;
}>;

/** What all connections of one `McpPayments` share. */
export type PaidTransportParts = Readonly<{
	engine: PaymentEngine;
	prices: McpPrices;
	capability: () => PaymentCapability;
	slots: Slots;
}>;

type Answering = Readonly<{ id: RpcRequest["id"]; abort: AbortController }>;

/** Tasks outlive their request, and their results are fetched by another one: what is paid for runs as no task. */
const RELATED_TASK_META = "io.modelcontextprotocol/related-task";

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
	readonly #capabilities: Capabilities;
	readonly #slots: Slots;
	readonly #running = new RunningCalls();
	/** Paid calls that are not answered yet. */
	readonly #answering = new Set<Answering>();

	constructor(
		{ engine, prices, capability, slots }: PaidTransportParts,
		inner: McpTransport,
		options: McpTransportOptions,
	) {
		this.#engine = engine;
		this.#prices = prices;
		this.#capabilities = new Capabilities(capability);
		this.#slots = new Slots(options.maxRunning ?? MAX_RUNNING, slots);
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
		if (!this.#running.isOwn(relatedRequestId))
			return this.#inner.send(this.#capabilities.advertised(message), options);
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
			if (read.method === "initialize") this.#capabilities.meet(read);
			this.onmessage?.(message, extra);
		}
	}

	async #pay(message: RpcRequest, priced: PricedCall, isManagement: boolean, extra: MessageExtraInfo | undefined) {
		const { id } = message;
		if (priced.call.params.task !== undefined)
			return this.#answer(errorResponse(id, -32602, "what is paid for does not run as a task"));
		const slot = this.#slots.take();
		if (slot === undefined)
			return this.#answer(errorResponse(id, -32603, "too many paid calls are running here; wait for one"));
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
						transport: (this.#options.transport ?? arrivalOf)(extra),
						signal: abort.signal,
						acceptPayment: this.#capabilities.acceptPayment,
					},
					placement: "nested",
					isManagement,
					managedResult: (receipt) => (isManagement ? {} : MANAGED_RESULTS[priced.call.method](receipt)),
				},
				(payment, signal) => this.#carryOut(message, { payment, signal, slot }, extra),
			);
			this.#answer(response);
		} catch (error) {
			if (abort.signal.aborted) return;
			this.onerror?.(new Error(`a paid call failed: ${describeError(error)}`));
			this.#answer(errorResponse(id, -32603));
		} finally {
			this.#answering.delete(answering);
			slot.answered();
		}
	}

	#carryOut(message: RpcRequest, work: Omit<Paying, "requestId">, extra: MessageExtraInfo | undefined) {
		return this.#running.run(message.id ?? "", work.signal, (requestId) => {
			const call = { ...withoutPayment(message), id: requestId } as unknown as JSONRPCMessage;
			paying.run({ ...work, requestId }, () => this.onmessage?.(call, extra));
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
}

/** A call about its payment alone, answered in a form that the SDK's clients can read. */
const MANAGED_RESULTS: Readonly<Record<PricedCall["call"]["method"], (receipt: JsonObject) => JsonObject>> = {
	"tools/call": (receipt) => ({ content: [{ type: "text", text: JSON.stringify(receipt) }] }),
	"resources/read": () => ({ contents: [] }),
	"prompts/get": () => ({ messages: [] }),
};

/** What the server gets to see: handlers have no use for credentials, which are not to be logged. */
function withoutPayment(message: RpcRequest): RpcRequest {
	const { _meta: root, params, ...rest } = message;
	if (!isJsonObject(params) || !isJsonObject(params._meta)) return { ...rest, params };
	const { [CREDENTIAL_META]: _, [IDEMPOTENCY_META]: __, [RELATED_TASK_META]: ___, ...meta } = params._meta;
	return { ...rest, params: { ...params, _meta: meta } };
}
