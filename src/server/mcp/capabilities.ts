import type { JSONRPCMessage, RequestId } from "@modelcontextprotocol/sdk/types.js";
import {
	formatAcceptPayment,
	isJsonObject,
	type PaymentCapability,
	parsePaymentCapability,
	rangesOfCapability,
} from "../../protocol/index.ts";
import type { RpcRequest } from "../jsonrpc/types.ts";

/** What the two sides of one connection say that they can pay with, and take (draft-payment-transport-mcp-00, MCP Capability Advertisement). */
export class Capabilities {
	readonly #own: () => PaymentCapability;
	#acceptPayment: string | undefined;
	#initializeId: RequestId | undefined;

	/** @param own what is taken here, at the time it is asked for */
	constructor(own: () => PaymentCapability) {
		this.#own = own;
	}

	/** What the client has said that it can pay with, as `Accept-Payment` would say it; `undefined`: anything. */
	get acceptPayment(): string | undefined {
		return this.#acceptPayment;
	}

	/** Learns it from the client's `initialize`. */
	meet({ id, params }: RpcRequest): void {
		this.#initializeId = id ?? undefined;
		const ranges = rangesOfCapability(paymentOf(isJsonObject(params) ? params.capabilities : undefined));
		try {
			this.#acceptPayment = ranges && formatAcceptPayment(ranges);
		} catch {
			// More than anybody has: then all is offered.
			this.#acceptPayment = undefined;
		}
	}

	/** The server's answer to `initialize` says what can be paid with; any other message stays as it is. */
	advertised(message: JSONRPCMessage): JSONRPCMessage {
		if (this.#initializeId === undefined || !("result" in message) || message.id !== this.#initializeId) return message;
		this.#initializeId = undefined;
		const { capabilities } = message.result;
		const own = isJsonObject(capabilities) ? capabilities : {};
		const experimental = isJsonObject(own.experimental) ? own.experimental : {};
		const advertised = { ...own, experimental: { ...experimental, payment: this.#own() } };
		return { ...message, result: { ...message.result, capabilities: advertised } };
	}
}

function paymentOf(capabilities: unknown): PaymentCapability | undefined {
	const experimental = isJsonObject(capabilities) ? capabilities.experimental : undefined;
	return isJsonObject(experimental) ? parsePaymentCapability(experimental.payment) : undefined;
}
