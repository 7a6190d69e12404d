/** What a client says it can pay with: the `Accept-Payment` field (core draft, section "Client Payment Preferences"). */

/** Longest field that is read. Longer ones count as malformed. */
export const MAX_ACCEPT_PAYMENT_LENGTH = 4_096;

/** One range of the field. `"*"` stands for any method, or any intent. */
export interface PaymentRange {
	/** Lowercase letters, or `"*"`. */
	readonly method: string;
	/** Letters, digits and hyphens, or `"*"`. Case counts. */
	readonly intent: string;
	/** `0..1` in thousandths; 0 means "do not use". */
	readonly q: number;
}

const METHOD = /^(?:[a-z]+|\*)$/;
const INTENT = /^(?:[A-Za-z0-9-]+|\*)$/;
/** `weight` of RFC 9110, section 12.4.2, of which the name is in either case. */
const WEIGHT = /^[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)$/;

/**
 * Reads the field. Empty list elements are passed over, as RFC 9110 (section 5.6.1.2) has recipients do.
 *
 * Source: core draft, section "Client Payment Preferences".
 *
 * @param header the field's value, several lines of it joined with commas; `undefined` or `null` where it is absent
 * @returns the ranges in their order; `undefined` where the field is absent, malformed, without a range or longer than
 * 4,096 characters, all of which a server takes for "anything"
 * @example
 * ```ts
 * parseAcceptPayment("evm/session, evm/charge;q=0.5");
 * // [{ method: "evm", intent: "session", q: 1 }, { method: "evm", intent: "charge", q: 0.5 }]
 * ```
 */
export function parseAcceptPayment(header: string | null | undefined): readonly PaymentRange[] | undefined {
	if (header === undefined || header === null || header.length > MAX_ACCEPT_PAYMENT_LENGTH) return undefined;
	const ranges: PaymentRange[] = [];
	for (const element of header.split(",")) {
		const text = trimmed(element);
		if (text === "") continue;
		const range = parseRange(text);
		if (range === undefined) return undefined;
		ranges.push(range);
	}
	return ranges.length === 0 ? undefined : ranges;
}

/**
 * Writes the field.
 *
 * @param ranges in any order: the weights alone rank them
 * @throws {PaymentRangeError} for a range that the field can't say, for none, and for more than 4,096 characters
 * @example
 * ```ts
 * formatAcceptPayment([{ method: "evm", intent: "*", q: 1 }, { method: "tempo", intent: "charge", q: 0.25 }]);
 * // "evm/*, tempo/charge;q=0.25"
 * ```
 */
export function formatAcceptPayment(ranges: readonly PaymentRange[]): string {
	if (ranges.length === 0) throw new PaymentRangeError("there is no range");
	const text = ranges.map(formatRange).join(", ");
	if (text.length > MAX_ACCEPT_PAYMENT_LENGTH) throw new PaymentRangeError("the field would be too long");
	return text;
}

/**
 * The offers that a client can use, best first: those whose most specific matching range has a weight above 0, by that
 * weight, and in the server's order where weights are equal. A range that names the method is more specific than one that
 * names only the intent; of two ranges that name the same, the first counts.
 *
 * Source: core draft, section "Client Payment Preferences".
 *
 * @param ranges what {@link parseAcceptPayment} made of the field
 * @returns all offers, unchanged, when there are no ranges or no offer is left
 * @example
 * ```ts
 * preferred(offers, parseAcceptPayment(request.headers["accept-payment"]));
 * ```
 */
export function preferred<Offered extends { readonly method: string; readonly intent: string }>(
	offers: readonly Offered[],
	ranges: readonly PaymentRange[] | undefined,
): readonly Offered[] {
	if (ranges === undefined) return offers;
	const usable = offers.map((offer) => ({ offer, q: preferenceWeight(offer, ranges) })).filter(({ q }) => q > 0);
	if (usable.length === 0) return offers;
	return usable.sort((one, other) => other.q - one.q).map(({ offer }) => offer);
}

/**
 * The `q` that ranges give to one offer: of the most specific range that matches it, 0 where none does.
 *
 * @example
 * ```ts
 * preferenceWeight({ method: "evm", intent: "charge" }, [{ method: "evm", intent: "*", q: 0.5 }]); // 0.5
 * ```
 */
export function preferenceWeight(
	offer: { readonly method: string; readonly intent: string },
	ranges: readonly PaymentRange[],
): number {
	let weight = 0;
	let best = -1;
	for (const { method, intent, q } of ranges) {
		if ((method !== "*" && method !== offer.method) || (intent !== "*" && intent !== offer.intent)) continue;
		const specificity = (method === "*" ? 0 : 2) + (intent === "*" ? 0 : 1);
		if (specificity <= best) continue;
		best = specificity;
		weight = q;
	}
	return weight;
}

function parseRange(text: string): PaymentRange | undefined {
	const [token = "", weight, ...more] = text.split(";").map(trimmed);
	const [method = "", intent = "", ...rest] = token.split("/");
	if (more.length > 0 || rest.length > 0 || !METHOD.test(method) || !INTENT.test(intent)) return undefined;
	if (weight === undefined) return { method, intent, q: 1 };
	const [, q] = weight.match(WEIGHT) ?? [];
	return q === undefined ? undefined : { method, intent, q: Number(q) };
}

function formatRange({ method, intent, q }: PaymentRange): string {
	if (!METHOD.test(method)) throw new PaymentRangeError("a method is lowercase letters or *");
	if (!INTENT.test(intent)) throw new PaymentRangeError("an intent is letters, digits and hyphens, or *");
	if (!(q >= 0 && q <= 1) || Number(q.toFixed(3)) !== q) throw new PaymentRangeError("q is 0 to 1 in thousandths");
	return q === 1 ? `${method}/${intent}` : `${method}/${intent};q=${q}`;
}

/** Without optional white space around it: blanks and tabs only, where `trim` would take more. */
function trimmed(text: string): string {
	return text.replace(/^[ \t]+/, "").replace(/(?<![ \t])[ \t]+$/, "");
}

/** A list of ranges that `Accept-Payment` can't say. */
export class PaymentRangeError extends Error {
	override readonly name = "PaymentRangeError";
	/** Stable code of this error. */
	readonly code = "payment_range";

	constructor(reason: string) {
		super(`The payment ranges can't be written: ${reason}.`);
	}
}
