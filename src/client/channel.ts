import type { Hex } from "viem";
import type { Challenge, SessionRequest } from "../protocol/index.ts";
import type { ChannelParameters } from "../voucher/index.ts";

/** A challenge that was checked against the policy, and its request. */
export type Offered<Request> = Readonly<{ challenge: Challenge; request: Request }>;

/** The deposit is used up: this request would need a voucher above it. */
export class DepositExhaustedError extends Error {
	override readonly name = "DepositExhaustedError";
	readonly code = "DEPOSIT_EXHAUSTED";
	readonly channelId: Hex;
	constructor(channelId: Hex, needed: bigint, deposit: bigint) {
		super(
			`channel ${channelId} holds ${deposit} and this request needs ${needed}; close it and let a new one be opened`,
		);
		this.channelId = channelId;
	}
}

/** The server wants more for this channel than was consumed and asked for. Nothing more was signed. */
export class OverchargeError extends Error {
	override readonly name = "OverchargeError";
	readonly code = "OVERCHARGE";
	constructor(channelId: Hex, asked: bigint, owed: bigint) {
		super(`channel ${channelId}: the server asks for a voucher of ${asked}, but at most ${owed} is owed`);
	}
}

/**
 * A channel as the payer keeps it: what was signed, and what was consumed for it. The payer's own count is what the
 * next voucher follows; the server's word only settles what became of requests whose answer was lost.
 */
export class PayerChannel {
	readonly channelId: Hex;
	readonly parameters: ChannelParameters;
	readonly deposit: bigint;
	/** Where it was opened: management requests go there. */
	readonly resource: Readonly<{ url: string; method: string }>;
	/** The challenge that vouchers answer now. */
	challenge: Challenge;
	/** Known to be open, by the server's receipt or by the escrow itself. Until then the deposit may or may not be taken. */
	open = false;
	/** Unix milliseconds until which what was signed for the deposit may still be used. */
	fundableUntil = 0;
	/** The payer's own transaction that opened it, if it was opened like that. */
	fundingHash: Hex | undefined;
	/** Highest cumulative amount signed, in base units. Never falls (I11). */
	signed = 0n;
	/** What was delivered, as far as the server charged for it. */
	consumed = 0n;
	/** Prices of requests on their way. */
	#inFlight = 0n;
	/** Prices of requests whose outcome never became known. */
	#uncertain = 0n;
	/** The highest count of the server's receipts. */
	#charged = 0n;

	constructor(init: Pick<PayerChannel, "channelId" | "parameters" | "deposit" | "resource" | "challenge">) {
		this.channelId = init.channelId;
		this.parameters = init.parameters;
		this.deposit = init.deposit;
		this.resource = init.resource;
		this.challenge = init.challenge;
	}

	/**
	 * The cumulative amount whose voucher pays one more request at `price`. Credit that was signed and not consumed is
	 * used first, so a server that fails does not raise what it could capture. Where the server wants vouchers to rise by
	 * `minVoucherDelta` at least, that much is paid ahead, up to the deposit.
	 *
	 * @throws DepositExhaustedError when the deposit does not reach
	 */
	begin(price: bigint, minVoucherDelta = 0n): bigint {
		const needed = this.consumed + this.#inFlight + price;
		if (needed > this.deposit) throw new DepositExhaustedError(this.channelId, needed, this.deposit);
		this.#inFlight += price;
		if (needed <= this.signed) return this.signed;
		// D4: the first voucher and one for the whole deposit may rise by less.
		const stepped = this.signed === 0n ? needed : this.signed + minVoucherDelta;
		const step = stepped < this.deposit ? stepped : this.deposit;
		return this.#raise(step > needed ? step : needed);
	}

	/** The request was delivered and is paid for. */
	delivered(price: bigint): void {
		this.#inFlight -= price;
		this.consumed += price;
	}

	/** The request was refused or failed: it cost nothing. */
	failed(price: bigint): void {
		this.#inFlight -= price;
	}

	/** The request's answer was lost for good, or does not prove whether it was charged. */
	lost(price: bigint): void {
		this.#inFlight -= price;
		this.#uncertain += price;
	}

	/**
	 * The server says that the running request needs a voucher of `required`. True where answers were lost; more than that
	 * is not signed. From then on lost requests count as delivered until a receipt says how many were: a server that is
	 * asked by many at a time would otherwise claim them from each, bit by bit.
	 *
	 * @throws OverchargeError, DepositExhaustedError
	 */
	catchUp(required: bigint): bigint {
		const known = this.consumed + this.#inFlight;
		const owed = known + this.#uncertain;
		if (required > owed) throw new OverchargeError(this.channelId, required, owed);
		if (required > this.deposit) throw new DepositExhaustedError(this.channelId, required, this.deposit);
		if (required > known) this.#settle(this.consumed + this.#uncertain);
		return this.#raise(required);
	}

	/**
	 * The server's count of a receipt settles what became of lost requests, and what others really cost; never beyond
	 * their prices, or what was signed. Only while nothing is on its way: its count may run ahead of ours otherwise. What
	 * it did not charge stays uncertain, since it may still be at it.
	 */
	settleLost(spent: bigint): void {
		if (spent > this.#charged) this.#charged = spent;
		if (this.#inFlight === 0n) this.#settle(this.#charged < this.signed ? this.#charged : this.signed);
	}

	#settle(charged: bigint): void {
		const priced = this.consumed + this.#uncertain;
		this.consumed = charged < priced ? charged : priced;
		this.#uncertain = priced - this.consumed;
	}

	#raise(amount: bigint): bigint {
		if (amount > this.signed) this.signed = amount;
		return this.signed;
	}
}

/** Channels can be shared by all offers with the same chain, escrow, token and payee. */
export function channelKey({ currency, recipient, methodDetails }: SessionRequest): string {
	return `${methodDetails.chainId}:${methodDetails.escrowContract}:${currency}:${recipient}`;
}
