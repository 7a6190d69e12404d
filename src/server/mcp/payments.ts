import type { ResourceTemplate } from "@modelcontextprotocol/sdk/server/mcp.js";
import type { Transport as McpTransport } from "@modelcontextprotocol/sdk/shared/transport.js";
import type { RequestId } from "@modelcontextprotocol/sdk/types.js";
import { type PaymentCapability, paymentCapability } from "../../protocol/index.ts";
import type { Payment } from "../admission.ts";
import type { PaymentEngine } from "../engine.ts";
import { type McpTransportOptions, PaidTransport, paying } from "./paidTransport.ts";
import { type McpOperation, type McpPrice, McpPrices } from "./prices.ts";

/** A paid operation was reached past its payment: nothing is given away. */
export class UnpaidCallError extends Error {
	override readonly name = "UnpaidCallError";
	readonly code = "UNPAID_CALL";
	constructor() {
		super("this operation is paid for: connect its server by payments.over(transport)");
	}
}

/**
 * The payments of one kind of MCP server: which of its operations cost what, and the transports on which they are paid for.
 * Where each client gets a server of its own (Streamable HTTP), all of them share it.
 *
 * @example
 * const payments = new McpPayments(engine);
 * const server = new McpServer({ name: "search", version: "1.0.0" });
 * paidTool(server, payments, "web-search", { inputSchema: { query: z.string() } }, { price: "100" }, search);
 * await server.connect(payments.over(new StdioServerTransport()));
 */
export class McpPayments {
	readonly #engine: PaymentEngine;
	readonly #prices: McpPrices;

	constructor(engine: PaymentEngine) {
		this.#engine = engine;
		this.#prices = new McpPrices(engine);
	}

	/**
	 * What an operation costs, for servers that don't register it by `paidTool`, `paidResource` or `paidPrompt`: by the name of
	 * a tool or prompt, by the address of a resource. Their handlers have to ask `paymentFor`.
	 *
	 * @throws OfferError naming the setting to change
	 */
	price(method: McpOperation, name: string, price: McpPrice): void {
		this.#prices.put(method, name, price);
	}

	/** @throws OfferError */
	priceTemplate(template: ResourceTemplate, price: McpPrice): void {
		this.#prices.putTemplate(template, price);
	}

	/** What can be paid with here: in the answer to `initialize` as `experimental.payment`. */
	get capability(): PaymentCapability {
		return paymentCapability(this.#prices.offered);
	}

	/** A transport on which the priced operations are paid for. Give it to `server.connect` in place of `transport`. */
	over(transport: McpTransport, options: McpTransportOptions = {}): McpTransport {
		const parts = { engine: this.#engine, prices: this.#prices, capability: () => this.capability };
		return new PaidTransport(parts, transport, options);
	}

	/**
	 * The payment for the request that a handler works for.
	 *
	 * @throws UnpaidCallError when there is none
	 */
	paymentFor({ requestId }: Readonly<{ requestId: RequestId }>): Payment {
		const current = paying.getStore();
		if (current?.requestId !== requestId) throw new UnpaidCallError();
		return current.payment;
	}
}
