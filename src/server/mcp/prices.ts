import type { ResourceTemplate } from "@modelcontextprotocol/sdk/server/mcp.js";
import { isJsonObject, type JsonObject, type RpcMessage } from "../../protocol/index.ts";
import type { Refused } from "../admission.ts";
import type { PaymentEngine } from "../engine.ts";
import { assertRpcOffers } from "../jsonrpc/binding.ts";
import type { Offer } from "../method.ts";
import { type Price, PriceList } from "../price.ts";

/** The operations that can be paid for (draft-payment-transport-mcp-00, MCP Covered Operations). */
export type McpOperation = "tools/call" | "resources/read" | "prompts/get";

/** A call as a price that is a function sees it. Nothing in it was checked: a call about the payment alone has no arguments. */
export type McpCall = Readonly<{ method: McpOperation; params: JsonObject }>;

/** What an operation costs: a price, several for a choice (by session and by charge, say), or a function of the call. */
export type McpPrice = Price<McpCall>;

/** A call to an operation that has a price. */
export type PricedCall = Readonly<{ call: McpCall; price: McpPrice; operation: string }>;

/** The prices of one server's operations. */
export class McpPrices {
	readonly #list: PriceList<McpCall>;
	readonly #named = new Map<string, McpPrice>();
	readonly #templates = new Map<string, Readonly<{ template: ResourceTemplate; price: McpPrice }>>();

	constructor(engine: PaymentEngine) {
		this.#list = new PriceList(engine);
	}

	/** @throws OfferError naming the operation and the setting to change */
	put(method: McpOperation, name: string, price: McpPrice): void {
		const key = keyOf(method, name);
		assertRpcOffers(key, this.#list.constant(key, price) ?? []);
		this.#named.set(key, price);
	}

	/** @throws OfferError */
	putTemplate(template: ResourceTemplate, price: McpPrice): void {
		const key = keyOf("resources/read", template.uriTemplate.toString());
		assertRpcOffers(key, this.#list.constant(key, price) ?? []);
		this.#templates.set(key, { template, price });
	}

	/** What can be paid with here, as far as prices are known before they are asked for. */
	get offered(): readonly Offer[] {
		const prices = [...this.#named, ...[...this.#templates].map(([key, { price }]) => [key, price] as const)];
		return prices.flatMap(([key, price]) => this.#list.constant(key, price) ?? []);
	}

	/** The call of a message, if it is one to an operation that has a price. */
	find({ method, params }: Pick<RpcMessage, "method" | "params">): PricedCall | undefined {
		if (!isOperation(method) || !isJsonObject(params)) return undefined;
		const name = method === "resources/read" ? params.uri : params.name;
		if (typeof name !== "string") return undefined;
		const key = keyOf(method, name);
		const call = { method, params };
		const named = this.#named.get(key);
		if (named !== undefined) return { call, price: named, operation: key };
		if (method !== "resources/read") return undefined;
		// As the SDK does: exact addresses first, then templates in the order in which they were registered.
		for (const { template, price } of this.#templates.values()) {
			if (template.uriTemplate.match(normalised(name)) !== null) return { call, price, operation: key };
		}
		return undefined;
	}

	offersOf({ call, price, operation }: PricedCall): Promise<readonly Offer[] | Refused> {
		return this.#list.of(operation, price, call);
	}
}

function isOperation(method: string): method is McpOperation {
	return method === "tools/call" || method === "resources/read" || method === "prompts/get";
}

function keyOf(method: McpOperation, name: string): string {
	return `${method} ${method === "resources/read" ? normalised(name) : name}`;
}

/** An address as the SDK compares it. */
function normalised(uri: string): string {
	return URL.parse(uri)?.href ?? uri;
}
