import type { Hex } from "viem";
import type { Challenge } from "../protocol/index.ts";
import type { ChannelParameters } from "../voucher/index.ts";
import { least } from "./least.ts";
import type { PendingTopUp } from "./pending.ts";
import { type PayerChannelState, stateOfTopUp } from "./state.ts";
import { NewestStream } from "./stream/newest.ts";
import type { SentTransaction } from "./wallet.ts";

/** A challenge that was checked against the policy, and its request. */
export type Offered<Request> = Readonly<{ challenge: Challenge; request: Request }>;

/** The deposit is used up, and the policy does not allow as much to be added as this request needs. */
export class DepositExhaustedError extends Error {
	override readonly name = "DepositExhaustedError";
	readonly code = "DEPOSIT_EXHAUSTED";
	readonly channelId: Hex;
	constructor(channelId: Hex, needed: bigint, deposit: bigint) {
		super(
			`channel ${channelId} holds ${deposit}, this request needs ${needed}, and the policy allows no such top-up; close it and let a new one be opened`,
		);
		this.channelId = channelId;
	}
}

/** The server wants more for this channel than was consumed and asked for. Nothing more was signed. */
export class OverchargeError extends Error {
	override readonly name = "OverchargeError";
	readonly code = "OVERCHARGE";
	constructor(channelId: Hex, asked: bigint, owed: bigint, hint = "") {
		super(`channel ${channelId}: the server asks for a voucher of ${asked}, but at most ${owed} is owed${hint}`);
	}
}

/**
 * A channel as the payer keeps it: what was signed, and what was consumed for it. The payer's own count is what the
 * next voucher follows; the server's word only settles what became of requests whose answer was lost.
 */
export class PayerChannel {
	readonly channelId: Hex;
	/** What the id is made of. The salt of a channel that only the escrow told of is not known. */
	readonly parameters: Omit<ChannelParameters, "salt"> & Readonly<{ salt: Hex | undefined }>;
	/** In the escrow, as far as is known, in base units. No voucher is signed above it, but one that goes with its top-up. */
	deposit: bigint;
	/** Where it was opened: management requests go there. */
	readonly resource: Readonly<{ url: string; method: string }>;
	/** The challenge that vouchers answer now. */
	challenge: Challenge | undefined;
	/** The server named it, and nothing of it is known but what the escrow says. */
	readonly isUnrecorded: boolean;
	/** The one top-up that was signed or sent and of which it is not known yet whether the deposit has it (I4). */
	topUp: PendingTopUp | undefined;
	/** An answer has broken off while it was paid for, and no receipt has told since what it has cost. */
	hasBrokenStream: boolean;
	/** Until its server has refused a top-up that there was no need for yet. */
	topsUpEarly = true;
	/** The Permit2 nonce of its opening: however often that is signed, it can be executed once. */
	permitNonce: bigint | undefined;
	/** Known to be open, by the server's receipt or by the escrow itself. Until then the deposit may or may not be taken. */
	open = false;
	/** Unix milliseconds until which what was signed for the deposit may still be used. */
	fundableUntil = 0;
	/** The payer's own transaction that opened it, if it was opened like that. */
	funding: SentTransaction | undefined;
	/** Highest cumulative amount signed, in base units. Never falls (I11). */
	signed = 0n;
	/** What was delivered, as far as the server charged for it. */
	consumed = 0n;
	/** Prices of requests on their way. */
	#inFlight = 0n;
	/** Prices of requests whose outcome never became known. */
	#uncertain: bigint;
	/** The highest count of the server's receipts. */
	#charged: bigint;
	readonly newestStream = new NewestStream();
	/** What stops each answer that is being read and paid for. */
	readonly #streams = new Set<() => void>();
	#toppingUp: Promise<unknown> | undefined;

	constructor(init: ChannelInit) {
		this.channelId = init.channelId;
		this.parameters = init.parameters;
		this.deposit = init.deposit;
		this.resource = init.resource;
		this.challenge = init.challenge;
		this.topUp = init.topUp;
		this.isUnrecorded = init.isUnrecorded ?? false;
		this.signed = init.signed ?? 0n;
		this.consumed = init.consumed ?? 0n;
		this.#uncertain = init.uncertain ?? 0n;
		this.#charged = this.consumed;
		// An earlier client may have left one.
		this.hasBrokenStream = this.#uncertain > 0n;
	}

	/** What was delivered and is in the server's own count too. Never falls, as `consumed` may when the server charged less. */
	get accounted(): bigint {
		return least(this.#charged, this.consumed);
	}

	/** What may have been consumed besides. */
	get uncertain(): bigint {
		return this.#uncertain;
	}

	/** What has to be deposited for one more request at `price`. */
	needs(price: bigint): bigint {
		return this.consumed + this.#inFlight + price;
	}

	/**
	 * The cumulative amount whose voucher pays one more request at `price`. Credit that was signed and not consumed is
	 * used first, so a server that fails does not raise what it could capture. Where the server wants vouchers to rise by
	 * `minVoucherDelta` at least, that much is paid ahead, up to the deposit.
	 *
	 * @param limit - the deposit, or what it is after the top-up that goes with the voucher
	 * @param tried - what an earlier try of the same request has in the books: it is charged once (I6), so this try stands
	 *   for that one
	 * @throws DepositExhaustedError when the limit does not reach
	 */
	begin(price: bigint, minVoucherDelta = 0n, limit = this.deposit, tried = 0n): bigint {
		const open = least(tried, this.#uncertain);
		const settled = least(tried - open, this.consumed);
		const needed = this.needs(price) - settled;
		if (needed > limit) throw new DepositExhaustedError(this.channelId, needed, limit);
		this.#uncertain -= open;
		this.consumed -= settled;
		this.#inFlight += price;
		// More than the limit was signed only for a top-up that never came: no server can use that.
		if (needed <= this.signed) return least(this.signed, limit);
		// D4: the first voucher and one for the whole deposit may rise by less.
		const stepped = this.signed === 0n ? needed : this.signed + minVoucherDelta;
		const step = least(stepped, limit);
		return this.#raise(step > needed ? step : needed);
	}

	/**
	 * Books `amount` more for an answer that is being read, as far as credit that was signed and not consumed reaches:
	 * nothing is signed for it. Returns how much that is.
	 */
	hold(amount: bigint): bigint {
		const held = least(amount, least(this.signed, this.deposit) - this.needs(0n));
		if (held <= 0n) return 0n;
		this.#inFlight += held;
		return held;
	}

	/** An answer is being read from now on: the server's count runs behind until it ends. */
	beginStream(stop: () => void): void {
		this.#streams.add(stop);
	}

	/** Ends whatever is being read on this channel. */
	stopStreams(): void {
		for (const stop of [...this.#streams]) stop();
	}

	/**
	 * An answer has ended, or nobody reads on. `rest` was booked for it and not delivered.
	 *
	 * @param spent - the server's count after it; without one, what became of the rest is not known
	 */
	endStream(stop: () => void, rest: bigint, spent?: bigint): void {
		this.#streams.delete(stop);
		const before = this.#uncertain;
		this.lost(rest);
		this.hasBrokenStream ||= spent === undefined;
		if (spent === undefined) return;
		this.settleLost(spent);
		if (this.#isIdle) this.#uncertain = least(this.#uncertain, before);
	}

	/** Counts up to `amount` of what is uncertain as consumed, never beyond what was signed. Returns how much that was. */
	claim(amount: bigint): bigint {
		const claimed = least(amount, this.#uncertain, this.signed - this.needs(0n));
		if (claimed <= 0n) return 0n;
		this.#uncertain -= claimed;
		this.consumed += claimed;
		return claimed;
	}

	/** A receipt at the head of an answer that goes on: its count says nothing of this answer yet. */
	noteSpent(spent: bigint): void {
		if (spent > this.#charged) this.#charged = spent;
		if (this.#isIdle && spent > this.consumed) this.claim(spent - this.consumed);
	}

	/** A top-up on its way: whoever needs it waits for it. */
	get toppingUp(): Promise<unknown> | undefined {
		return this.#toppingUp;
	}

	/** Tops up; only while nobody else does. */
	topUpAlone<T>(task: () => Promise<T>): Promise<T> {
		const turn = task().finally(() => {
			this.#toppingUp = undefined;
		});
		this.#toppingUp = turn;
		return turn;
	}

	/** What became known of the deposit. It never falls while the channel is open. */
	deposited(deposit: bigint): void {
		if (deposit > this.deposit) this.deposit = deposit;
	}

	/**
	 * All that another client needs to go on with this channel, without any key: plain data, amounts as decimal strings.
	 * What is on its way right now counts as uncertain. Two clients must not use a channel at the same time.
	 *
	 * @example
	 * const states = payer.channels.map((channel) => channel.state());
	 * new PaymentClient({ account, client, policy, resume: states });
	 */
	state(): PayerChannelState {
		const { salt, ...parameters } = this.parameters;
		// What was claimed and not signed for yet can still be claimed.
		const consumed = least(this.consumed, this.signed);
		return {
			channelId: this.channelId,
			...parameters,
			...(salt !== undefined && { salt }),
			deposit: String(this.deposit),
			signed: String(this.signed),
			consumed: String(consumed),
			uncertain: String(this.#uncertain + this.#inFlight + this.consumed - consumed),
			resource: this.resource,
			...(this.topUp !== undefined && stateOfTopUp(this.topUp)),
			...(!this.open && this.funding !== undefined && { funding: this.funding }),
		};
	}

	// Each ends what `begin` began, and returns what the request now has in the books: the `tried` of its next try.

	/** The request was delivered and is paid for. */
	delivered(price: bigint): bigint {
		this.#inFlight -= price;
		this.consumed += price;
		return price;
	}

	/** The try was refused or failed: it cost nothing. What was `tried` before may still have. */
	failed(price: bigint, tried = 0n): bigint {
		this.#inFlight -= price;
		this.#uncertain += tried;
		return tried;
	}

	/** The request's answer was lost for good, or does not prove whether it was charged: for this try or the one before. */
	lost(price: bigint, tried = 0n): bigint {
		const most = price > tried ? price : tried;
		this.#inFlight -= price;
		this.#uncertain += most;
		return most;
	}

	/**
	 * The server says that the running request at `price` needs a voucher of `required`. True where answers were lost, but
	 * never by more than what was signed for them: nothing else can have been charged. More than that is not signed. From then
	 * on lost requests count as delivered until a receipt says how many were: a server that is asked by many at a time would
	 * otherwise claim them from each, bit by bit. What is more than the deposit is owed, but not signed before there is a
	 * deposit for it. A claim of no more than the next step of `minVoucherDelta` raises nothing by itself: the next voucher
	 * takes that step (D3).
	 *
	 * @throws OverchargeError
	 */
	catchUp(required: bigint, price: bigint, minVoucherDelta = 0n): bigint {
		const known = this.consumed + this.#inFlight;
		const owed = known + this.#uncertain;
		// What an earlier client has signed for a channel that only the escrow told of is not known.
		const chargeable = this.parameters.salt === undefined ? owed : this.signed;
		const most = least(owed, chargeable + price);
		const isStep = minVoucherDelta > 0n && required <= this.signed + minVoucherDelta;
		if (required > most && !isStep) throw new OverchargeError(this.channelId, required, most);
		if (required > known) this.#settle(least(this.consumed + this.#uncertain, chargeable));
		return required > this.deposit || required > most ? this.signed : this.#raise(required);
	}

	/**
	 * The server's count of a receipt settles what became of lost requests, and what others really cost; never beyond
	 * their prices, or what was signed. Only while nothing is on its way: its count may run ahead of ours otherwise. What
	 * it did not charge stays uncertain, since it may still be at it; unless the receipt has the last word on an answer that
	 * is paid by what it uses.
	 */
	settleLost(spent: bigint, isLastWord = false): void {
		if (spent > this.#charged) this.#charged = spent;
		if (!this.#isIdle) return;
		const before = this.#uncertain;
		this.#settle(least(this.#charged, this.signed));
		if (isLastWord) this.#uncertain = least(this.#uncertain, before);
	}

	get #isIdle(): boolean {
		return this.#inFlight === 0n && this.#streams.size === 0;
	}

	#settle(charged: bigint): void {
		this.hasBrokenStream = false;
		const priced = this.consumed + this.#uncertain;
		this.consumed = least(charged, priced);
		this.#uncertain = priced - this.consumed;
	}

	#raise(amount: bigint): bigint {
		if (amount > this.signed) this.signed = amount;
		return this.signed;
	}
}

/** What a channel begins with; amounts are zero unless they are given. */
export type ChannelInit = Pick<PayerChannel, "channelId" | "parameters" | "deposit" | "resource"> &
	Readonly<{ challenge?: Challenge | undefined }> &
	Partial<
		Readonly<{ signed: bigint; consumed: bigint; uncertain: bigint; topUp: PendingTopUp; isUnrecorded: boolean }>
	>;
