import { LRUCache } from "lru-cache";
import type { Hex } from "viem";
import { type EscrowChannel, readChannel } from "../escrow/reads.ts";
import type { PayerChannel } from "./channel.ts";
import { keyOfChannel } from "./channelKey.ts";
import { HAND_OVER_MS, type Keeper } from "./keeper.ts";
import type { Nodes } from "./nodes.ts";
import { orAborted } from "./orAborted.ts";
import { mayHold, type Policy, PolicyRefusedError } from "./policy.ts";
import { pause } from "./retry.ts";
import type { HeldChannel } from "./store/store.ts";
import { Turns } from "./turns.ts";
import { isUsable } from "./usable.ts";

/** How often the payer's node is asked whether it has seen a close, a polling interval apart. */
const CLOSE_LOOKS = 10;

/** How long requests on their way are waited for where a channel's money is to be got back, in ms. */
const LETTING_GO_MS = 1_000;

export type ChannelsOptions = Readonly<{
	/** The payer's own nodes: what became of a deposit is read there. */
	nodes: Nodes;
	keeper: Keeper;
	/** How many channels may hold a deposit at a time, those of other processes included, and how much each. */
	policy: () => Policy;
	now: () => number;
}>;

/** What is on chain is found by it. */
type OnChain = Pick<PayerChannel, "channelId"> &
	Readonly<{ parameters: Pick<PayerChannel["parameters"], "chainId" | "escrow"> }>;

/**
 * The payer's channels that this client holds, one for each key. Others that are kept are taken when they are needed; one that
 * another process needs is given back when nothing is on its way on it.
 */
export class Channels {
	readonly turns: Turns;
	readonly #options: ChannelsOptions;
	readonly #byKey = new Map<string, PayerChannel>();
	/** No longer known to their server; the escrow may still hold their deposit. */
	readonly #forgotten = new Set<PayerChannel>();
	/** Given to this client by their state: not kept yet. */
	#resumed: readonly PayerChannel[] = [];
	#adopting: Promise<void> | undefined;
	/** Looks for a kept channel: one at a time per key. */
	readonly #recalls = new Map<string, Promise<PayerChannel | undefined>>();
	/** Keys of which there was lately nothing to be had, however long it was waited for. */
	readonly #missed = new LRUCache<string, true>({ max: 1_000, ttl: HAND_OVER_MS });
	/** Writes that nobody waits for. */
	readonly #writes = new Set<Promise<unknown>>();

	constructor(options: ChannelsOptions) {
		this.#options = options;
		this.turns = new Turns((ended) => {
			const channel = "key" in ended ? this.#byKey.get(ended.key) : ended.channel;
			if (channel?.isWanted) this.#giveBackIfIdle(channel);
		});
		options.keeper.onWanted((channelId) => {
			const channel = this.#byId(channelId);
			if (channel === undefined) return;
			channel.isWanted = true;
			this.#giveBackIfIdle(channel);
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
		return channel?.open && !channel.isRetired ? channel : undefined;
	}

	has(key: string, channel: PayerChannel): boolean {
		return this.#byKey.get(key) === channel;
	}

	/** Whether a channel is, or was, in the books under any key, or is kept. */
	async knows(channelId: Hex): Promise<boolean> {
		if ([...this.#byKey.values(), ...this.#forgotten].some((channel) => channel.channelId === channelId)) return true;
		return (await this.#options.keeper.list()).some(({ record }) => record.state.channelId === channelId);
	}

	/** Takes up a channel of an earlier client. Until the escrow was asked it is not known to be open. */
	resume(key: string, channel: PayerChannel): void {
		if (this.#byKey.has(key)) this.#forgotten.add(channel);
		else this.#byKey.set(key, channel);
		this.#resumed = [...this.#resumed, channel];
	}

	/** Keeps what was taken up, before anything else is done. One that another process has is left to that. */
	async adopt(): Promise<void> {
		if (this.#resumed.length === 0) return;
		this.#adopting ??= this.#adoptAll().finally(() => {
			this.#adopting = undefined;
		});
		await this.#adopting;
	}

	async #adoptAll(): Promise<void> {
		const { keeper } = this.#options;
		for (const channel of this.#resumed) {
			const key = keyOfChannel(channel);
			if (!this.has(key, channel)) await keeper.giveBack(key, channel, { status: "forgotten", isIdle: true });
			else if (!(await keeper.add(key, channel, Number.MAX_SAFE_INTEGER))) {
				channel.retire();
				this.#byKey.delete(key);
			}
			this.#resumed = this.#resumed.filter((one) => one !== channel);
		}
	}

	/**
	 * The channel of a key, open or not; one that is kept and that nobody else needs is taken for it. Not while somebody else
	 * opens or closes the key.
	 */
	async recall(key: string, signal?: AbortSignal): Promise<PayerChannel | undefined> {
		await this.adopt();
		const known = this.#byKey.get(key);
		if (known !== undefined && !known.isRetired) return known;
		const recall = this.#recalls.get(key) ?? this.#take(key).finally(() => this.#recalls.delete(key));
		this.#recalls.set(key, recall);
		recall.catch(() => undefined);
		return orAborted(recall, signal);
	}

	async #take(key: string): Promise<PayerChannel | undefined> {
		const { keeper, now } = this.#options;
		const since = now();
		const channel = await keeper.take(key, this.#missed.has(key) ? 0 : HAND_OVER_MS);
		if (channel !== undefined) return this.#put(key, channel);
		// Who holds them has not given one back in time, and will not at once.
		if (now() - since >= HAND_OVER_MS) this.#missed.set(key, true);
		return undefined;
	}

	/** Of two channels of one key the newcomer is given back. Returns the one that is used. */
	async #put(key: string, channel: PayerChannel): Promise<PayerChannel> {
		const known = this.#byKey.get(key);
		if (known !== undefined && !known.isRetired) {
			await this.#options.keeper.giveBack(key, channel, { isIdle: true });
			return known;
		}
		this.#byKey.set(key, channel);
		return channel;
	}

	/** Takes every kept channel that nobody else uses, as far as its key has none. Returns whether there was any. */
	async recallAll(isWanted: (channelId: Hex) => boolean): Promise<boolean> {
		let found = false;
		for (const { record, isHeld } of await this.#options.keeper.list({ isClosed: false })) {
			const { status, state } = record;
			if (isHeld || status !== "open" || !isWanted(state.channelId)) continue;
			const key = keyOfChannel({ parameters: { ...state, salt: state.salt }, resource: state.resource });
			if (this.#byKey.has(key)) continue;
			const channel = await this.#options.keeper.takeById(state.channelId);
			if (channel !== undefined && (await this.#put(key, channel)) === channel) found = true;
		}
		return found;
	}

	/** Gives all channels back on which nothing is on its way, and waits until what others may see is on disk. */
	async release(): Promise<void> {
		await this.adopt();
		for (const channel of this.all) {
			channel.isWanted = true;
			this.#giveBackIfIdle(channel);
		}
		while (this.#writes.size > 0) await Promise.allSettled(this.#writes);
		await this.#options.keeper.giveBackStrays();
	}

	/**
	 * Uses a channel no more, from now on, if this client has it: its money is to be got back without its server. What is on its
	 * way on it is waited for a moment, so that the books are exact, and then left to itself.
	 *
	 * @returns the hold, for whoever gets the money back; `undefined` when this client does not have it
	 */
	async letGo(channelId: Hex, signal?: AbortSignal): Promise<HeldChannel | undefined> {
		await this.adopt();
		await this.#options.keeper.giveBackStrays();
		const channel = this.#byId(channelId);
		if (channel === undefined) return undefined;
		const key = keyOfChannel(channel);
		// Later requests take another one.
		this.#byKey.delete(key);
		channel.stopStreams();
		const waits = AbortSignal.any([AbortSignal.timeout(LETTING_GO_MS), ...(signal === undefined ? [] : [signal])]);
		const isDrained = await orAborted(this.turns.drained(channel), waits).then(
			() => true,
			() => false,
		);
		return this.#options.keeper.handOver(key, channel, { isIdle: isDrained && channel.isIdle });
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
		const { keeper } = this.#options;
		for (;;) {
			const earlier = await this.recall(key, signal);
			if (earlier === undefined) {
				const channel = await this.#add(key, create);
				// Of one that came free meanwhile it is still to be found out whether it can be used.
				if ((await this.#put(key, channel)) === channel) return channel;
				continue;
			}
			if (earlier.open) return earlier;
			const onChain = await this.look(earlier);
			const mayBeFunded = this.#options.now() < earlier.fundableUntil;
			const isOpenable = mayBeFunded && mayHold(this.#options.policy(), earlier);
			if (onChain === undefined ? isOpenable : isUsable(earlier, onChain, price)) {
				// Whether a pending top-up is in it is for whoever settles that: it must not be counted twice.
				if (onChain !== undefined && earlier.topUp === undefined) earlier.deposited(onChain.deposit);
				// The server has to be told of the payer's own transaction; one that it sent itself it knows.
				earlier.open = onChain !== undefined && earlier.funding === undefined;
				return earlier;
			}
			// What can't be used may still hold a deposit.
			const isEmpty = onChain === undefined ? !mayBeFunded : onChain.finalized;
			this.#byKey.delete(key);
			if (!isEmpty) this.#forgotten.add(earlier);
			await keeper.giveBack(key, earlier, { status: isEmpty ? "closed" : "forgotten", isIdle: true });
		}
	}

	/** @throws PolicyRefusedError when too many channels hold a deposit already */
	async #add(key: string, create: () => Promise<PayerChannel>): Promise<PayerChannel> {
		const max = this.#options.policy().maxChannels;
		await this.#makeRoom(max);
		const channel = await create();
		if (await this.#options.keeper.add(key, channel, max)) return channel;
		throw new PolicyRefusedError(
			"channels",
			`${max} channels hold a deposit already; close some, or request their close from the escrow`,
		);
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

	/** Drops a channel for which nothing was ever signed: it must not take the place of others. */
	async removeUnsigned(key: string, channel: PayerChannel): Promise<void> {
		if (channel.counted === 0n && channel.fundableUntil === 0) await this.remove(key, channel);
	}

	/** Another process has the channel of this key by now, or it is not known what is kept of it. It is taken anew. */
	lost(key: string): void {
		const channel = this.#byKey.get(key);
		if (!channel?.isRetired) return;
		channel.stopStreams();
		this.#byKey.delete(key);
	}

	/** A channel as the payer's own node shows it; `undefined` when the escrow has no record of it. */
	async look({ channelId, parameters }: OnChain): Promise<EscrowChannel | undefined> {
		return readChannel(await this.#options.nodes.at(parameters.chainId), parameters.escrow, channelId);
	}

	/** Whether the escrow has paid the channel out. A node may be a little behind the server's, so it is asked again. */
	async isPaidOut(channel: PayerChannel): Promise<boolean> {
		for (let looks = 1; ; looks++) {
			const onChain = await this.look(channel).catch(() => undefined);
			if (onChain?.finalized) return true;
			if (looks === CLOSE_LOOKS) return false;
			const { pollingInterval } = await this.#options.nodes.at(channel.parameters.chainId);
			await pause(pollingInterval, undefined);
		}
	}

	/** Lets go of channels whose deposit is back, or never was: those that nobody uses, whatever is thought of them. */
	async #makeRoom(max: number): Promise<void> {
		const { keeper } = this.#options;
		const counting = await keeper.list({ isClosed: false });
		if (counting.length < max) return;
		for (const { record, isHeld } of counting) {
			const { channelId, chainId, escrow, payer } = record.state;
			const mine = this.#byId(channelId);
			if (isHeld && (mine === undefined || this.#isInUse(mine))) continue;
			const onChain = await this.look({ channelId, parameters: { chainId, escrow } });
			const { fundableUntilMs = Number.POSITIVE_INFINITY } = record;
			if (onChain === undefined ? this.#options.now() < fundableUntilMs : !onChain.finalized) continue;
			for (const one of this.#forgotten) if (one.channelId === channelId) this.#forgotten.delete(one);
			if (mine !== undefined) {
				if (!this.#isInUse(mine)) await this.remove(keyOfChannel(mine), mine);
				continue;
			}
			if (payer !== keeper.payer) continue;
			const channel = await keeper.takeById(channelId);
			if (channel !== undefined)
				await keeper.giveBack(keyOfChannel(channel), channel, { status: "closed", isIdle: true });
		}
	}

	/** Another process waits for it. It goes with its books exact, or not at all. */
	#giveBackIfIdle(channel: PayerChannel): void {
		const key = keyOfChannel(channel);
		if (this.#isInUse(channel) || !this.has(key, channel)) return;
		channel.isWanted = false;
		this.#byKey.delete(key);
		this.#behind(this.#options.keeper.giveBack(key, channel, { isIdle: true }));
	}

	/** Whether something is on its way on it. An answer that nobody has begun to read is not: it pays no more, if it has to. */
	#isInUse(channel: PayerChannel): boolean {
		return this.turns.isBusy(keyOfChannel(channel)) || this.turns.isRunning(channel) || !channel.isIdle;
	}

	#byId(channelId: Hex): PayerChannel | undefined {
		return this.all.find((channel) => channel.channelId === channelId);
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
}
