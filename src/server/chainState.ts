import type { Address, Hex, PublicClient } from "viem";
import { type EscrowChannel, readChannels } from "../escrow/reads.ts";
import { type ChainState, type Channel, chainNow } from "./channel.ts";
import type { OnEffects } from "./context.ts";
import { applyEvent } from "./ledger.ts";
import type { ChannelStore } from "./store/store.ts";

/** The chain could not be asked, or answered with nonsense: nothing is decided without it (I10). */
export class ChainUnavailableError extends Error {
	override readonly name = "ChainUnavailableError";
	readonly code = "CHAIN_UNAVAILABLE";
}

export type ChainStateOptions = Readonly<{
	client: PublicClient;
	escrow: Address;
	store: ChannelStore;
	/** D2: older than this and the channel is read again before a voucher is accepted. */
	maxAgeMs: number;
	/** Nothing is fresh by a node whose latest block is older than this, or as far ahead of our clock; 0: any age. */
	maxHeadAgeMs: number;
	/** How deep a deposit must be in the chain before it counts; its own block is one (draft-evm-session-00, Chain Reorganization). */
	confirmations: number;
	now: () => number;
	onEffects: OnEffects;
}>;

/** A block of the chain, as far as reading a state as of it needs. */
export type Head = Readonly<{ number: bigint; timestampSeconds: number }>;

/** Who follows the escrow's events, and up to where. */
export type Follower = Readonly<{
	/** The last block whose events have reached the ledger, and Unix ms of when it was the latest. */
	seen(): Readonly<{ block: Head; at: number }> | undefined;
	/** The block that is being worked on, or was last. */
	processingTo(): bigint | undefined;
	/**
	 * These were read as of `block` by somebody else, who may have been ahead: that block may be replaced before it is followed,
	 * and what it showed with it. They are read again when it was; from `from` on with every block, if that is earlier.
	 */
	revisit(channelIds: readonly Hex[], block: bigint, from?: bigint): void;
	/** This channel is fresh by the follower's word alone. */
	relied(channel: Channel): void;
}>;

/** How often a read as of a block is tried: behind one URL there may be a node that does not have the block yet. */
const READ_ATTEMPTS = 3;
const READ_PAUSE_MS = 150;

/** How many channels are put into the ledger at a time. */
const PAGE = 500;

/** What was read of channels, and which of them have funds that are not deep enough in the chain yet. */
type ReadStates = Readonly<{ states: ReadonlyMap<Hex, ChainState>; shallow: readonly Hex[] }>;

const NO_FUNDS = { deposit: 0n, settledOnChain: 0n, closeRequestedAt: 0, finalized: false } as const;

/**
 * Keeps what the chain says of channels fresh enough to sell on (D2). Whoever follows the escrow's events makes all
 * channels fresh at once; without such a follower, or when it is late, a channel is read when it is needed.
 */
export class ChainStateReader {
	readonly #options: ChainStateOptions;
	/** One read per channel at a time, shared by all who wait for it. */
	readonly #reading = new Map<Hex, Promise<void>>();
	#follower: Follower | undefined;

	constructor(options: ChainStateOptions) {
		this.#options = options;
	}

	/** From now on channels are fresh as long as `follower` keeps up. */
	followedBy(follower: Follower): void {
		this.#follower = follower;
	}

	/** Whether the channel's stored chain state is young enough: then nobody has to be asked. */
	isFresh(channel: Channel): boolean {
		if (channel.finalized || this.#isYoung(channel.chainReadAt)) return true;
		if (!this.#isFollowed()) return false;
		this.#follower?.relied(channel);
		return true;
	}

	/**
	 * Resolves when the channel's stored chain state is young enough; at once when it is already.
	 *
	 * @throws ChainUnavailableError when the chain does not answer
	 */
	async ensureFresh(channel: Channel): Promise<void> {
		if (this.isFresh(channel)) return;
		await this.refresh(channel.channelId);
		const refreshed = await this.#options.store.channel(channel.channelId);
		if (refreshed === undefined || refreshed.finalized) return;
		// Another node behind the same URL may be blocks behind the one that was asked before.
		if (!this.#isYoung(refreshed.chainReadAt) && !this.#isFollowed())
			throw new ChainUnavailableError("the node that answered is behind another one");
	}

	#isFollowed(): boolean {
		const seen = this.#follower?.seen();
		return seen !== undefined && this.#isYoung(seen.at) && !this.#isStale(seen.block);
	}

	/** What is yet to come is not young: the clock was set back, and says nothing of how long ago that was. */
	#isYoung(at: number): boolean {
		const { now, maxAgeMs } = this.#options;
		const ageMs = now() - at;
		return ageMs >= 0 && ageMs <= maxAgeMs;
	}

	#isStale({ timestampSeconds }: Head): boolean {
		const { now, maxHeadAgeMs } = this.#options;
		return maxHeadAgeMs > 0 && Math.abs(now() - timestampSeconds * 1_000) > maxHeadAgeMs;
	}

	/** @throws ChainUnavailableError when a node whose latest block this is has stopped following the chain */
	assertFollowing(latest: Head): void {
		const fault = this.faultOf(latest);
		if (fault !== undefined) throw fault;
	}

	/** Why nothing is fresh by a node whose latest block this is, if that is so. */
	faultOf(latest: Head): ChainUnavailableError | undefined {
		if (!this.#isStale(latest)) return undefined;
		const ageSeconds = Math.round(this.#options.now() / 1_000 - latest.timestampSeconds);
		return new ChainUnavailableError(
			`the node's latest block, ${latest.number}, is ${ageSeconds} s old: it has stopped following the chain, or this machine's clock is wrong`,
		);
	}

	/**
	 * Reads the channel now and puts what was read into the ledger.
	 *
	 * @throws ChainUnavailableError when the chain does not answer, or only a node that has stopped following it
	 */
	refresh(channelId: Hex): Promise<void> {
		const running = this.#reading.get(channelId);
		if (running !== undefined) return running;
		const reading = this.observe([channelId])
			.then((head) => this.assertFollowing(head))
			.finally(() => this.#reading.delete(channelId));
		this.#reading.set(channelId, reading);
		return reading;
	}

	/** A channel that is new here: what happened to it while it was taken in has passed its follower by. */
	async caughtUp(channel: Channel): Promise<void> {
		this.readAhead(channel);
		const processingTo = this.#follower?.processingTo();
		if (processingTo !== undefined && processingTo > BigInt(channel.blockNumber)) await this.refresh(channel.channelId);
	}

	/**
	 * What `read` said of this channel, or a receipt, is in the ledger: perhaps from a block that its follower has not reached,
	 * and that may be another one by then. So it is read again there.
	 */
	readAhead(channel: Channel): void {
		this.#follower?.revisit([channel.channelId], BigInt(chainNow(channel).blockNumber));
	}

	/**
	 * What the escrow says of a channel now, and of its deposit as much as lies `confirmations` blocks deep; `undefined` when
	 * it has none, or none so deep. Whoever puts it into the ledger calls `readAhead` or `caughtUp` after that.
	 */
	async read(channelId: Hex): Promise<ChainState | undefined> {
		const head = await this.#head();
		this.assertFollowing(head);
		const { states, shallow } = await this.#readAt([channelId], head);
		this.#revisitDeeper(shallow, head);
		return states.get(channelId);
	}

	/**
	 * Reads channels, all as of one block, and puts what they are into the ledger. What the escrow has no record of is taken
	 * away: its funds are gone. Channels that this store does not know are left out. Bad news counts also from a node that is
	 * long behind, or where our clock is wrong; only fresh nothing is by that.
	 *
	 * @param head As of this block; the latest unless it is given.
	 * @param reorganized Whether blocks that were read before have been replaced: then an earlier block than the one known counts.
	 * @throws ChainUnavailableError when the chain does not answer, or only a node that is behind `notBefore`
	 */
	async observe(
		channelIds: readonly Hex[],
		{ head, notBefore, reorganized = false }: Readonly<{ head?: Head; notBefore?: bigint; reorganized?: boolean }> = {},
	): Promise<Head> {
		const askedAt = this.#options.now();
		const block = head ?? (await this.#head());
		if (notBefore !== undefined && block.number < notBefore) {
			throw new ChainUnavailableError(`the node is at block ${block.number}, before block ${notBefore}`);
		}
		const isFresh = !this.#isStale(block);
		for (let from = 0; from < channelIds.length; from += PAGE) {
			const page = channelIds.slice(from, from + PAGE);
			const { states, shallow } = await this.#readAt(page, block);
			this.#revisitDeeper(shallow, block);
			await Promise.all(
				page.map((channelId) => {
					const chain = states.get(channelId) ?? { ...NO_FUNDS, blockNumber: Number(block.number) };
					return this.#put(channelId, chain, { askedAt, reorganized, isFresh });
				}),
			);
		}
		if (head === undefined) this.#follower?.revisit(channelIds, block.number);
		return block;
	}

	/** Funds that are not deep enough yet: by then nothing tells of them any more. */
	#revisitDeeper(channelIds: readonly Hex[], { number }: Head): void {
		if (channelIds.length === 0) return;
		const deepAt = number + BigInt(this.#options.confirmations - 1);
		this.#follower?.revisit(channelIds, deepAt, number + 1n);
	}

	async #put(
		channelId: Hex,
		chain: ChainState,
		{ askedAt, reorganized, isFresh }: Readonly<{ askedAt: number; reorganized: boolean; isFresh: boolean }>,
	): Promise<void> {
		const { store, onEffects } = this.#options;
		const { value, durable } = await store.transact({ channel: channelId }, ({ channel }) => {
			if (channel === undefined) return { value: undefined };
			const step = applyEvent(channel, { type: "chain-observed", chain, reorganized }, askedAt);
			if (!step.ok) return { value: undefined };
			const { chainReadAt } = isFresh ? step.channel : channel;
			return { value: step, writes: step.channel === channel ? {} : { channel: { ...step.channel, chainReadAt } } };
		});
		if (value === undefined || value.effects.length === 0) return;
		await durable;
		onEffects(value.channel, value.effects);
	}

	/** The latest block. Behind one URL there may be a node that is behind what was followed already: it is asked again. */
	async #head(): Promise<Head> {
		const { client } = this.#options;
		for (let attempt = 1; ; attempt++) {
			const { number, timestamp } = await client.getBlock().catch((cause: unknown) => {
				throw new ChainUnavailableError("the chain did not answer", { cause });
			});
			const head = { number, timestampSeconds: Number(timestamp) };
			const followed = this.#follower?.seen()?.block.number ?? 0n;
			if (number >= followed) return head;
			if (attempt === READ_ATTEMPTS)
				throw new ChainUnavailableError(
					`the node is at block ${number}, behind block ${followed} that was seen before`,
				);
			await pause(attempt);
		}
	}

	async #readAt(channelIds: readonly Hex[], head: Head): Promise<ReadStates> {
		for (let attempt = 1; ; attempt++) {
			try {
				return await this.#readOnce(channelIds, head.number);
			} catch (cause) {
				if (attempt === READ_ATTEMPTS) throw new ChainUnavailableError("the chain did not answer", { cause });
				await pause(attempt);
			}
		}
	}

	async #readOnce(channelIds: readonly Hex[], blockNumber: bigint): Promise<ReadStates> {
		const { client, escrow, confirmations } = this.#options;
		const deep = confirmations === 1 ? undefined : blockNumber - BigInt(confirmations - 1);
		const [latest, before] = await Promise.all([
			readChannels(client, escrow, channelIds, blockNumber),
			deep === undefined ? undefined : readChannels(client, escrow, channelIds, deep < 0n ? 0n : deep),
		]);
		const states = new Map<Hex, ChainState>();
		const shallow: Hex[] = [];
		for (const [channelId, channel] of latest) {
			const settledDeep = before?.get(channelId);
			if (before !== undefined && (settledDeep?.deposit ?? 0n) < channel.deposit) shallow.push(channelId);
			if (before !== undefined && settledDeep === undefined) continue;
			states.set(channelId, stateOf(channel, settledDeep, Number(blockNumber)));
		}
		return { states, shallow };
	}
}

function pause(attempt: number): Promise<void> {
	return new Promise((resolve) => setTimeout(resolve, READ_PAUSE_MS * attempt));
}

/** A channel's state, with as much of its deposit as it had deep in the chain. */
function stateOf(channel: EscrowChannel, deep: EscrowChannel | undefined, blockNumber: number): ChainState {
	const { settled: settledOnChain, closeRequestedAt, finalized } = channel;
	const deposit = deep === undefined || channel.deposit < deep.deposit ? channel.deposit : deep.deposit;
	// What was settled is from the deposit, however lately that was raised.
	return {
		deposit: deposit < settledOnChain ? settledOnChain : deposit,
		settledOnChain,
		closeRequestedAt,
		finalized,
		blockNumber,
	};
}
