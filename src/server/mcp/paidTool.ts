import type {
	BaseToolCallback,
	McpServer,
	PromptCallback,
	RegisteredPrompt,
	RegisteredResource,
	RegisteredResourceTemplate,
	RegisteredTool,
	ResourceMetadata,
	ResourceTemplate,
} from "@modelcontextprotocol/sdk/server/mcp.js";
import type { AnySchema, ZodRawShapeCompat } from "@modelcontextprotocol/sdk/server/zod-compat.js";
import type { RequestHandlerExtra } from "@modelcontextprotocol/sdk/shared/protocol.js";
import type {
	CallToolResult,
	GetPromptResult,
	ReadResourceResult,
	ServerNotification,
	ServerRequest,
	ToolAnnotations,
} from "@modelcontextprotocol/sdk/types.js";
import type { Payment } from "../admission.ts";
import type { McpPayments } from "./payments.ts";
import type { McpPrice } from "./prices.ts";

/** What the SDK gives to a handler, and the payment. */
export type PaidExtra = RequestHandlerExtra<ServerRequest, ServerNotification> & Readonly<{ payment: Payment }>;

type Schema = undefined | ZodRawShapeCompat | AnySchema;

/** What the SDK's `registerTool` takes. */
export type PaidToolConfig<Input extends Schema, Output extends ZodRawShapeCompat | AnySchema> = {
	title?: string;
	description?: string;
	inputSchema?: Input;
	outputSchema?: Output;
	annotations?: ToolAnnotations;
	_meta?: Record<string, unknown>;
};

/**
 * Registers a tool that is paid for, per call: by session, by charge, or by whichever of its prices a client prefers. As the
 * SDK's `registerTool`, with the price before the handler, which gets the payment besides what the SDK gives it.
 *
 * The price is promised before the handler runs and taken when it has returned. What it throws and a result that says
 * `isError: true` cost nothing. Paid is what was asked for, not what came of it: a search without a hit is a result.
 * A charge moves its money before the handler runs: after an error the same credential gets the call again, unpaid.
 *
 * @throws OfferError for a wrong price, at once
 * @example
 * paidTool(
 *   server, payments, "web-search",
 *   { description: "Searches the web.", inputSchema: { query: z.string() } },
 *   [{ price: "100", unitType: "call" }, { price: "500", intent: "charge" }],
 *   async ({ query }, { payment, signal }) => ({ content: [{ type: "text", text: await search(query, signal) }] }),
 * );
 */
export function paidTool<Output extends ZodRawShapeCompat | AnySchema, Input extends Schema = undefined>(
	server: McpServer,
	payments: McpPayments,
	name: string,
	config: PaidToolConfig<Input, Output>,
	price: McpPrice,
	handler: BaseToolCallback<CallToolResult, PaidExtra, Input>,
): RegisteredTool {
	payments.price("tools/call", name, price);
	return server.registerTool(name, config, withPayment(payments, handler as AnyHandler) as never);
}

/**
 * Registers a resource, or a template of resources, whose reading is paid for: as the SDK's `registerResource`, with the price
 * before the handler. All else is as of `paidTool`.
 *
 * @throws OfferError
 * @example
 * paidResource(server, payments, "market", "data://premium/market", {}, { price: "100" }, async (uri, { payment }) => ({
 *   contents: [{ uri: uri.href, text: await market() }],
 * }));
 */
export function paidResource(
	server: McpServer,
	payments: McpPayments,
	name: string,
	uri: string,
	config: ResourceMetadata,
	price: McpPrice,
	handler: (uri: URL, extra: PaidExtra) => ReadResourceResult | Promise<ReadResourceResult>,
): RegisteredResource;
export function paidResource(
	server: McpServer,
	payments: McpPayments,
	name: string,
	template: ResourceTemplate,
	config: ResourceMetadata,
	price: McpPrice,
	handler: (
		uri: URL,
		variables: Record<string, string | string[]>,
		extra: PaidExtra,
	) => ReadResourceResult | Promise<ReadResourceResult>,
): RegisteredResourceTemplate;
export function paidResource(
	server: McpServer,
	payments: McpPayments,
	name: string,
	at: string | ResourceTemplate,
	config: ResourceMetadata,
	price: McpPrice,
	handler: unknown,
): RegisteredResource | RegisteredResourceTemplate {
	if (typeof at === "string") payments.price("resources/read", at, price);
	else payments.priceTemplate(at, price);
	return server.registerResource(name, at as never, config, withPayment(payments, handler as AnyHandler) as never);
}

/** What the SDK's `registerPrompt` takes as arguments. */
type PromptArgs = NonNullable<Parameters<McpServer["registerPrompt"]>[1]["argsSchema"]>;

/**
 * Registers a prompt that is paid for: as the SDK's `registerPrompt`, with the price before the handler. All else is as of `paidTool`.
 *
 * @throws OfferError
 * @example
 * paidPrompt(server, payments, "brief", { description: "A brief." }, { price: "50", intent: "charge" }, async ({ payment }) => brief());
 */
export function paidPrompt<Args extends PromptArgs>(
	server: McpServer,
	payments: McpPayments,
	name: string,
	config: { title?: string; description?: string; argsSchema?: Args },
	price: McpPrice,
	handler: PaidPromptHandler<Args>,
): RegisteredPrompt {
	payments.price("prompts/get", name, price);
	return server.registerPrompt(name, config, withPayment(payments, handler as AnyHandler) as never);
}

/** The SDK's prompt handler, with the payment. */
export type PaidPromptHandler<Args extends PromptArgs> =
	PromptCallback<Args> extends (args: infer Given, extra: infer _) => unknown
		? (args: Given, extra: PaidExtra) => GetPromptResult | Promise<GetPromptResult>
		: (extra: PaidExtra) => GetPromptResult | Promise<GetPromptResult>;

type AnyHandler = (...args: readonly unknown[]) => unknown;

/** Handlers have what the SDK gives besides as their last argument. Without a payment none of them runs. */
function withPayment(payments: McpPayments, handler: AnyHandler): AnyHandler {
	return (...args) => {
		const extra = args.at(-1) as RequestHandlerExtra<ServerRequest, ServerNotification>;
		return payments.carryOut(extra, (payment) => handler(...args.slice(0, -1), { ...extra, payment }));
	};
}
