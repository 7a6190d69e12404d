import { LRUCache } from "lru-cache";
import type { Hex } from "viem";
import { type EscrowChannel, readChannel } from "../escrow/reads.ts";
import { sameAddress, voucherSigner } from "../voucher/index.ts";
import type { PayerChannel } from "./channel.ts";
import { keyOfChannel } from "./channelKey.ts";
import { HAND_OVER_MS, type Keeper } from "./keeper.ts";
import type { Nodes } from "./nodes.ts";
import { PolicyRefusedError } from "./policy.ts";

/** How often the payer's node is asked whether it has seen a close, a polling interval apart. */
const CLOSE_LOOKS = 10;

export type ChannelsOptions = Readonly<{
	/** The payer's own nodes: what became of a deposit is read there. */
	nodes: Nodes;
	keeper: Keeper;
	/** How many channels may hold a deposit at a time, those of other processes included. */
	max: () => number;
	now: () => number;
}>;

/**
 * The payer's channels that this client holds, one for each key, and who may do what with them at the same time. Others that are
 * kept are taken when they are needed; one that another process needs is given back when nothing is on its way on it.
 */
export class Channels {
	readonly #options: ChannelsOptions;
	readonly #byKey = new Map<string, PayerChannel>();
	/** No longer known to their server; the escrow may still hold their deposit. */
	readonly #forgotten = new Set<PayerChannel>();
	/** An opening or a closing, one at a time per key: whoever else needs the channel waits for it. */
	readonly #turns = new Map<string, Promise<unknown>>();
	/** Requests on their way. */
	readonly #running = new WeakMap<PayerChannel, Set<Promise<unknown>>>();
	/** Looks for a kept channel: one at a time per key. */
	readonly #recalls = new Map<string, Promise<PayerChannel | undefined>>();
	/** Keys of which there was lately nothing to be had, however long it was waited for. */
	readonly #missed = new LRUCache<string, true>({ max: 1_000, ttl: HAND_OVER_MS });
	/** Writes that nobody waits for. */
	readonly #writes = new Set<Promise<unknown>>();

	constructor(options: ChannelsOptions) {
		this.#options = options;
		options.keeper.onWanted((channelId) => {
			for (const [key, channel] of this.#byKey) {
				if (channel.channelId !== channelId) continue;
				channel.isWanted = true;
				this.#giveBackIfIdle(key, channel);
			}
		});
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

	/** Whether a channel is, or was, in the books under any key, or is kept. */
	async knows(channelId: Hex): Promise<boolean> {
		if ([...this.#byKey.values(), ...this.#forgotten].some((channel) => channel.channelId === channelId)) return true;
		return (await this.#options.keeper.list()).some(({ record }) => record.state.channelId === channelId);
	}

	/**
	 * The channel of a key, open or not; one that is kept and that nobody else needs is taken for it. Not while somebody else
	 * opens or closes the key.
	 */
	async recall(key: string, signal?: AbortSignal): Promise<PayerChannel | undefined> {
		const known = this.#byKey.get(key);
		if (known !== undefined) return known;
		const recall = this.#recalls.get(key) ?? this.#take(key).finally(() => this.#recalls.delete(key));
		this.#recalls.set(key, recall);
		recall.catch(() => undefined);
		if (signal === undefined) return recall;
		await orAborted(recall, signal);
		return recall;
	}

	async #take(key: string): Promise<PayerChannel | undefined> {
		const { keeper, now } = this.#options;
		const since = now();
		const channel = await keeper.take(key, this.#missed.has(key) ? 0 : HAND_OVER_MS);
		if (channel !== undefined) this.#byKey.set(key, channel);
		// Who holds them has not given one back in time, and will not at once.
		else if (now() - since >= HAND_OVER_MS) this.#missed.set(key, true);
		return channel;
	}

	/** Takes every kept channel that nobody else uses, as far as its key has none. Returns whether there was any. */
	async recallAll(isWanted: (channelId: Hex) => boolean): Promise<boolean> {
		let found = false;
		for (const { record, isHeld } of await this.#options.keeper.list()) {
			const { key, status, state } = record;
			if (isHeld || status !== "open" || this.#byKey.has(key) || !isWanted(state.channelId)) continue;
			const channel = await this.#options.keeper.takeById(state.channelId);
			if (channel === undefined) continue;
			if (this.#byKey.has(key)) await this.#options.keeper.giveBack(key, channel, { isIdle: true });
			else {
				this.#byKey.set(key, channel);
				found = true;
			}
		}
		return found;
	}

	/** Gives all channels back on which nothing is on its way, and waits until what others may see is on disk. */
	async release(): Promise<void> {
		for (const [key, channel] of [...this.#byKey]) {
			channel.isWanted = true;
			this.#giveBackIfIdle(key, channel);
		}
		while (this.#writes.size > 0) await Promise.allSettled(this.#writes);
	}

	/** Uses a channel no more, if this client has it: its money is to be got back. Waits for what is on its way on it. */
	async letGo(channelId: Hex): Promise<void> {
		for (const [key, channel] of [...this.#byKey]) {
			if (channel.channelId !== channelId) continue;
			while (this.isBusy(key)) await this.free(key);
			await this.alone(key, async () => {
				channel.stopStreams();
				await this.drained(channel);
				if (!this.has(key, channel)) return;
				this.#byKey.delete(key);
				await this.#options.keeper.giveBack(key, channel, { isIdle: true });
			});
		}
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
		const turn = task().finally(() => {
			this.#turns.delete(key);
			const channel = this.#byKey.get(key);
			if (channel?.isWanted) this.#giveBackIfIdle(key, channel);
		});
		this.#turns.set(key, turn);
		return turn;
	}

	/** Lets `drained` know of a request on its way. */
	run<T>(channel: PayerChannel, task: Promise<T>): Promise<T> {
		const running = this.#running.get(channel) ?? new Set();
		this.#running.set(channel, running);
		const ended = task.finally(() => {
			running.delete(ended);
			if (channel.isWanted) this.#giveBackIfIdle(keyOfChannel(channel), channel);
		});
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
	async toOpen(
		key: string,
		price: bigint,
		create: () => Promise<PayerChannel>,
		signal?: AbortSignal,
	): Promise<PayerChannel> {
		for (;;) {
			const earlier = await this.recall(key, signal);
			if (earlier === undefined) break;
			if (earlier.open) return earlier;
			const onChain = await this.look(earlier);
			if (onChain === undefined ? this.#mayBeFunded(earlier) : isUsable(earlier, onChain, price)) {
				// Whether a pending top-up is in it is for whoever settles that: it must not be counted twice.
				if (onChain !== undefined && earlier.topUp === undefined) earlier.deposited(onChain.deposit);
				// The server has to be told of the payer's own transaction; one that it sent itself it knows.
				earlier.open = onChain !== undefined && earlier.funding === undefined;
				return earlier;
			}
			// What can't be used may still hold a deposit.
			const isEmpty = onChain === undefined || onChain.finalized;
			this.#byKey.delete(key);
			if (!isEmpty) this.#forgotten.add(earlier);
			const status = isEmpty ? "closed" : "forgotten";
			await this.#options.keeper.giveBack(key, earlier, { status, isIdle: true });
		}
		const max = this.#options.max();
		await this.#makeRoom(max);
		const channel = await create();
		if (this.#byKey.has(key) || !(await this.#options.keeper.add(key, channel, max))) {
			throw new PolicyRefusedError(
				"channels",
				`${max} channels hold a deposit already; close some, or request their close from the escrow`,
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
		this.#behind(this.#options.keeper.giveBack(key, channel, { status: "forgotten" }));
	}

	/** Drops a channel whose deposit is accounted for. */
	async remove(key: string, channel: PayerChannel): Promise<void> {
		if (!this.has(key, channel)) return;
		this.#byKey.delete(key);
		await this.#behind(this.#options.keeper.giveBack(key, channel, { status: "closed", isIdle: true }));
	}

	/** Another process has this channel by now. Returns whether this client thought it had it. */
	lost(key: string, channelId: Hex): boolean {
		const channel = this.#byKey.get(key);
		if (channel?.channelId !== channelId) return false;
		channel.held = undefined;
		channel.stopStreams();
		return this.#byKey.delete(key);
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
	async #makeRoom(max: number): Promise<void> {
		const { keeper } = this.#options;
		const counting = (await keeper.list()).filter(({ record }) => record.status !== "closed");
		if (counting.length < max) return;
		for (const { record, isHeld } of counting) {
			if (record.status !== "forgotten" || isHeld) continue;
			const { channelId, chainId, escrow } = record.state;
			const onChain = await this.look({ channelId, parameters: { chainId, escrow } });
			const { fundableUntilMs = Number.POSITIVE_INFINITY } = record;
			if (onChain === undefined ? this.#options.now() < fundableUntilMs : !onChain.finalized) continue;
			for (const mine of this.#forgotten) if (mine.channelId === channelId) this.#forgotten.delete(mine);
			const channel = await keeper.takeById(channelId);
			if (channel !== undefined) await keeper.giveBack(record.key, channel, { status: "closed", isIdle: true });
		}
	}

	/** Another process waits for it. It goes with its books exact, or not at all. */
	#giveBackIfIdle(key: string, channel: PayerChannel): void {
		const isBusy = this.isBusy(key) || (this.#running.get(channel)?.size ?? 0) > 0;
		if (isBusy || !channel.isIdle || !this.has(key, channel)) return;
		channel.isWanted = false;
		this.#byKey.delete(key);
		this.#behind(this.#options.keeper.giveBack(key, channel, { isIdle: true }));
	}

	/** Nothing rests on such a write: without it what is kept is older, and supposes the worst. */
	#behind(write: Promise<unknown>): Promise<unknown> {
		const done = write
			.catch(() => undefined)
			.finally(() => {
				this.#writes.delete(done);
			});
		this.#writes.add(done);
		return done;
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
