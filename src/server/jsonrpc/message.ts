import { z } from "zod";
import type { RpcMessage } from "../../protocol/index.ts";
import type { RpcRequest, RpcResponse } from "./types.ts";

/** The longest id that is answered, in characters: it is sent back as it came. */
const MAX_ID_LENGTH = 1_024;

const messageSchema = z.object({
	jsonrpc: z.literal("2.0"),
	id: z.union([z.string().max(MAX_ID_LENGTH), z.number(), z.null()]).exactOptional(),
	method: z.string().min(1).max(256),
	params: z.union([z.record(z.string(), z.unknown()), z.array(z.unknown())]).exactOptional(),
	_meta: z.unknown().exactOptional(),
});

/** A request or notification that was read. */
export type ReadMessage = z.output<typeof messageSchema>;

/** Reads a message that is already JSON; `undefined` where it is neither a request nor a notification. */
export function readMessage(json: unknown): ReadMessage | undefined {
	const parsed = messageSchema.safeParse(json);
	return parsed.success ? parsed.data : undefined;
}

/** Whether a message wants an answer. One that does not can't be asked for a payment (draft-payment-transport-mcp-00, Notifications). */
export function isRequest(message: RpcMessage): message is RpcRequest {
	return message.id !== undefined;
}

/** An error of JSON-RPC's own. */
export function errorResponse(
	id: RpcResponse["id"],
	code: -32600 | -32601 | -32602 | -32603,
	detail?: string,
): RpcResponse {
	const data = detail === undefined ? {} : { data: { detail } };
	return { jsonrpc: "2.0", id, error: { code, message: MESSAGES[code], ...data } };
}

const MESSAGES = {
	[-32600]: "Invalid Request",
	[-32601]: "Method not found",
	[-32602]: "Invalid params",
	[-32603]: "Internal error",
} as const;
