import type { Payment } from "../admission.ts";
import type { Meter } from "./meter.ts";

/** The payment of a metered route. */
export type MeteredPayment = Payment & Readonly<{ meter: Meter }>;

/** A handler wants to meter a request whose price is not metered. */
export class NotMeteredError extends Error {
	override readonly name = "NotMeteredError";
	readonly code = "NOT_METERED";
	constructor() {
		super(
			'this request is not metered: set metered in its route\'s price, for example { price: "100", metered: true }',
		);
	}
}

/**
 * The meter of a metered route's request.
 *
 * @throws NotMeteredError where its price is not metered
 * @example
 * app.get("/chat", { config: { payment: { price: "100", metered: true } } }, async function* ({ payment }) {
 *   const meter = meterOf(payment);
 *   for await (const token of model(meter.signal)) {
 *     await meter.charge(1);
 *     yield { data: token };
 *   }
 * });
 */
export function meterOf(payment: Payment | null | undefined): Meter {
	if (payment?.meter === undefined) throw new NotMeteredError();
	return payment.meter;
}
