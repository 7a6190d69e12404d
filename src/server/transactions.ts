import { setMaxListeners } from "node:events";
import type { TransactionReceipt } from "viem";
import type { Call } from "../escrow/calls.ts";
import type { OutboxEntry, TransactionPurpose } from "../escrow/outbox.ts";
import {
	type SignedRequest,
	TransactionNotSentError,
	TransactionRevertedError,
	type TransactionSender,
} from "../escrow/sender.ts";
import type { EngineLog } from "./context.ts";
import { describeError } from "./describeError.ts";
import { FollowUp } from "./followUp.ts";
import type { ChannelStore } from "./store/store.ts";

export { recordEntry } from "./outboxWrites.ts";

/**
 * What a kind of transaction means for the ledger. Everything is decided from the recorded purpose alone, so that a
 * restart reaches the same conclusion as the request that sent it.
 */
export type Conclusions = Readonly<{
	/** It was mined and did its work. Writes what follows from it together with the entry's new state. */
	succeeded(entry: OutboxEntry, receipt: TransactionReceipt): Promise<void>;
	/** It reverted, was dropped, or never left: no node ever had it. Writes that, and what follows from it. */
	failed(entry: OutboxEntry, outcome: FailedOutcome): Promise<void>;
}>;

export type FailedOutcome = "reverted" | "dropped" | "unsent";

/** How an outcome stands in the outbox. */
export function concludedEntry(entry: OutboxEntry, outcome: FailedOutcome): OutboxEntry {
	return { ...entry, state: outcome === "unsent" ? "dropped" : outcome };
}

/** A call of ours, or what another account has signed. */
export type TransactionRequest = (Call | Pick<SignedRequest, "signed">) &
	Readonly<{
		/** One transaction at a time under this key; a second request for it waits for the first one's outcome. */
		key: string;
		purpose: TransactionPurpose;
		/** Durably writes the entry and what must be on disk with it, before the broadcast. */
		record(entry: OutboxEntry): Promise<void>;
		/** The most that is bid for it for its own sake, in wei per gas (`SendRequest.feeLimit`); for calls of ours only. */
		feeLimit?: bigint;
		/** As `SendRequest.plannedGas` and `SendRequest.checkFunds`. */
		plannedGas?: bigint;
		checkFunds?: boolean;
		/** Whose tokens it moves; absent where it moves nobody's, or we don't pay for it. */
		draw?: Draw;
	}>;

/** Tokens that a payer has signed away, for a transaction whose gas is ours. */
export type Draw = Readonly<{
	/** Names whose tokens, and which. */
	account: string;
	/** Base units. */
	amount: bigint;
	/** What the account can pay now, as of the latest block; base units. */
	funds(): Promise<bigint>;
	/** Names a nonce that several such signatures may share: the chain takes one of them. */
	once?: string;
}>;

/**
 * How many transactions that move one payer's tokens are on their way at a time: one transaction of its own can leave them all
 * without funds.
 */
const MAX_DRAWS = 64;

/** Others on their way take what this one would: each passes a simulation, and all but the first would revert. */
export class OverdrawnError extends Error {
	override readonly name = "OverdrawnError";
	readonly code = "OVERDRAWN";
	constructor() {
		super("other transactions of the payer's on their way may take what this one needs");
	}
}

/** Carries transactions from intent to conclusion, and until no reorganization can undo it, across restarts. */
export class Transactions {
	readonly #sender: TransactionSender;
	readonly #conclusionsOf: (purpose: TransactionPurpose) => Conclusions;
	readonly #keyOf: (purpose: TransactionPurpose) => string;
	readonly #log: EngineLog;
	readonly #running = new Map<string, Promise<TransactionReceipt>>();
	/** Recorded, outcome unknown, and nobody waiting. */
	readonly #unfinished = new Map<string, OutboxEntry>();
	/** Found beside an unfinished one of the same key, each to be followed when the one before it has ended. */
	readonly #later = new Map<string, readonly OutboxEntry[]>();
	/** Of transactions on their way, in the order in which they were asked for. */
	readonly #draws = new Map<string, Draw>();
	readonly #followUp: FollowUp;
	readonly #stopping = new AbortController();

	constructor(
		sender: TransactionSender,
		conclusionsOf: (purpose: TransactionPurpose) => Conclusions,
		keyOf: (purpose: TransactionPurpose) => string,
		log: EngineLog,
	) {
		this.#sender = sender;
		this.#conclusionsOf = conclusionsOf;
		this.#keyOf = keyOf;
		this.#log = log;
		this.#followUp = new FollowUp(sender, log, this.#stopping.signal);
		// Each wait listens to it.
		setMaxListeners(0, this.#stopping.signal);
	}

	/** Whether a transaction under this key is on its way. */
	isUnderWay(key: string): boolean {
		return this.#running.has(key) || this.#unfinished.has(key);
	}

	/** How many transactions that `account` has signed are on their way. */
	countFrom(account: string): number {
		return [...this.#unfinished.values()].filter(({ from }) => from === account).length;
	}

	/** The records of transactions on their way, whether somebody waits for them or not: their outcome is unknown. */
	pendingEntries(): readonly OutboxEntry[] {
		return [...this.#unfinished.values(), ...[...this.#later.values()].flat()];
	}

	/** Those that had come to their conclusion when a reorganization took them out of the chain: they are being sent again. */
	resending(): readonly OutboxEntry[] {
		return this.#followUp.resending();
	}

	/** Lets one that is on its way cost as much as `maxCost` wei in all (absent: any), and sees that somebody follows it. */
	raiseFeeLimit(entry: OutboxEntry, maxCost: bigint | undefined): void {
		this.#sender.raiseFeeLimit(entry, maxCost);
		this.join(this.#keyOf(entry.purpose))?.catch(() => undefined); // Who follows it says what becomes of it.
	}

	/**
	 * Looks again at what was concluded and is not final yet, and keeps what it finds in the store. Ledgers do not change by it:
	 * they follow the chain. Call it every few seconds, and once before the first transaction is sent. One that is called while another
	 * runs joins it.
	 */
	followUp(store: ChannelStore): Promise<void> {
		return this.#followUp.run(store);
	}

	/**
	 * Ends the waits soon, with a TransactionPendingError each, and resolves when the last has ended. What is on its way stays in
	 * the outbox for the next start.
	 */
	async stop(): Promise<void> {
		this.#stopping.abort();
		await this.idle();
	}

	/** Resolves when nobody waits for a transaction any more and nothing more is written of any. */
	async idle(): Promise<void> {
		while (this.#running.size > 0) await Promise.allSettled(this.#running.values());
		await this.#followUp.idle();
	}

	/**
	 * Sends a transaction, or joins the one under way for the same key, and resolves after its conclusion is on disk.
	 *
	 * @throws TransactionRevertedError, TransactionPendingError, TransactionNotSentError, OverdrawnError
	 */
	perform(request: TransactionRequest): Promise<TransactionReceipt> {
		const { key, draw } = request;
		return (
			this.join(key) ??
			this.#run(key, async () => {
				if (draw !== undefined) await this.#draw(key, draw);
				return this.#follow(key, await this.#broadcast(request));
			})
		);
	}

	/** Waits for the transaction under way for `key`; `undefined` when there is none. */
	join(key: string): Promise<TransactionReceipt> | undefined {
		const entry = this.#unfinished.get(key);
		return this.#running.get(key) ?? (entry && this.#run(key, () => this.#follow(key, entry)));
	}

	/** Takes up what an earlier run, or a request that gave up waiting, left unfinished. */
	async resume(pending: Iterable<OutboxEntry>): Promise<void> {
		for (const entry of pending) {
			this.#sender.reserveNonce(entry);
			const key = this.#keyOf(entry.purpose);
			// A crash between two attempts leaves both: one after the other.
			if (this.isUnderWay(key)) this.#later.set(key, [...(this.#later.get(key) ?? []), entry]);
			else this.#unfinished.set(key, entry);
		}
		for (let tried = new Set<OutboxEntry>(); ; ) {
			const untried = [...this.#unfinished].filter(([, entry]) => !tried.has(entry));
			if (untried.length === 0) return;
			tried = new Set([...tried, ...untried.map(([, entry]) => entry)]);
			await Promise.all(untried.map(([key]) => this.join(key)?.catch((error) => this.#notDone(key, error))));
			this.#takeUpLater();
		}
	}

	/** What waited behind a transaction of the same key that has ended. */
	#takeUpLater(): void {
		for (const [key, [next, ...others]] of this.#later) {
			if (this.isUnderWay(key)) continue;
			if (others.length === 0) this.#later.delete(key);
			else this.#later.set(key, others);
			if (next !== undefined) this.#unfinished.set(key, next);
		}
	}

	#notDone(key: string, error: unknown): void {
		const [transaction] = key.split(":");
		this.#log.warn({ transaction, reason: describeError(error) }, "a transaction is not done yet");
	}

	#run(key: string, start: () => Promise<TransactionReceipt>): Promise<TransactionReceipt> {
		const run = start().finally(() => {
			this.#running.delete(key);
			if (!this.#unfinished.has(key)) this.#draws.delete(key);
		});
		this.#running.set(key, run);
		return run;
	}

	/** Takes its place behind what was drawn before. Who has nothing else on the way is left to the simulation. */
	async #draw(key: string, draw: Draw): Promise<void> {
		const before = [...this.#draws.values()].filter(({ account }) => account === draw.account);
		this.#draws.set(key, draw);
		if (before.length === 0) return;
		if (draw.once !== undefined && before.some(({ once }) => once === draw.once)) throw new OverdrawnError();
		const drawn = before.reduce((sum, { amount }) => sum + amount, draw.amount);
		if (before.length >= MAX_DRAWS || drawn > (await draw.funds())) throw new OverdrawnError();
	}

	/** From the moment that it is on disk the transaction is unfinished, whatever goes wrong next. */
	async #broadcast(request: TransactionRequest): Promise<OutboxEntry> {
		const { key } = request;
		const record = async (entry: OutboxEntry) => {
			await request.record(entry);
			this.#unfinished.set(key, entry);
		};
		try {
			if ("signed" in request) return await this.#sender.broadcastSigned({ ...request, record });
			return await this.#sender.broadcast({ ...request, record });
		} catch (error) {
			if (error instanceof TransactionNotSentError) {
				await this.#conclusionsOf(error.entry.purpose).failed(error.entry, "unsent");
				this.#unfinished.delete(key);
			}
			throw error;
		}
	}

	async #follow(key: string, entry: OutboxEntry): Promise<TransactionReceipt> {
		const conclusions = this.#conclusionsOf(entry.purpose);
		let current = entry;
		const note = (one: OutboxEntry) => {
			current = one;
			this.#unfinished.set(key, one);
		};
		note(entry);
		let receipt: TransactionReceipt;
		try {
			receipt = await this.#sender.wait(entry, { onBid: note, signal: this.#stopping.signal });
		} catch (error) {
			if (error instanceof TransactionRevertedError)
				await conclusions.failed(this.#minedEntry(current, error.receipt), "reverted");
			else if (error instanceof TransactionNotSentError) await conclusions.failed(current, "dropped");
			else throw error; // Outcome unknown: it stays unfinished.
			this.#unfinished.delete(key);
			throw error;
		}
		await conclusions.succeeded(this.#minedEntry(current, receipt), receipt);
		this.#unfinished.delete(key);
		return receipt;
	}

	#minedEntry(entry: OutboxEntry, receipt: TransactionReceipt | undefined): OutboxEntry {
		return receipt === undefined ? entry : { ...entry, minedIn: this.#sender.minedIn(receipt) };
	}
}
