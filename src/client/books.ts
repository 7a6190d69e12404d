import type { Hex } from "viem";
import { DepositExhaustedError, OverchargeError } from "./bookErrors.ts";
import { least } from "./least.ts";

/** What the books of a channel begin with, in base units. */
export type OpeningBalance = Readonly<{
	channelId: Hex;
	deposit: bigint;
	signed: bigint;
	consumed: bigint;
	uncertain: bigint;
	/** Whether all that was ever signed for the channel is in `signed`. */
	isRecorded: boolean;
}>;

/** How an answer that was paid while it was read has ended. */
export type StreamEnd = Readonly<{
	/** All of it was read. */
	isComplete: boolean;
	/** The server's count after it, where a receipt says it. */
	spent?: bigint | undefined;
}>;

/**
 * The books of a channel: what was signed, and what was consumed for it. The payer's own count is what the next voucher
 * follows; the server's word only settles what became of requests whose answer was lost, and what answers have cost whose
 * price is known to nobody else.
 */
export class ChannelBooks {
	readonly channelId: Hex;
	/** In the escrow, as far as is known, in base units. No voucher is signed above it, but one that goes with its top-up. */
	deposit: bigint;
	/** Highest cumulative amount signed, in base units. Never falls (I11). */
	signed: bigint;
	/** What was delivered, as far as the server charged for it. */
	consumed: bigint;
	/** What is signed before the next payment must not rest on a guess: the server is asked for its count first. */
	asksFirst = false;
	/** Prices of requests on their way. */
	#inFlight = 0n;
	/** Prices of requests whose outcome never became known. */
	#uncertain: bigint;
	/** Of that, what answers have left that ended well, and without a receipt: the next count that is asked for settles it. */
	#unsaid = 0n;
	/** Of that, what a receipt has the last word on, and what is gone as soon as nothing is on its way. */
	#unused = 0n;
	/** The highest count of the server's receipts. */
	#charged: bigint;
	/** An answer has broken off while it was paid for: the server's count may not be at its end yet. */
	#isBroken: boolean;
	/** A metered answer was read, and no receipt has told since what it has cost. */
	#isOpenEnded = false;
	/** How many have begun and nobody has read. */
	#unread = 0;
	#overclaims = 0;
	readonly #isRecorded: boolean;
	/** What stops each answer that is being read and paid for. */
	readonly #streams = new Set<() => void>();

	constructor({ channelId, deposit, signed, consumed, uncertain, isRecorded }: OpeningBalance) {
		this.channelId = channelId;
		this.deposit = deposit;
		this.signed = signed;
		this.consumed = consumed;
		this.#uncertain = uncertain;
		this.#charged = consumed;
		this.#isRecorded = isRecorded;
		// An earlier client may have left one.
		this.#isBroken = uncertain > 0n;
	}

	/** What was delivered and is in the server's own count too. Never falls, as `consumed` may when the server charged less. */
	get accounted(): bigint {
		return least(this.#charged, this.consumed);
	}

	/** How often in a row the server has claimed more than is owed: no receipt came in between. */
	get overclaims(): number {
		return this.#overclaims;
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

	/** A metered answer has begun, of which nothing is known to be delivered: what it was to cost stays open until it is read. */
	begun(price: bigint, isEstimate: boolean, tried = 0n): bigint {
		this.#unread++;
		this.asksFirst ||= isEstimate;
		return this.lost(price, tried);
	}

	/**
	 * An answer is being read from now on: the server's count runs behind until it ends.
	 *
	 * @returns how much of its `price` is on its way by that: a receipt may have settled some of it meanwhile
	 */
	beginStream(stop: () => void, price: bigint): bigint {
		this.#streams.add(stop);
		this.#unread--;
		this.#isOpenEnded = true;
		const open = least(price, this.#uncertain);
		const claimed = least(price - open, this.consumed - this.accounted);
		this.#uncertain -= open;
		this.consumed -= claimed;
		this.#inFlight += open + claimed;
		return open + claimed;
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
	endStream(stop: () => void, rest: bigint, { isComplete, spent }: StreamEnd): void {
		this.#streams.delete(stop);
		if (!isComplete) {
			this.lost(rest);
			this.#isBroken = true;
			return;
		}
		this.leftOver(rest, spent !== undefined);
		if (spent !== undefined) this.settleLost(spent);
	}

	/**
	 * Was booked for an answer that has ended well, and not delivered. Whether it was charged its receipt says; without one, the
	 * server's next count that is asked for.
	 */
	leftOver(amount: bigint, hasReceipt: boolean): void {
		this.lost(amount);
		if (hasReceipt) this.#unused += amount;
		else this.#unsaid += amount;
		this.asksFirst ||= !hasReceipt && amount > 0n;
	}

	/** Whether the server has to be asked what was spent, for want of a receipt. */
	get isOpenEnded(): boolean {
		return this.#isBroken || this.#isOpenEnded || this.#unread > 0;
	}

	/**
	 * The server's count, asked for where `isOpenEnded`. It settles what answers have cost that ended well. One that has broken
	 * off may not be in it to its end, so nothing that was delivered is taken back for it: false where it says less than that.
	 */
	told(spent: bigint): boolean {
		if (this.#isBroken) {
			this.noteSpent(spent);
			return spent >= this.consumed;
		}
		if (this.isIdle) {
			this.#unused += this.#unsaid;
			this.#unsaid = 0n;
		}
		this.settleLost(spent);
		return true;
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
		if (this.isIdle && spent > this.consumed) this.claim(spent - this.consumed);
	}

	// Each ends what `begin` began, and returns what the request now has in the books: the `tried` of its next try.

	/** The request was delivered and is paid for. */
	delivered(price: bigint): bigint {
		this.#inFlight -= price;
		this.consumed += price;
		this.#overclaims = 0;
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
		const chargeable = this.#isRecorded ? this.signed : owed;
		const most = least(owed, chargeable + price);
		const settled = least(this.consumed + this.#uncertain, chargeable);
		// A step that the next voucher would not take is none.
		const isTaken = required <= this.signed || settled + this.#inFlight > this.signed;
		const isStep = minVoucherDelta > 0n && required <= this.signed + minVoucherDelta && isTaken;
		if (required > most && !isStep) {
			this.#overclaims++;
			throw new OverchargeError(this.channelId, required, most);
		}
		if (required > known) {
			this.#settle(settled);
			this.#isOpenEnded = true;
		}
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
		if (!this.isIdle) return;
		const before = this.#uncertain - least(this.#unused, this.#uncertain);
		const isLast = isLastWord || this.#unused > 0n;
		this.#settle(least(this.#charged, this.signed));
		if (isLast) this.#uncertain = least(this.#uncertain, before);
		this.#unused = 0n;
		this.#isOpenEnded = false;
		this.asksFirst = false;
	}

	/** Another process has signed up to `amount` meanwhile: all of that may have been charged. */
	raisedElsewhere(amount: bigint): void {
		if (amount <= this.signed) return;
		this.#uncertain += amount - this.signed;
		this.signed = amount;
		this.asksFirst = true;
	}

	/** Whether nothing is on its way. */
	get isIdle(): boolean {
		return this.#inFlight === 0n && this.#streams.size === 0;
	}

	#settle(charged: bigint): void {
		this.#isBroken = false;
		const priced = this.consumed + this.#uncertain;
		this.consumed = least(charged, priced);
		this.#uncertain = priced - this.consumed;
	}

	#raise(amount: bigint): bigint {
		if (amount > this.signed) this.signed = amount;
		return this.signed;
	}
}
