/** Paid tools, resources and prompts for clients of the official MCP SDK (draft-payment-transport-mcp-00). */

import type { Client } from "@modelcontextprotocol/sdk/client/index.js";
import type { RequestOptions } from "@modelcontextprotocol/sdk/shared/protocol.js";
import * as z from "zod";
import { isJsonObject, type JsonObject, type PaymentCapability, receiptOfRpc } from "../protocol/index.ts";
import type { PaymentClient } from "./client.ts";
import type { RpcAnswer } from "./jsonrpc/answers.ts";
import { RpcLine, type RpcMeta } from "./jsonrpc/line.ts";
import { baseOf, type RpcPlace, type RpcTarget } from "./jsonrpc/places.ts";

export { RpcEndedError } from "./jsonrpc/line.ts";
export { type RpcPlace, RpcPlaceError } from "./jsonrpc/places.ts";

/** What this payer can pay with, for the `capabilities.experimental` of the SDK's client. */
export const PAYER_CAPABILITY: Readonly<{ payment: PaymentCapability }> = {
	payment: { methods: { evm: { intents: ["session", "charge"] } } },
};

/** What came back, unchanged, and the receipt where it was paid for. */
export type Paid<Result> = Result & Readonly<{ receipt: JsonObject | undefined }>;

type Method<Name extends "callTool" | "readResource" | "getPrompt"> = (
	...args: Parameters<Client[Name]>
) => Promise<Paid<Awaited<ReturnType<Client[Name]>>>>;

/** The operations of an MCP server that can be paid for. */
export type PaidMcp = Readonly<{
	/** As the SDK's: its result, and the receipt. */
	callTool: Method<"callTool">;
	readResource: Method<"readResource">;
	getPrompt: Method<"getPrompt">;
	/** No more paid calls: what is about its channels can't be sent any more either. Close those before, by `payer.close()`. */
	end(): void;
}>;

const OPERATIONS = new Set(["tools/call", "resources/read", "prompts/get"]);

/** Any result: what is about a payment alone has a form of its own. */
const anyResult = z.looseObject({});

/** JSON-RPC's own name for a connection that is gone, and for an answer that is late; as the SDK has them. */
const ConnectionClosed = -32000;
const RequestTimeout = -32001;

/**
 * Pays for calls to an MCP server through a client of the official SDK, within the payer's policy. The policy knows the server
 * by the host of its URL; one that is reached by a pipe is `name.localhost` there.
 *
 * Signals, progress and timeouts are the SDK's: each of the two or more messages of a paid call may take `timeout`. What the SDK
 * throws is thrown: an `McpError` of -32042 where the server asks for a payment that nothing of ours can make.
 *
 * @param client connected, or to be connected; announce `PAYER_CAPABILITY` so that servers offer what can be paid
 * @throws RpcPlaceError
 * @example
 * const client = new Client({ name: "agent", version: "1.0.0" }, { capabilities: { experimental: PAYER_CAPABILITY } });
 * await client.connect(new StdioClientTransport({ command: "web-search" }));
 * const tools = payMcp(payer, client, { name: "web-search" }); // allowed by hosts: ["web-search.localhost"]
 * const { content, receipt } = await tools.callTool({ name: "search", arguments: { query: "MCP" } });
 * await payer.close();
 */
export function payMcp(payer: PaymentClient, client: Client, place: RpcPlace): PaidMcp {
	const sendBy =
		(options: RequestOptions): Send =>
		async (target, meta, signal) => {
			const params = target.params as (JsonObject & { _meta?: JsonObject }) | undefined;
			const all = { ...params, _meta: { ...params?._meta, ...meta } };
			const request = { method: target.method, params: all } as never;
			try {
				return { result: await client.request(request, anyResult as never, { ...options, signal }) };
			} catch (error) {
				const { code, message = "", data } = error as { code?: unknown; message?: string; data?: unknown };
				// Neither is an answer.
				if (typeof code !== "number" || code === ConnectionClosed || code === RequestTimeout) throw error;
				return new ErrorAnswer({ code, message, data }, error);
			}
		};
	const line = new RpcLine(baseOf(place), sendBy({}));
	line.begin(payer);

	/** A call by the SDK's own method, whose requests are paid for: what it checks and remembers of results it still does. */
	const paid = async <Result>(run: (paying: Client) => Promise<Result>): Promise<Paid<Result>> => {
		let receipt: JsonObject | undefined;
		const request = async (target: RpcTarget, schema: Schema, options: RequestOptions = {}) => {
			if (!OPERATIONS.has(target.method)) return client.request(target as never, schema as never, options);
			const answer = await callBy(target, options);
			receipt = receiptOfRpc(answer);
			return parsed(schema, answer.result);
		};
		const result = await run(Object.create(client, { request: { value: request } }) as Client);
		return { ...result, receipt };
	};
	const callBy = async (target: RpcTarget, { signal, ...options }: RequestOptions) => {
		const stop = new AbortController();
		const send = sendBy(options);
		const final: Send = async (...call) => {
			try {
				return await send(...call);
			} catch (error) {
				// Whoever waits no longer, and a connection that is gone, are no reason to send again.
				if (isFinal(error)) stop.abort(error);
				throw error;
			}
		};
		const both = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
		const answer = await line.call(payer, target, final, both).catch((error: unknown) => {
			throw stop.signal.aborted ? stop.signal.reason : error;
		});
		if (answer.error === undefined) return answer;
		throw answer instanceof ErrorAnswer ? answer.cause : answer.error;
	};
	return {
		callTool: (...args) => paid((paying) => paying.callTool(...args)),
		readResource: (...args) => paid((paying) => paying.readResource(...args)),
		getPrompt: (...args) => paid((paying) => paying.getPrompt(...args)),
		end: line.end,
	};
}

type Send = (target: RpcTarget, meta: RpcMeta, signal: AbortSignal) => Promise<RpcAnswer>;

type Schema = z.ZodType | Readonly<{ safeParse(data: unknown): { success: boolean; data?: unknown; error?: unknown } }>;

/** An error as it came, with what the SDK made of it. */
class ErrorAnswer {
	readonly error: Readonly<{ code: number; message: string; data: unknown }>;
	readonly cause: unknown;
	constructor(error: ErrorAnswer["error"], cause: unknown) {
		this.error = error;
		this.cause = cause;
	}
}

function isFinal(error: unknown): boolean {
	const code = isJsonObject(error) ? error.code : undefined;
	return code === ConnectionClosed || code === RequestTimeout;
}

/** By a schema of any zod that the SDK takes. */
function parsed(schema: Schema, result: unknown): unknown {
	const outcome = "_zod" in schema ? z.safeParse(schema, result) : schema.safeParse(result);
	if (outcome.success) return outcome.data;
	throw outcome.error;
}
