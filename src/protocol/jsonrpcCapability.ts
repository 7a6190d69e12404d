/** What can be paid with, said before anything is paid (draft-payment-transport-mcp-00, section "Capability Advertisement"). */

import * as z from "zod";
import type { PaymentRange } from "./acceptPayment.ts";
import { PAYMENT_CAPABILITIES_METHOD } from "./jsonrpc.ts";

/** Payment methods and their intents: `{ methods: { evm: { intents: ["session", "charge"] } } }`. */
export type PaymentCapability = Readonly<{
	methods: Readonly<Record<string, Readonly<{ intents: readonly string[] }>>>;
}>;

const MAX_METHODS = 64;
const MAX_INTENTS = 16;

const capabilitySchema = z.looseObject({
	methods: z
		.record(
			z.string().regex(/^[a-z]{1,64}$/),
			z.looseObject({ intents: z.array(z.string().regex(/^[A-Za-z0-9-]{1,64}$/)).max(MAX_INTENTS) }),
		)
		.refine((methods) => Object.keys(methods).length <= MAX_METHODS),
});

/**
 * The capability object of what is offered.
 *
 * @example
 * ```ts
 * paymentCapability([{ method: "evm", intent: "session" }]); // { methods: { evm: { intents: ["session"] } } }
 * ```
 */
export function paymentCapability(offered: Iterable<Readonly<{ method: string; intent: string }>>): PaymentCapability {
	const methods: Record<string, { intents: string[] }> = {};
	for (const { method, intent } of offered) {
		methods[method] ??= { intents: [] };
		if (!methods[method].intents.includes(intent)) methods[method].intents.push(intent);
	}
	return { methods };
}

/** Reads a capability object; `undefined` where it is none, which says nothing about what is taken. */
export function parsePaymentCapability(json: unknown): PaymentCapability | undefined {
	const parsed = capabilitySchema.safeParse(json);
	return parsed.success ? parsed.data : undefined;
}

/** The ranges that a capability object stands for, as `Accept-Payment` would say them; `undefined` when there are none. */
export function rangesOfCapability(capability: PaymentCapability | undefined): readonly PaymentRange[] | undefined {
	const ranges = Object.entries(capability?.methods ?? {}).flatMap(([method, { intents }]) =>
		intents.map((intent) => ({ method, intent, q: 1 })),
	);
	return ranges.length === 0 ? undefined : ranges;
}

/**
 * The notification by which a server on a persistent connection may say what it takes.
 *
 * @example
 * ```ts
 * socket.send(JSON.stringify(capabilitiesNotification(paymentCapability(offers))));
 * ```
 */
export function capabilitiesNotification(capability: PaymentCapability) {
	return { jsonrpc: "2.0", method: PAYMENT_CAPABILITIES_METHOD, params: capability } as const;
}
