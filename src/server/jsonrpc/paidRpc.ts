import { type PaymentCapability, paymentCapability } from "../../protocol/index.ts";
import type { Payment } from "../admission.ts";
import type { PaymentEngine, Transport } from "../engine.ts";
import { type Price, PriceList } from "../price.ts";
import { answerPaid } from "./answerPaid.ts";
import { assertRpcOffers } from "./binding.ts";
import { isManagement, managedCall } from "./managed.ts";
import { errorResponse, isRequest, type ReadMessage, readMessage } from "./message.ts";
import type { RpcFrom, RpcResponse } from "./types.ts";

/** What a method of a paid JSON-RPC server is called with. */
export type RpcCall<Params = unknown> = Readonly<{
	method: string;
	params: Params;
	/** What pays for it; `undefined` where it is free. */
	payment: Payment | undefined;
	/** Aborts when nobody waits for the answer any more: it costs nothing then. */
	signal: AbortSignal;
}>;

/** One method: what it costs, nothing where it has no price, and what it does. */
export type RpcMethod = Readonly<{
	price?: Price<ReadMessage>;
	/** What it returns is the result. What it throws is -32603, or what an `RpcMethodError` says; it costs nothing. */
	handler: (call: RpcCall) => unknown;
}>;

/** An error that a method answers with on purpose. It costs nothing. */
export class RpcMethodError extends Error {
	override readonly name = "RpcMethodError";
	/** JSON-RPC code of the answer. */
	readonly code: number;
	readonly data: unknown;
	constructor(code: number, message: string, data?: unknown) {
		super(message);
		this.code = code;
		this.data = data;
	}
}

/** How a JSON-RPC server treats its messages. All of it may be left out. */
export type PaidRpcOptions = Readonly<{
	/** Hears what a method fails with. */
	onError?: (error: unknown) => void;
}>;

/** A JSON-RPC server, some of whose methods are paid for. */
export type PaidRpc = Readonly<{
	/**
	 * Answers one message, which is JSON already; `undefined` where there is nothing to answer. It never rejects.
	 *
	 * @param from how it came: over TLS or not, and a signal that aborts when its connection is gone
	 */
	answer(message: unknown, from: RpcFrom | Transport): Promise<RpcResponse | undefined>;
	/** What is offered here, for clients to know before they pay. */
	capability: PaymentCapability;
}>;

/**
 * Makes a JSON-RPC server out of methods, over whatever carries messages: HTTP bodies, a WebSocket, a pipe. Credentials and
 * receipts are in `_meta`, at the root of the messages, where params may be an array (draft-payment-transport-mcp-00).
 *
 * A paid method that is called as a notification is not carried out. Its client manages its channel by `payment.manage`, with
 * the method whose price it is about as params.
 *
 * @throws OfferError for a wrong price, at once
 * @example
 * const rpc = paidRpc(engine, {
 *   eth_blockNumber: { handler: () => node.blockNumber() },
 *   eth_getBlockByNumber: { price: { price: "1" }, handler: ({ params }) => node.block(params) },
 * });
 * socket.on("message", async (text) => {
 *   const answer = await rpc.answer(JSON.parse(text), { isSecure: true, isLoopback: false });
 *   if (answer !== undefined) socket.send(JSON.stringify(answer));
 * });
 */
export function paidRpc(
	engine: PaymentEngine,
	methods: Readonly<Record<string, RpcMethod>>,
	{ onError = () => undefined }: PaidRpcOptions = {},
): PaidRpc {
	const prices = new PriceList<ReadMessage>(engine);
	const known = new Map(Object.entries(methods));
	const offered = [...known].flatMap(([name, { price }]) =>
		price === undefined ? [] : assertRpcOffers(name, prices.constant(name, price) ?? []),
	);
	const call = async (message: ReadMessage, method: RpcMethod, payment: Payment | undefined, signal: AbortSignal) => {
		try {
			const { method: name, params } = message;
			return { result: (await method.handler({ method: name, params, payment, signal })) ?? null };
		} catch (error) {
			onError(error);
			if (!(error instanceof RpcMethodError)) return { error: { code: -32603, message: "Internal error" } };
			const { code, message, data } = error;
			return { error: { code, message, ...(data !== undefined && { data }) } };
		}
	};
	const answer = async (message: ReadMessage, from: RpcFrom): Promise<RpcResponse | undefined> => {
		const about = isManagement(message) ? managedCall(message) : message;
		const method = about && known.get(about.method);
		const { price } = method ?? {};
		// A notification can't be asked for a payment: nothing paid is done for it.
		if (!isRequest(message)) {
			const signal = from.signal ?? NEVER;
			if (method !== undefined && price === undefined) await call(message, method, undefined, signal);
			return undefined;
		}
		if (about === undefined) return errorResponse(message.id, -32602, "name the method whose payment it is about");
		if (method === undefined) return errorResponse(message.id, -32601);
		if (price === undefined) {
			if (isManagement(message)) return errorResponse(message.id, -32602, "that method is not paid for");
			const outcome = await call(message, method, undefined, from.signal ?? NEVER);
			return { jsonrpc: "2.0", id: message.id, ...outcome };
		}
		const offers = await prices.of(about.method, price, { ...message, ...about });
		return answerPaid(
			engine,
			{
				message,
				operation: about.method,
				offers,
				from,
				placement: "root",
				isManagement: isManagement(message),
				managedResult: (receipt) => receipt,
			},
			(payment, signal) => call(message, method, payment, signal),
		);
	};
	return {
		capability: paymentCapability(offered),
		async answer(json, how) {
			const message = readMessage(json);
			if (message === undefined) return errorResponse(null, -32600);
			const from = "transport" in how ? how : { transport: how };
			try {
				return await answer(message, from);
			} catch (error) {
				onError(error);
				return isRequest(message) ? errorResponse(message.id, -32603) : undefined;
			}
		},
	};
}

const NEVER = new AbortController().signal;
