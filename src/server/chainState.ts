import type { Address, Hex, PublicClient } from "viem";
import { readChannel } from "../escrow/reads.ts";
import type { ChainState, Channel } from "./channel.ts";
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
	/** How deep a deposit must be in the chain before it counts; its own block is one (draft-evm-session-00, Chain Reorganization). */
	confirmations: number;
	now: () => number;
	onEffects: OnEffects;
}>;

/** Keeps what the chain says of a channel fresh enough to sell on (D2). For now by reads; a watcher will spare most of them. */
export class ChainStateReader {
	readonly #options: ChainStateOptions;
	/** One read per channel at a time, shared by all who wait for it. */
	readonly #reading = new Map<Hex, Promise<void>>();

	constructor(options: ChainStateOptions) {
		this.#options = options;
	}

	/**
	 * Resolves when the channel's stored chain state is young enough; at once when it is already.
	 *
	 * @throws ChainUnavailableError when the chain does not answer
	 * @throws ChainRegressionError when it shows less than was relied on
	 */
	async ensureFresh(channel: Channel): Promise<void> {
		const { now, maxAgeMs } = this.#options;
		if (channel.finalized || now() - channel.chainReadAt <= maxAgeMs) return;
		await this.refresh(channel.channelId);
	}

	/** Reads the channel now and puts what was read into the ledger. */
	refresh(channelId: Hex): Promise<void> {
		const running = this.#reading.get(channelId);
		if (running !== undefined) return running;
		const reading = this.#refresh(channelId).finally(() => this.#reading.delete(channelId));
		this.#reading.set(channelId, reading);
		return reading;
	}

	/**
	 * What the escrow says of a channel now, and of its deposit as much as lies `confirmations` blocks deep; `undefined` when
	 * it has none, or none so deep.
	 */
	async read(channelId: Hex): Promise<ChainState | undefined> {
		const { client, escrow } = this.#options;
		try {
			const deep = await this.#deepBlock();
			const [onChain, before] = await Promise.all([
				readChannel(client, escrow, channelId),
				deep === undefined ? undefined : readChannel(client, escrow, channelId, deep),
			]);
			if (onChain === undefined || (deep !== undefined && before === undefined)) return undefined;
			const { settled: settledOnChain, closeRequestedAt, finalized } = onChain;
			const deposit = before === undefined ? onChain.deposit : smaller(before.deposit, onChain.deposit);
			// What was settled is from the deposit, however lately that was raised.
			return {
				deposit: deposit < settledOnChain ? settledOnChain : deposit,
				settledOnChain,
				closeRequestedAt,
				finalized,
			};
		} catch (cause) {
			throw new ChainUnavailableError("the chain did not answer", { cause });
		}
	}

	/** The latest block in which a deposit counts; `undefined` when any does. */
	async #deepBlock(): Promise<bigint | undefined> {
		const { client, confirmations } = this.#options;
		if (confirmations === 1) return undefined;
		const deep = (await client.getBlockNumber({ cacheTime: 0 })) - BigInt(confirmations - 1);
		return deep < 0n ? 0n : deep;
	}

	async #refresh(channelId: Hex): Promise<void> {
		const { store, now, onEffects } = this.#options;
		const askedAt = now();
		const chain = await this.read(channelId);
		if (chain === undefined) throw new ChainUnavailableError(`the chain no longer knows channel ${channelId}`);
		const { value, durable } = await store.transact({ channel: channelId }, ({ channel }) => {
			// A read that was asked before the newest one answered is old news.
			if (channel === undefined || channel.chainReadAt > askedAt) return { value: undefined };
			const step = applyEvent(channel, { type: "chain-observed", chain }, askedAt);
			return step.ok ? { value: step, writes: { channel: step.channel } } : { value: undefined };
		});
		if (value === undefined || value.effects.length === 0) return;
		await durable;
		onEffects(value.channel, value.effects);
	}
}

function smaller(a: bigint, b: bigint): bigint {
	return a < b ? a : b;
}
