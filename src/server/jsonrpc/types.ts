import type { JsonObject, RpcError, RpcMessage } from "../../protocol/index.ts";
import type { Transport } from "../engine.ts";

/** A request that wants an answer. */
export type RpcRequest = RpcMessage & Readonly<{ id: string | number | null }>;

/** An answer: a result, or an error. */
export type RpcResponse = Readonly<{ jsonrpc: "2.0"; id: string | number | null }> &
	(
		| Readonly<{ result: unknown; error?: never; _meta?: JsonObject }>
		| Readonly<{ error: RpcError; result?: never; _meta?: never }>
	);

/** What an operation came to: what it gives, or why not. Only the first is paid for. */
export type RpcOutcome = Readonly<{ result: unknown }> | Readonly<{ error: RpcError }>;

/** Where receipts go: at the root of a response, or in its result as MCP has it. */
export type RpcPlacement = "root" | "nested";

/** How a message came here. */
export type RpcFrom = Readonly<{
	/** Whether others may have read it on its way. A pipe between processes counts as this very machine. */
	transport: Transport;
	/** Aborts when nobody waits for the answer any more: then the operation costs nothing. */
	signal?: AbortSignal | undefined;
	/** What the client can pay with, as `Accept-Payment` says it. */
	acceptPayment?: string | undefined;
}>;
