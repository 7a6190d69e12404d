import { type Challenge, isExpired, type SessionRequest } from "../../protocol/index.ts";
import { offersOf, receiptFor } from "../answer.ts";
import { askedForRequest } from "../asking.ts";
import { DepositExhaustedError, OverchargeError } from "../bookErrors.ts";
import type { Offered, PayerChannel } from "../channel.ts";
import { keyOf } from "../channelKey.ts";
import { credit, type MergedTopUp, payCovered, TopUpRefusedError } from "../cover.ts";
import { least } from "../least.ts";
import type { Outgoing } from "../outgoing.ts";
import type { SessionParts } from "../parts.ts";
import { amountText, boundsFor } from "../policy.ts";
import { discard } from "../retry.ts";
import { voucherCredential } from "../voucherCredential.ts";
import { StreamLimitError, StreamVoucherRefusedError } from "./errors.ts";
import type { StreamTab } from "./tab.ts";

/** How often one voucher is sent: a challenge may have expired, another URL may be the one that takes it. */
const MAX_TRIES = 4;

/** How often the server may ask without having delivered or taken anything in between. */
const MAX_UNHEEDED = 8;

export type StreamVouchersOptions = Readonly<{
	parts: SessionParts;
	key: string;
	channel: PayerChannel;
	tab: StreamTab;
	/** The request whose answer is paid for. */
	request: Outgoing;
	offer: Offered<SessionRequest>;
	/** The highest voucher that the server has taken by now, in base units. */
	accepted: bigint;
	/** Hears why the stream can't be paid on. */
	onFault: (error: unknown) => void;
}>;

/**
 * Vouchers beside an answer that is being read, one at a time: as `HEAD` to its own URL (draft-evm-session-00, Voucher
 * Submission Transport; D11), with a top-up where the deposit wants one. Signed when the server asks, and from then on before
 * it has to, as far as the tab has room.
 */
export class StreamVouchers {
	readonly #options: StreamVouchersOptions;
	#accepted: bigint;
	/** The highest amount that the server has asked for. */
	#required = 0n;
	/** Whether more is signed for before the server asks: not before it has asked once, nor after that has failed. */
	#early = false;
	#unheeded = 0;
	#isPaying = false;
	#isStopped = false;
	/** How the answer has ended, if well. */
	#end: "receipt" | "complete" | undefined;
	/** Of the voucher that is on its way. */
	#sending: AbortController | undefined;
	#url: string;

	constructor(options: StreamVouchersOptions) {
		this.#options = options;
		this.#accepted = options.accepted;
		this.#url = options.request.url;
	}

	/** The server needs a voucher of `required` to go on. */
	need(required: bigint): void {
		if (required > this.#required) this.#required = required;
		this.#early = true;
		this.#go();
	}

	/** The server may need a voucher: it is silent, and can't say so. */
	maybeNeeded(): void {
		this.#early = true;
		this.#go();
	}

	/** Something was delivered. */
	delivered(): void {
		this.#unheeded = 0;
		this.#go();
	}

	/** Nothing more is signed, and what is on its way is called back. */
	stop(): void {
		this.#isStopped = true;
		this.#sending?.abort();
	}

	/** The answer has ended: nothing more is signed; what is on its way may arrive. */
	finish(hasReceipt: boolean): void {
		this.#isStopped = true;
		this.#end = hasReceipt ? "receipt" : "complete";
	}

	#go(): void {
		const isDue = this.#required > this.#accepted || (this.#early && this.#options.tab.isDue);
		if (this.#isPaying || this.#isStopped || !isDue) return;
		this.#isPaying = true;
		const { parts, channel, onFault } = this.#options;
		parts.channels.turns
			.run(channel, this.#pay())
			.catch((error: unknown) => {
				if (this.#isStopped) return;
				this.#isStopped = true;
				onFault(error);
			})
			.finally(() => {
				this.#isPaying = false;
				this.#go();
			});
	}

	async #pay(): Promise<void> {
		const { parts, channel, tab, request, offer } = this.#options;
		const isNeeded = this.#required > this.#accepted;
		const asked = askedForRequest(parts, request, offer, channel.channelId, true);
		// Whoever approves has heard of the first price alone.
		if (parts.gate.isAsking(request, asked)) await parts.gate.approve(request, asked);
		if (isNeeded && ++this.#unheeded > MAX_UNHEEDED) throw new StreamVoucherRefusedError(channel.channelId);
		const needed = isNeeded ? this.#shortfall(this.#required) : 0n;
		const amount = this.#stepped(tab.next(needed), isNeeded);
		if (!isNeeded) {
			if (amount === 0n) return this.#notEarly();
			if (channel.needs(amount) <= least(channel.signed, channel.deposit, this.#accepted))
				return tab.held(channel.hold(amount));
		}
		try {
			await this.#send(amount);
		} catch (error) {
			if (!(error instanceof DepositExhaustedError)) return this.#failed(error, isNeeded);
			this.#notEarly();
			// As much as the deposit has.
			const left = channel.deposit - channel.needs(0n);
			const less = left > needed ? left : needed;
			if (less <= 0n || less >= amount) return this.#failed(error, isNeeded);
			await this.#send(less).catch((reason: unknown) => this.#failed(reason, isNeeded));
		}
	}

	#notEarly(): void {
		this.#early = false;
	}

	/** What fails before it is needed is left until then. */
	#failed(error: unknown, isNeeded: boolean): void {
		if (isNeeded) throw error;
		this.#notEarly();
	}

	/**
	 * How much is missing in the books for a voucher of `required`. Answers that were lost before may have been charged.
	 *
	 * @throws StreamLimitError, OverchargeError when it is more than there is room for
	 */
	#shortfall(required: bigint): bigint {
		const { channel, tab, parts } = this.#options;
		const missing = () => {
			const amount = required - channel.needs(0n);
			return amount > 0n ? amount : 0n;
		};
		if (missing() > tab.room) channel.claim(missing() - tab.room);
		if (missing() <= tab.room) return missing();
		if (tab.isAtItsLimit) throw overLimit(parts, channel);
		throw new OverchargeError(
			channel.channelId,
			required,
			channel.needs(tab.room),
			" beyond what was delivered; give it more credit (stream.aheadUnits), or say what its events are worth (stream.unitsOf)",
		);
	}

	/** At least a step of `minVoucherDelta` where a higher voucher has to be signed (D3), as far as there is room for it. */
	#stepped(amount: bigint, isNeeded: boolean): bigint {
		const { channel, tab, offer, parts } = this.#options;
		const { minVoucherDelta = 0n } = offer.request.methodDetails;
		if (minVoucherDelta === 0n || channel.needs(amount) <= channel.signed) return amount;
		const step = channel.signed + minVoucherDelta - channel.needs(0n);
		if (amount >= step) return amount;
		if (step <= tab.room) return step;
		if (!isNeeded) return 0n;
		throw overLimit(parts, channel);
	}

	async #send(amount: bigint): Promise<void> {
		const { parts, key, channel, request, offer } = this.#options;
		const sending = new AbortController();
		this.#sending = sending;
		try {
			for (let triesLeft = MAX_TRIES; ; triesLeft--) {
				const head = await request.headAt(this.#url, sending.signal);
				const challenge = await this.#challengeFor(head);
				if (challenge === undefined) {
					const asked = await parts.send(head);
					if (triesLeft === 1 || !this.#canTryAgain(head, asked))
						throw new StreamVoucherRefusedError(channel.channelId, asked.status);
					continue;
				}
				const paid = await payCovered(parts, key, channel, head, offer, amount, (topUp) =>
					this.#try(head, challenge, amount, topUp),
				);
				if ("refused" in paid) {
					discard(paid.refused);
					throw new TopUpRefusedError(channel.channelId, paid.refused.status);
				}
				if (paid.isTaken) return;
				if (triesLeft === 1 || !this.#canTryAgain(head, paid.response))
					throw new StreamVoucherRefusedError(channel.channelId, paid.response.status);
			}
		} finally {
			this.#sending = undefined;
		}
	}

	/** One voucher. What was signed and may have arrived is booked, whatever becomes of its answer. */
	async #try(
		head: Outgoing,
		challenge: Challenge,
		amount: bigint,
		topUp: MergedTopUp | undefined,
	): Promise<Readonly<{ isTaken: boolean; response: Response }>> {
		const { parts, channel, tab, offer } = this.#options;
		const { minVoucherDelta } = offer.request.methodDetails;
		const cumulative = channel.begin(amount, minVoucherDelta, channel.deposit + (topUp?.amount ?? 0n));
		let isBooked = false;
		try {
			const credential = await voucherCredential(parts, challenge, channel, cumulative, topUp);
			head.signal.throwIfAborted();
			isBooked = true;
			const response = await parts.send(head, credential);
			discard(response);
			const receipt = receiptFor(response, channel);
			isBooked = receipt !== undefined;
			if (receipt === undefined) return { isTaken: false, response };
			if (receipt.acceptedCumulative > this.#accepted) this.#accepted = receipt.acceptedCumulative;
			channel.settleLost(receipt.spent);
			if (topUp !== undefined) credit(channel, topUp);
			return { isTaken: true, response };
		} finally {
			if (isBooked && !this.#isStopped) tab.held(amount);
			else if (!isBooked) channel.failed(amount);
			else if (this.#end === undefined) channel.lost(amount);
			else channel.leftOver(amount, this.#end === "receipt");
			// The receipt could not be settled with before.
			if (this.#end === "receipt") channel.settleLost(0n);
		}
	}

	/** The channel's challenge while it is good and fits a request without a body; one is asked for else. */
	async #challengeFor(head: Outgoing): Promise<Challenge | undefined> {
		const { channel, parts } = this.#options;
		const { challenge } = channel;
		if (challenge === undefined || isExpired(challenge, parts.now())) return undefined;
		return (await head.fits(challenge)) ? challenge : undefined;
	}

	/** Takes a fresh challenge from a 402; where there is none, goes to where the channel was opened. */
	#canTryAgain(head: Outgoing, response: Response): boolean {
		const { parts, key, channel } = this.#options;
		discard(response);
		const fresh = offersOf(response, parts.now()).find(
			(offer) => offer.intent === "session" && keyOf(head, offer.request) === key,
		);
		if (response.status === 402 && fresh !== undefined) {
			channel.challenge = fresh.challenge;
			return true;
		}
		if (this.#url === channel.resource.url) return false;
		this.#url = channel.resource.url;
		return true;
	}
}

/** Names what bounds an answer: `limits.request` bounds what `maxStream` and `maxPrice` say. */
function overLimit({ policy }: SessionParts, { channelId, parameters }: PayerChannel): StreamLimitError {
	const { maxStream, maxPrice, limits } = boundsFor(policy, parameters);
	const max = maxStream ?? maxPrice;
	const bound = limits.request === max ? "limits.request" : maxStream === undefined ? "maxPrice" : "maxStream";
	return new StreamLimitError(channelId, max, amountText(policy, parameters, max), bound);
}
