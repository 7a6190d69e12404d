import type { SessionRequest } from "../../protocol/index.ts";
import type { StreamEnd } from "../books.ts";
import type { PayerChannel } from "../channel.ts";
import { least } from "../least.ts";
import type { StreamSettings } from "./options.ts";

export type TabOptions = Readonly<{
	channel: PayerChannel;
	/** `amount` is the price of one unit. */
	terms: SessionRequest;
	settings: StreamSettings;
	/** What the answer may cost in all, in base units. */
	maxStream: bigint;
	/** What the request has on its way in the books already. Base units. */
	price: bigint;
}>;

/**
 * What one metered answer has in the books of its channel: what was delivered of it by the payer's own count, and how much
 * more may be signed for. Never more than the policy's credit beyond what was delivered, whatever the server says (I11).
 */
export class StreamTab {
	readonly #options: TabOptions;
	/** The credit, in base units: what may be signed beyond what was delivered. */
	readonly #ahead: bigint;
	readonly #step: bigint;
	#delivered = 0n;
	/** Booked for this answer, `#consumed` of it as consumed, the rest as on its way. */
	#held: bigint;
	#consumed = 0n;

	constructor(options: TabOptions) {
		const { terms, settings, price } = options;
		const ahead = settings.aheadUnits * terms.amount;
		// Where a voucher has to rise by more than the credit, that much is paid ahead: the policy has allowed the step.
		const leastAhead = (terms.methodDetails.minVoucherDelta ?? 0n) + terms.amount;
		this.#options = options;
		this.#ahead = ahead > leastAhead ? ahead : leastAhead;
		this.#step = settings.stepUnits * terms.amount;
		this.#held = price;
	}

	/** Units were handed to the reader. */
	deliver(units: bigint): void {
		const { channel, terms } = this.#options;
		this.#delivered += units * terms.amount;
		this.#hold(this.#delivered);
		const more = least(this.#held, this.#delivered) - this.#consumed;
		if (more <= 0n) return;
		channel.delivered(more);
		this.#consumed += more;
	}

	/** How much more may be signed for now, in base units. */
	get room(): bigint {
		const room = least(this.#delivered + this.#ahead, this.#options.maxStream) - this.#held;
		return room > 0n ? room : 0n;
	}

	/** Whether it is what the whole answer may cost that leaves no more room. */
	get isAtItsLimit(): boolean {
		return this.#delivered + this.#ahead > this.#options.maxStream;
	}

	/** How much to sign for: whole steps as far as there is room, and `needed` at least. Base units. */
	next(needed: bigint): bigint {
		const { room } = this;
		const whole = room < this.#step ? room : room - (room % this.#step);
		return whole > needed ? whole : needed;
	}

	/** Whether a step or more was delivered since the last voucher. */
	get isDue(): boolean {
		return this.#held - this.#delivered <= this.#ahead - this.#step && this.room > 0n;
	}

	/** That much more was booked for it. */
	held(amount: bigint): void {
		this.#held += amount;
		this.deliver(0n);
	}

	/** The answer has ended, or nobody reads on. */
	end(stop: () => void, end: StreamEnd): void {
		const { channel, maxStream } = this.#options;
		// The server's count may go further than ours, as far as it has credit.
		this.#hold(least(this.#delivered + this.#ahead, maxStream));
		channel.endStream(stop, this.#held - this.#consumed, end);
	}

	/** Books credit that was signed before, up to `amount` in all. */
	#hold(amount: bigint): void {
		if (amount > this.#held) this.#held += this.#options.channel.hold(amount - this.#held);
	}
}
