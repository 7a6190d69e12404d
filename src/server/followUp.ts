import type { OutboxEntry } from "../escrow/outbox.ts";
import type { Standing, TransactionSender } from "../escrow/sender.ts";
import type { EngineLog } from "./context.ts";
import { describeError } from "./describeError.ts";
import { recordEntry } from "./outboxWrites.ts";
import type { ChannelStore } from "./store/store.ts";

/** How many blocks are asked for in one run; most transactions share theirs with others, or were there a moment ago. */
const MAX_BLOCKS = 200;

/** How many that are in no block any more are looked for, and sent again, in one run. */
const MAX_MISSING = 200;

/** How many look-ups may fail before a run gives up. */
const MAX_FAILURES = 3;

/** Follows concluded transactions of one account and chain until they are final. */
export class FollowUp {
	readonly #sender: TransactionSender;
	readonly #log: EngineLog;
	readonly #stopping: AbortSignal;
	/** In no block any more, by hash of the first version. */
	readonly #missing = new Map<string, OutboxEntry>();
	#running: Promise<void> | undefined;

	/** @param stopping ends a run soon */
	constructor(sender: TransactionSender, log: EngineLog, stopping: AbortSignal) {
		this.#sender = sender;
		this.#log = log;
		this.#stopping = stopping;
	}

	resending(): readonly OutboxEntry[] {
		return [...this.#missing.values()];
	}

	run(store: ChannelStore): Promise<void> {
		this.#running ??= this.#run(store).finally(() => {
			this.#running = undefined;
		});
		return this.#running;
	}

	async idle(): Promise<void> {
		await this.#running?.catch(() => undefined);
	}

	async #run(store: ChannelStore): Promise<void> {
		const entries = await this.#due(store);
		if (entries.length === 0) return;
		const view = await this.#sender.viewChain();
		let failures = 0;
		for (const entry of entries) {
			if (this.#stopping.aborted) return;
			try {
				await this.#note(store, entry, await this.#sender.recheck(entry, view));
			} catch (error) {
				if (++failures >= MAX_FAILURES) throw error;
				this.#log.warn({ txHash: entry.hash, reason: describeError(error) }, "a transaction can't be looked at again");
			}
		}
	}

	/** Those to be looked at in this run, oldest first: they are final first, and make room for the others. */
	async #due(store: ChannelStore): Promise<readonly OutboxEntry[]> {
		const due: OutboxEntry[] = [];
		const blocks = new Set<number>();
		let missing = 0;
		for await (const entry of store.outbox({ state: "unfinal" })) {
			const { minedIn, chainId, hash } = entry;
			if (minedIn === undefined || chainId !== this.#sender.chainId) continue;
			// A nonce that a reorganization has freed for the node is not free.
			this.#sender.reserveNonce(entry);
			const isMissing = this.#missing.has(hash);
			if (isMissing && ++missing > MAX_MISSING) continue;
			if (!isMissing && !blocks.has(minedIn.blockNumber) && blocks.size >= MAX_BLOCKS) continue;
			if (!isMissing) blocks.add(minedIn.blockNumber);
			due.push(entry);
		}
		return due;
	}

	async #note(store: ChannelStore, before: OutboxEntry, { kind, entry }: Standing): Promise<void> {
		const wasMissing = this.#missing.has(before.hash);
		const facts = { transaction: entry.purpose.kind, txHash: entry.hash, nonce: entry.nonce };
		if (kind === "missing") {
			this.#missing.set(entry.hash, entry);
			if (!wasMissing) this.#log.warn(facts, "a reorganization took a transaction out of the chain; it is sent again");
			return;
		}
		if (kind !== "there") await recordEntry(store, entry);
		this.#missing.delete(before.hash);
		if (kind === "lost") this.#log.error(facts, "a transaction was taken out of the chain, and another has its nonce");
		if (kind !== "moved") return;
		const moved = { ...facts, minedAs: entry.minedIn?.transactionHash, blockNumber: entry.minedIn?.blockNumber };
		if (entry.state === before.state) this.#log.info(moved, "a reorganization moved a transaction to another block");
		else this.#log.error({ ...moved, state: entry.state }, "a reorganization changed how a transaction ended");
	}
}
