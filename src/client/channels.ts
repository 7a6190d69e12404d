import type { Hex } from "viem";
import { type EscrowChannel, readChannel } from "../escrow/reads.ts";
import { sameAddress, voucherSigner } from "../voucher/index.ts";
import type { PayerChannel } from "./channel.ts";
import type { Nodes } from "./nodes.ts";
import { PolicyRefusedError } from "./policy.ts";

/** How often the payer's node is asked whether it has seen a close, a polling interval apart. */
const CLOSE_LOOKS = 10;

export type ChannelsOptions = Readonly<{
	/** The payer's own nodes: what became of a deposit is read there. */
	nodes: Nodes;
	/** How many channels may hold a deposit at a time. */
	max: number;
	now: () => number;
}>;

/** The payer's channels, one for each key, and who may do what with them at the same time. */
export class Channels {
	readonly #options: ChannelsOptions;
	readonly #byKey = new Map<string, PayerChannel>();
	/** No longer known to their server; the escrow may still hold their deposit. */
	readonly #forgotten = new Set<PayerChannel>();
	/** An opening or a closing, one at a time per key: whoever else needs the channel waits for it. */
	readonly #turns = new Map<string, Promise<unknown>>();
	/** Requests on their way. */
	readonly #running = new WeakMap<PayerChannel, Set<Promise<unknown>>>();

	constructor(options: ChannelsOptions) {
		this.#options = options;
	}

	get all(): readonly PayerChannel[] {
		return [...this.#byKey.values()];
	}

	get forgotten(): readonly PayerChannel[] {
		return [...this.#forgotten];
	}

	entries(): readonly (readonly [string, PayerChannel])[] {
		return [...this.#byKey];
	}

	/** The channel that is known to be open. */
	usable(key: string): PayerChannel | undefined {
		const channel = this.#byKey.get(key);
		return channel?.open ? channel : undefined;
	}

	/** The channel of a key, open or not. */
	known(key: string): PayerChannel | undefined {
		return this.#byKey.get(key);
	}

	/** Whether a channel is, or was, in the books under any key. */
	knows(channelId: Hex): boolean {
		return [...this.#byKey.values(), ...this.#forgotten].some((channel) => channel.channelId === channelId);
	}

	/** Takes up a channel of an earlier client. Until the escrow was asked it is not known to be open. */
	restore(key: string, channel: PayerChannel): void {
		if (this.#byKey.has(key)) this.#forgotten.add(channel);
		else this.#byKey.set(key, channel);
	}

	has(key: string, channel: PayerChannel): boolean {
		return this.#byKey.get(key) === channel;
	}

	isBusy(key: string): boolean {
		return this.#turns.has(key);
	}

	/** Resolves when the opening or closing of a key is over, however it ended. Look again: others waited too. */
	async free(key: string, signal?: AbortSignal): Promise<void> {
		const turn = this.#turns.get(key)?.catch(() => undefined);
		await (signal === undefined ? turn : orAborted(turn, signal));
	}

	/** Opens or closes a key; only while it is not busy. */
	alone<T>(key: string, task: () => Promise<T>): Promise<T> {
		const turn = task().finally(() => this.#turns.delete(key));
		this.#turns.set(key, turn);
		return turn;
	}

	/** Lets `drained` know of a request on its way. */
	run<T>(channel: PayerChannel, task: Promise<T>): Promise<T> {
		const running = this.#running.get(channel) ?? new Set();
		this.#running.set(channel, running);
		const ended = task.finally(() => running.delete(ended));
		running.add(ended);
		return ended;
	}

	/** Resolves when no request is on its way on the channel. */
	async drained(channel: PayerChannel): Promise<void> {
		const running = this.#running.get(channel) ?? new Set();
		while (running.size > 0) await Promise.allSettled(running);
	}

	/**
	 * The channel to open for a key. One whose opening has an unknown outcome comes first: with the same salt its
	 * authorizations have the same nonce, so that however often it is tried the escrow takes one deposit.
	 *
	 * @throws PolicyRefusedError when too many channels hold a deposit already
	 */
	async toOpen(key: string, price: bigint, create: () => PayerChannel): Promise<PayerChannel> {
		const earlier = this.#byKey.get(key);
		if (earlier?.open) return earlier;
		if (earlier !== undefined) {
			const onChain = await this.look(earlier);
			if (onChain === undefined ? this.#mayBeFunded(earlier) : isUsable(earlier, onChain, price)) {
				// Whether a pending top-up is in it is for whoever settles that: it must not be counted twice.
				if (onChain !== undefined && earlier.topUp === undefined) earlier.deposited(onChain.deposit);
				// The server has to be told of the payer's own transaction; one that it sent itself it knows.
				earlier.open = onChain !== undefined && earlier.funding === undefined;
				return earlier;
			}
			// What can't be used may still hold a deposit.
			this.#byKey.delete(key);
			if (onChain !== undefined && !onChain.finalized) this.#forgotten.add(earlier);
		}
		await this.#makeRoom();
		const channel = create();
		if (this.#byKey.size + this.#forgotten.size >= this.#options.max) {
			throw new PolicyRefusedError(
				"channels",
				`${this.#options.max} channels hold a deposit already; close some, or request their close from the escrow`,
			);
		}
		this.#byKey.set(key, channel);
		return channel;
	}

	/** Ends the use of a channel that its server does not know any more (D10). */
	forget(key: string, channel: PayerChannel): void {
		if (!this.has(key, channel)) return;
		this.#byKey.delete(key);
		this.#forgotten.add(channel);
	}

	/** Drops a channel whose deposit is accounted for. */
	remove(key: string, channel: PayerChannel): void {
		if (this.has(key, channel)) this.#byKey.delete(key);
	}

	/** A channel as the payer's own node shows it; `undefined` when the escrow has no record of it. */
	async look({
		channelId,
		parameters,
	}: Pick<PayerChannel, "channelId"> &
		Readonly<{ parameters: Pick<PayerChannel["parameters"], "chainId" | "escrow"> }>): Promise<
		EscrowChannel | undefined
	> {
		return readChannel(await this.#options.nodes.at(parameters.chainId), parameters.escrow, channelId);
	}

	/** Whether the escrow has paid the channel out. A node may be a little behind the server's, so it is asked again. */
	async isPaidOut(channel: PayerChannel): Promise<boolean> {
		for (let looks = 1; ; looks++) {
			const onChain = await this.look(channel).catch(() => undefined);
			if (onChain?.finalized) return true;
			if (looks === CLOSE_LOOKS) return false;
			const { pollingInterval } = await this.#options.nodes.at(channel.parameters.chainId);
			await new Promise((resolve) => setTimeout(resolve, pollingInterval));
		}
	}

	/** Lets go of forgotten channels whose deposit is back. */
	async #makeRoom(): Promise<void> {
		if (this.#byKey.size + this.#forgotten.size < this.#options.max) return;
		for (const channel of this.#forgotten) {
			const onChain = await this.look(channel);
			if (onChain === undefined ? !this.#mayBeFunded(channel) : onChain.finalized) this.#forgotten.delete(channel);
		}
	}

	#mayBeFunded({ fundableUntil }: PayerChannel): boolean {
		return this.#options.now() < fundableUntil;
	}
}

/**
 * Whether the escrow's record is that of this channel, and vouchers of it can pay at least `price` (draft-evm-session-00,
 * Method Details): it is open, nobody has asked for its close, and that much of it is not settled.
 */
export function isUsable(
	{ parameters }: Readonly<{ parameters: Omit<PayerChannel["parameters"], "salt"> }>,
	onChain: EscrowChannel,
	price: bigint,
): boolean {
	return (
		sameAddress(onChain.payer, parameters.payer) &&
		sameAddress(onChain.payee, parameters.payee) &&
		sameAddress(onChain.token, parameters.token) &&
		sameAddress(voucherSigner(onChain), voucherSigner(parameters)) &&
		!onChain.finalized &&
		onChain.closeRequestedAt === 0 &&
		onChain.deposit - onChain.settled >= price
	);
}

/** Waits, but not longer than the caller does. */
export function orAborted(promise: Promise<unknown> | undefined, signal: AbortSignal): Promise<unknown> {
	const { promise: aborted, reject } = Promise.withResolvers<never>();
	const abort = () => reject(signal.reason);
	if (signal.aborted) abort();
	signal.addEventListener("abort", abort);
	return Promise.race([promise, aborted]).finally(() => signal.removeEventListener("abort", abort));
}
