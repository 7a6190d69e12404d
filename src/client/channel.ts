import type { Hex } from "viem";
import type { Challenge } from "../protocol/index.ts";
import type { ChannelParameters } from "../voucher/index.ts";
import { ChannelBooks } from "./books.ts";
import { keyOfChannel } from "./channelKey.ts";
import { least } from "./least.ts";
import type { PendingTopUp } from "./pending.ts";
import type { Acknowledged } from "./recovery/staleServer.ts";
import type { SessionKey } from "./sessionKeys.ts";
import { type PayerChannelState, stateOfTopUp } from "./state.ts";
import type { HeldChannel } from "./store/store.ts";
import { NewestStream } from "./stream/newest.ts";
import type { SentTransaction } from "./wallet.ts";

/** A challenge that was checked against the policy, and its request. */
export type Offered<Request> = Readonly<{ challenge: Challenge; request: Request }>;

/** A channel as the payer keeps it: what it is, where it is used, and how its deposit comes to be. Amounts are in its books. */
export class PayerChannel extends ChannelBooks {
	/** What the id is made of. The salt of a channel that only the escrow told of is not known. */
	readonly parameters: Omit<ChannelParameters, "salt"> & Readonly<{ salt: Hex | undefined }>;
	/** Where it was opened: management requests go there. */
	readonly resource: Readonly<{ url: string; method: string }>;
	/** The challenge that vouchers answer now. */
	challenge: Challenge | undefined;
	/** The server named it, and nothing of it is known but what the escrow says. */
	readonly isUnrecorded: boolean;
	/** The one top-up that was signed or sent and of which it is not known yet whether the deposit has it (I4). */
	topUp: PendingTopUp | undefined;
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
	/** The highest amount that a voucher may have been signed for: on disk before it is (I11). */
	counted: bigint;
	/** The highest amount that is being written: it may be on disk already. */
	writing = 0n;
	/** The highest that its server has acknowledged. */
	acknowledged: Acknowledged | undefined;
	/** Another process of the agent would like to have it. */
	isWanted = false;
	readonly newestStream = new NewestStream();
	readonly #sessionKey: SessionKey | undefined;
	#key: string | undefined;
	#held: HeldChannel | undefined;
	#isRetired = false;
	#toppingUp: Promise<unknown> | undefined;

	constructor(init: ChannelInit) {
		const { channelId, parameters, deposit, signed = 0n, consumed = 0n, uncertain = 0n } = init;
		super({ channelId, deposit, signed, consumed, uncertain, isRecorded: parameters.salt !== undefined });
		this.parameters = parameters;
		this.resource = init.resource;
		this.challenge = init.challenge;
		this.topUp = init.topUp;
		this.isUnrecorded = init.isUnrecorded ?? false;
		this.#sessionKey = init.sessionKey;
		this.counted = signed;
	}

	/** `keyOfChannel`: by which its requests find it. */
	get key(): string {
		this.#key ??= keyOfChannel(this);
		return this.#key;
	}

	/** What is kept of it, its key included, while this client alone may sign for it. No printing of the channel shows it. */
	get held(): HeldChannel | undefined {
		return this.#held;
	}

	/** Nothing more may be signed for it by this object: it was given back, forgotten, closed, or lost to another process. */
	get isRetired(): boolean {
		return this.#isRetired;
	}

	/** For ever: who goes on with the channel takes it from the store. Returns what was held. */
	retire(): HeldChannel | undefined {
		const held = this.#held;
		this.#isRetired = true;
		this.#held = undefined;
		return held;
	}

	/** The key of its own that signs its vouchers, if it has one. No printing of the channel shows it. */
	get sessionKey(): SessionKey | undefined {
		return this.#sessionKey;
	}

	/** It is held by this client from now on. What was kept of it may know of higher vouchers than this client. */
	heldAs(held: HeldChannel): void {
		if (this.#isRetired) return;
		this.#held = held;
		const signed = BigInt(held.record.state.signed);
		if (signed <= this.counted) return;
		this.counted = signed;
		this.raisedElsewhere(signed);
	}

	/** What is kept of it from now on. */
	written(record: HeldChannel["record"]): void {
		if (this.#held !== undefined) this.#held = { record, fence: this.#held.fence };
	}

	/** A voucher of `amount` may be signed: that is on disk. */
	mayBeSigned(amount: bigint): void {
		if (amount > this.counted) this.counted = amount;
		if (this.counted > this.signed) this.signed = this.counted;
	}

	/** What was to be signed was not: it is no credit. */
	notSigned(): void {
		this.signed = this.counted;
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
	 * What is kept of it on disk, before a voucher of `signed` is made. While it is in use all that was signed may have been
	 * charged; whoever goes on with it asks the server.
	 */
	keptState(signed: bigint, isIdle: boolean): PayerChannelState {
		const state = this.state();
		const highest = [signed, this.counted, this.writing].reduce((a, b) => (a > b ? a : b));
		const consumed = least(BigInt(state.consumed), highest);
		const open = highest - consumed;
		const uncertain = isIdle ? least(BigInt(state.uncertain), open) : open;
		return { ...state, signed: String(highest), consumed: String(consumed), uncertain: String(uncertain) };
	}

	/**
	 * All that another client needs to go on with this channel, without any key: plain data, amounts as decimal strings.
	 * What is on its way right now counts as uncertain. Two clients must not use a channel at the same time. A channel with a
	 * session key of its own is gone on with by its store alone, which has the key.
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
			uncertain: String(this.uncertain + this.needs(0n) - consumed),
			resource: this.resource,
			...(this.topUp !== undefined && stateOfTopUp(this.topUp)),
			...(!this.open && this.funding !== undefined && { funding: this.funding }),
		};
	}
}

/** What a channel begins with; amounts are zero unless they are given. */
export type ChannelInit = Pick<PayerChannel, "channelId" | "parameters" | "deposit" | "resource"> &
	Readonly<{ challenge?: Challenge | undefined; sessionKey?: SessionKey | undefined }> &
	Partial<
		Readonly<{ signed: bigint; consumed: bigint; uncertain: bigint; topUp: PendingTopUp; isUnrecorded: boolean }>
	>;
