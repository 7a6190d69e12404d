/** Paid tools, resources and prompts of MCP servers, with the official SDK (draft-payment-transport-mcp-00). */

export { overHttp } from "./arrival.ts";
export { nestMeta, nestMetaLines } from "./nestMeta.ts";
export {
	type PaidExtra,
	type PaidPromptHandler,
	type PaidToolConfig,
	paidPrompt,
	paidResource,
	paidTool,
} from "./paidTool.ts";
export type { McpTransportOptions } from "./paidTransport.ts";
export { McpPayments, type McpPaymentsOptions, UnpaidCallError } from "./payments.ts";
export type { McpCall, McpOperation, McpPrice } from "./prices.ts";
