import { type JsonObject, type RpcError, receiptOfRpc } from "../../protocol/index.ts";
import type { PaymentClient } from "../client.ts";
import type { RpcAnswer } from "./answers.ts";
import { RpcLine, type RpcMeta } from "./line.ts";
import { baseOf, type RpcPlace, type RpcTarget } from "./places.ts";

/** The server answered a call with an error. */
export class RpcCallError extends Error {
	override readonly name = "RpcCallError";
	/** Of JSON-RPC: -32042 where it was not paid for after all, -32043 where the payment was not taken. */
	readonly code: number;
	readonly data: unknown;
	constructor({ code, message, data }: RpcError) {
		super(message);
		this.code = code;
		this.data = data;
	}
}

/** A request to send, `_meta` at its root. */
export type RpcRequestMessage = RpcTarget & Readonly<{ jsonrpc: "2.0"; id: string; _meta?: RpcMeta }>;

/** Sends a request over a connection of the application's, and resolves to the response with its id. */
export type RpcConnection = (message: RpcRequestMessage, signal: AbortSignal) => Promise<unknown>;

/** What a call came to. */
export type RpcPaid = Readonly<{
	result: unknown;
	/** Where it was paid for. */
	receipt: JsonObject | undefined;
}>;

/** A JSON-RPC server whose calls are paid for. */
export type PaidRpcClient = Readonly<{
	/**
	 * Calls a method, and pays for it where that is asked for, within the payer's policy.
	 *
	 * @throws RpcCallError for an error of the server's
	 * @throws RpcEndedError after `end()`
	 * @throws PolicyRefusedError, DepositExhaustedError and what else paying throws, and what the connection throws
	 */
	call(
		method: string,
		params?: JsonObject | readonly unknown[],
		options?: Readonly<{ signal?: AbortSignal }>,
	): Promise<RpcPaid>;
	/** No more calls: those about its channels can't be sent any more either. Close the channels before, by `payer.close()`. */
	end(): void;
}>;

/**
 * Pays for calls to a JSON-RPC server, over any connection (draft-payment-transport-mcp-00). Channels, limits and books are the
 * payer's; its policy knows the server by the host of its URL, or as `name.localhost`.
 *
 * @throws RpcPlaceError
 * @example
 * const rpc = payRpc(payer, { url: "wss://rpc.example.com" }, (message) => ask(socket, message));
 * const { result } = await rpc.call("eth_getBlockByNumber", ["latest", false]);
 */
export function payRpc(payer: PaymentClient, place: RpcPlace, connection: RpcConnection): PaidRpcClient {
	const send = async (target: RpcTarget, meta: RpcMeta, signal: AbortSignal): Promise<RpcAnswer> => {
		const id = crypto.randomUUID();
		const hasMeta = Object.keys(meta).length > 0;
		const response = await connection({ jsonrpc: "2.0", id, ...target, ...(hasMeta && { _meta: meta }) }, signal);
		if (isAnswer(response)) return response;
		throw new TypeError("the connection of payRpc has to resolve to a JSON-RPC response");
	};
	const line = new RpcLine(baseOf(place), send);
	line.begin(payer);
	return {
		end: line.end,
		async call(method, params, { signal = new AbortController().signal } = {}) {
			const target = { method, ...(params !== undefined && { params }) };
			const answer = await line.call(payer, target, send, signal);
			if (answer.error !== undefined) throw new RpcCallError(answer.error);
			return { result: answer.result, receipt: receiptOfRpc(answer) };
		},
	};
}

function isAnswer(response: unknown): response is RpcAnswer {
	if (typeof response !== "object" || response === null) return false;
	const { error } = response as { error?: Partial<RpcError> };
	return "result" in response || (typeof error?.code === "number" && typeof error.message === "string");
}
