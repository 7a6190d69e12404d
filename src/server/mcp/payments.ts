import type { ResourceTemplate } from "@modelcontextprotocol/sdk/server/mcp.js";
import type { Transport as McpTransport } from "@modelcontextprotocol/sdk/shared/transport.js";
import type { RequestId } from "@modelcontextprotocol/sdk/types.js";
import { type PaymentCapability, paymentCapability } from "../../protocol/index.ts";
import type { Payment } from "../admission.ts";
import type { PaymentEngine } from "../engine.ts";
import { type McpTransportOptions, PaidTransport } from "./paidTransport.ts";
import { type Paying, paying } from "./paying.ts";
import { type McpOperation, type McpPrice, McpPrices } from "./prices.ts";
import { MAX_RUNNING_IN_ALL, Slots } from "./slots.ts";

/** A paid operation was reached past its payment: nothing is given away. */
export class UnpaidCallError extends Error {
	override readonly name = "UnpaidCallError";
	readonly code = "UNPAID_CALL";
	constructor() {
		super("this operation is paid for: connect its server by payments.over(transport)");
	}
}

/** What holds for all connections. */
export type McpPaymentsOptions = Readonly<{
	/** How many paid calls may run at a time on all connections together (default 4096): where each request has its own, this is the bound. */
	maxRunning?: number;
}>;

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
	readonly #slots: Slots;

	constructor(engine: PaymentEngine, { maxRunning = MAX_RUNNING_IN_ALL }: McpPaymentsOptions = {}) {
		this.#engine = engine;
		this.#prices = new McpPrices(engine);
		this.#slots = new Slots(maxRunning);
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
		const parts = { engine: this.#engine, prices: this.#prices, slots: this.#slots, capability: () => this.capability };
		return new PaidTransport(parts, transport, options);
	}

	/**
	 * The payment for the request that a handler works for.
	 *
	 * @throws UnpaidCallError when there is none
	 */
	paymentFor({ requestId }: Readonly<{ requestId: RequestId }>): Payment {
		return currentFor(requestId).payment;
	}

	/** Runs a handler for the payment of its request; its call counts as running until it has ended. */
	async carryOut<Result>(
		{ requestId }: Readonly<{ requestId: RequestId }>,
		handler: (payment: Payment) => Result | Promise<Result>,
	): Promise<Result> {
		const { payment, signal, slot } = currentFor(requestId);
		// Given up before it began: it has no place any more.
		signal.throwIfAborted();
		const work = (async () => handler(payment))();
		slot.until(work);
		return work;
	}
}

function currentFor(requestId: RequestId): Paying {
	const current = paying.getStore();
	if (current?.requestId !== requestId) throw new UnpaidCallError();
	return current;
}
