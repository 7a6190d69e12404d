import { type Hex, type LocalAccount, type PublicClient, TransactionNotFoundError } from "viem";
import { InFlight } from "./inFlight.ts";
import { type Outbox, type OutboxEntry, versionsOf } from "./outbox.ts";
import { type Refusal, refusalOf } from "./refusals.ts";
import { signBid } from "./replacement.ts";

/** How often in a row a transaction must be seen as passed over before its nonce counts as taken. */
const LOOKS_BEFORE_TAKEN = 10;

/** After how many bids a transaction bids more only every {@link SLOW_MS}: it must neither flood the record nor give up its nonce. */
const MANY_BIDS = 20;
const SLOW_MS = 60_000;

export type DeliveryOptions = Readonly<{
	client: PublicClient;
	account: LocalAccount;
	outbox: Outbox;
	now: () => number;
	stuckAfterMs: number;
	maxFeePerGas: bigint | undefined;
}>;

/**
 * Where a transaction stands among its account's: others come first; it is next; its nonce is used, by itself perhaps;
 * another transaction has it.
 */
export type Place = "waiting" | "next" | "used" | "taken";

/** Gets transactions that are in no block into one: broadcasts them again, bids more for them. Internal. */
export class Delivery {
	readonly inFlight = new InFlight();
	readonly #options: DeliveryOptions;

	constructor(options: DeliveryOptions) {
		this.#options = options;
	}

	/** `undefined` when the transaction is, or may be, on its way; otherwise why this node did not take it. */
	async send(raw: Hex): Promise<Refusal | undefined> {
		try {
			await this.#options.client.sendRawTransaction({ serializedTransaction: raw });
			return undefined;
		} catch (error) {
			return refusalOf(error);
		}
	}

	/** In a block or in a pool; a node that does not answer knows it, perhaps. */
	mayBeKnown(hash: Hex): Promise<boolean> {
		return this.#isKnown(hash).catch(() => true);
	}

	/** One node that lags behind another looks just as if the nonce were taken: only many looks in a row are believed. */
	async placeOf(entry: OutboxEntry): Promise<Place> {
		const progress = this.inFlight.of(entry);
		const { from: address, nonce } = entry;
		const count = await this.#options.client.getTransactionCount({ address, blockTag: "latest" });
		const isPassed = count > nonce && !(await this.#isAnyKnown(entry));
		progress.looksPassed = isPassed ? progress.looksPassed + 1 : 0;
		if (progress.looksPassed >= LOOKS_BEFORE_TAKEN) return "taken";
		if (count > nonce) return "used";
		return count === nonce ? "next" : "waiting";
	}

	/**
	 * Broadcasts what no node knows any more. Bids more for one of our own that blocks pass over though it is next, or that
	 * nodes do not take beside what they have: durable in the outbox, then told to `onBid`, then broadcast.
	 */
	async push(given: OutboxEntry, place: Place, onBid: (entry: OutboxEntry) => void): Promise<void> {
		const entry = await this.#keepLimit(given, onBid);
		const refusal = await this.#keepAlive(entry);
		const { account, stuckAfterMs } = this.#options;
		const isOurs = entry.from === account.address.toLowerCase();
		if (place === "used" || !isOurs || stuckAfterMs === Number.POSITIVE_INFINITY || !this.#mayBid(entry)) return;
		const mayWait = refusal === undefined || refusal === "below-base-fee";
		if (refusal === "underpriced" || (mayWait && place === "next" && (await this.#isStuck(entry))))
			await this.#bid(entry, onBid);
	}

	/** Writes down that a transaction may bid more: here alone, so that no bid is lost to a write beside it. */
	async #keepLimit(entry: OutboxEntry, onBid: (entry: OutboxEntry) => void): Promise<OutboxEntry> {
		const { feeLimit } = this.inFlight.of(entry);
		const written = feeLimit?.toString();
		if (written === entry.feeLimit) return entry;
		const { feeLimit: _, ...rest } = entry;
		const next: OutboxEntry = written === undefined ? rest : { ...rest, feeLimit: written };
		await this.#options.outbox.put(next);
		onBid(next);
		return next;
	}

	/** Not at every look: each bid stays in the record, and has to be looked for from then on. */
	#mayBid(entry: OutboxEntry): boolean {
		const { now, stuckAfterMs } = this.#options;
		const { bidAt } = this.inFlight.of(entry);
		if (bidAt === undefined) return true;
		const age = now() - bidAt;
		const isMany = (entry.bids?.length ?? 0) >= MANY_BIDS;
		return age < 0 || age >= (isMany ? Math.max(stuckAfterMs, SLOW_MS) : stuckAfterMs);
	}

	/** The newest version that a node takes; resolves to why none took the newest of all. */
	async #keepAlive(entry: OutboxEntry): Promise<Refusal | undefined> {
		let newest: Refusal | undefined;
		for (const [age, { hash, raw }] of versionsOf(entry).entries()) {
			if (await this.#isKnown(hash)) return newest;
			const refusal = await this.send(raw);
			if (age === 0) newest = refusal;
			if (refusal === undefined || refusal === "nonce-taken") return newest;
		}
		return newest;
	}

	/** For long enough, and blocks were made without it: where none are made no bid helps. */
	async #isStuck(entry: OutboxEntry): Promise<boolean> {
		const { client, now, stuckAfterMs } = this.#options;
		const readHead = () => client.getBlockNumber({ cacheTime: 0 });
		const { since, head } = await this.inFlight.inLineSince(entry, now(), readHead);
		return now() - since >= stuckAfterMs && (await readHead()) > head;
	}

	async #bid(given: OutboxEntry, onBid: (entry: OutboxEntry) => void): Promise<void> {
		const { client, account, outbox, now, maxFeePerGas } = this.#options;
		const progress = this.inFlight.of(given);
		const estimate = await client.estimateFeesPerGas();
		const terms = { limit: this.inFlight.limitFor(given, maxFeePerGas), underpriced: progress.underpriced };
		// It may have been raised since, and is never lowered: what is bid up to is on disk first.
		const entry = await this.#keepLimit(given, onBid);
		const bid = await signBid(entry, account, estimate, terms, now());
		if (bid === undefined) return;
		const next: OutboxEntry = { ...entry, bids: [...(entry.bids ?? []), bid] };
		progress.bidAt = now();
		await outbox.put(next);
		onBid(next);
		progress.underpriced = (await this.send(bid.raw)) === "underpriced" ? progress.underpriced + 1 : 0;
	}

	async #isAnyKnown(entry: OutboxEntry): Promise<boolean> {
		for (const { hash } of versionsOf(entry)) if (await this.#isKnown(hash)) return true;
		return false;
	}

	/** In a block or in a pool. The nonce may be used by this very transaction, when an earlier answer was lost. */
	async #isKnown(hash: Hex): Promise<boolean> {
		try {
			await this.#options.client.getTransaction({ hash });
			return true;
		} catch (error) {
			if (error instanceof TransactionNotFoundError) return false;
			throw error;
		}
	}
}
