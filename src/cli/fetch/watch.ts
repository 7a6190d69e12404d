/** What one command sees of the payments it makes: what was asked for, what was agreed to, what was answered. */
import { type Offer, offersOf, receiptOf } from "../../client/answer.ts";
import type { PaymentClient } from "../../client/client.ts";
import { type ApprovalRequest, amountText, type Policy } from "../../client/policy.ts";
import { type Receipt, receiptToJson } from "../../protocol/index.ts";

/** What was paid. Amounts in base units, as decimal strings. */
export type Paid = Readonly<{
	intent: "session" | "charge";
	amount: string;
	/** With its unit. */
	text: string;
	chainId: number;
	token: string;
	payee: string;
	channelId?: string;
	/** What the channel holds in all. */
	deposit?: string;
	/** What is left of that. */
	left?: string;
	/** What may have been charged and was not acknowledged. */
	uncertain?: string;
}>;

export class PaymentWatch {
	readonly #policy: Policy;
	#offers: readonly Offer[] = [];
	#receipt: Receipt | undefined;
	#charge: ApprovalRequest | undefined;
	#before: ReadonlyMap<string, Amounts> | undefined;

	constructor(policy: Policy) {
		this.#policy = policy;
	}

	/** The last offers that were made. */
	get offers(): readonly Offer[] {
		return this.#offers;
	}

	get receipt(): Readonly<Record<string, unknown>> | undefined {
		return this.#receipt && receiptToJson(this.#receipt);
	}

	/** Looks at every answer, also to vouchers. */
	watch(fetch: typeof globalThis.fetch): typeof globalThis.fetch {
		return async (input, init) => {
			const response = await fetch(input, init);
			const offers = response.status === 402 ? offersOf(response, Date.now()) : [];
			if (offers.length > 0) this.#offers = offers;
			this.#receipt = (response.status < 400 ? receiptOf(response) : undefined) ?? this.#receipt;
			return response;
		};
	}

	/** The offer that somebody is asked to pay. */
	offerOf({ kind, chainId, token, payee }: ApprovalRequest): Offer | undefined {
		const intent = kind === "charge" ? "charge" : "session";
		return this.#offers.find(
			(offer) =>
				offer.intent === intent &&
				offer.request.methodDetails.chainId === chainId &&
				offer.request.currency === token.toLowerCase() &&
				offer.request.recipient === payee.toLowerCase(),
		);
	}

	/** Something is about to be signed. */
	agreed(request: ApprovalRequest, payer: PaymentClient): void {
		if (request.kind === "charge") this.#charge = request;
		else this.#before ??= amountsOf(payer);
	}

	/** What was paid until now. */
	paid(payer: PaymentClient): Paid | undefined {
		if (this.#charge !== undefined) {
			if (this.#receipt === undefined) return undefined;
			const { amount, amountText: text, chainId, token, payee } = this.#charge;
			return { intent: "charge", amount: String(amount), text, chainId, token, payee };
		}
		const before = this.#before;
		if (before === undefined) return undefined;
		for (const [channelId, now] of amountsOf(payer)) {
			const { consumed = 0n, uncertain = 0n } = before.get(channelId) ?? {};
			const amount = now.consumed - consumed;
			const open = now.uncertain - uncertain;
			if (amount <= 0n && open <= 0n) continue;
			const { chainId, token, payee, deposit } = now;
			return {
				intent: "session",
				amount: String(amount),
				text: amountText(this.#policy, now, amount),
				...{ chainId, token, payee, channelId },
				deposit: String(deposit),
				left: String(deposit - now.consumed),
				...(open > 0n && { uncertain: String(open) }),
			};
		}
		return undefined;
	}
}

type Amounts = Readonly<{
	consumed: bigint;
	uncertain: bigint;
	deposit: bigint;
	chainId: number;
	token: string;
	payee: string;
}>;

function amountsOf(payer: PaymentClient): ReadonlyMap<string, Amounts> {
	return new Map(
		payer.channels.map(({ channelId, consumed, uncertain, deposit, parameters }) => {
			const { chainId, token, payee } = parameters;
			return [channelId, { consumed, uncertain, deposit, chainId, token, payee }] as const;
		}),
	);
}
