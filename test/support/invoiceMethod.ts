/** A payment method of somebody else's: invoices that are paid by showing a number that only their payer knows. */
import { createHash, randomBytes } from "node:crypto";
import { decodeRequest, problem } from "../../src/protocol/index.ts";
import {
	type Admission,
	type MethodReceipt,
	type Offer,
	OfferError,
	type PaidRequest,
	type PaymentMethod,
	type Screened,
} from "../../src/server/index.ts";

declare module "sluice/server" {
	interface MethodPrices {
		invoice: InvoicePrice;
	}
}

export type InvoicePrice = Readonly<{ method: "invoice"; cents: bigint; description?: string }>;

type InvoiceOffer = Offer;
type InvoiceRequest = Readonly<{ amount: string; currency: string }>;

/** What the method was asked to do, and who has paid what. */
export type InvoiceMethod = PaymentMethod<InvoiceOffer, InvoiceRequest> &
	Readonly<{
		calls: { resumed: number; kept: number };
		/** Writes an invoice; whoever shows its number pays by it, once. */
		invoice(cents: bigint): string;
		/** The state of an invoice. */
		stateOf(number: string): "unpaid" | "held" | "paid" | undefined;
	}>;

export function invoice(): InvoiceMethod {
	const invoices = new Map<string, { cents: bigint; state: "unpaid" | "held" | "paid" }>();
	const nameOf = (number: string) => createHash("sha256").update(number).digest("hex");
	const calls = { resumed: 0, kept: 0 };
	return {
		name: "invoice",
		calls,
		invoice(cents) {
			const number = randomBytes(16).toString("hex");
			invoices.set(nameOf(number), { cents, state: "unpaid" });
			return number;
		},
		stateOf: (number) => invoices.get(nameOf(number))?.state,
		parseOffer(price) {
			const { cents, description } = price as InvoicePrice;
			if (typeof cents !== "bigint" || cents <= 0n) throw new OfferError("cents: must be a bigint above 0");
			return {
				method: "invoice",
				intent: "charge",
				amount: cents,
				bindBody: false,
				...(description !== undefined && { description }),
			};
		},
		request: ({ amount }) => ({ amount: String(amount), currency: "eur" }),
		decode(challenge) {
			const { amount, currency } = decodeRequest(challenge);
			return typeof amount === "string" && typeof currency === "string" ? { amount, currency } : undefined;
		},
		matches: (offer, challenge, { amount }) => challenge.intent === offer.intent && amount === String(offer.amount),
		takesExpired: () => false,
		isManagement: () => false,
		async admit(
			_request: PaidRequest,
			{ credential, offer }: Screened<InvoiceOffer, InvoiceRequest>,
		): Promise<Admission> {
			const { number } = credential.payload as { number?: unknown };
			const name = nameOf(String(number));
			const found = invoices.get(name);
			if (found === undefined || found.cents !== offer.amount || found.state !== "unpaid")
				return { kind: "refused", problem: problem("verification-failed", "There is no such invoice to pay.") };
			found.state = "held";
			const receipt: MethodReceipt = {
				method: "invoice",
				status: "success",
				timestamp: new Date().toISOString(),
				reference: name,
				cents: String(offer.amount),
			};
			return {
				kind: "admitted",
				payment: { intent: "charge", amount: offer.amount, payer: "the bearer" },
				async capture() {
					found.state = "paid";
					return { kind: "captured", receipt };
				},
				async release() {
					if (found.state === "held") found.state = "unpaid";
				},
			};
		},
		async resume() {
			calls.resumed++;
		},
		async keepHouse() {
			calls.kept++;
		},
	};
}
