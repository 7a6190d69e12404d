import type { PaymentPolicy } from "./schema.ts";

/**
 * A policy out of plain JSON data, amounts as decimal strings in the units of their currency.
 *
 * @throws PolicyError naming the path and what to write there
 */
export function parsePolicyDocument(_value: unknown): PaymentPolicy {
	throw new Error("not yet");
}
