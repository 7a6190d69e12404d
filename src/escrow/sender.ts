import {
	type Address,
	keccak256,
	type LocalAccount,
	type PublicClient,
	parseTransaction,
	type TransactionReceipt,
} from "viem";
import { assertConfirmations, lookForReceipt } from "./confirmations.ts";
import { Delivery } from "./delivery.ts";
import { firstFees, limitForGas, lowerLimit, withMargin, withoutMargin, writtenFees } from "./fees.ts";
import { type ChainView, lookWhereItIs, minedInOf, type Standing, viewChain } from "./follow.ts";
import { type MinedIn, type Outbox, type OutboxEntry, versionsOf } from "./outbox.ts";
import { finalRefusal } from "./refusals.ts";
import { minedRevertReason } from "./replacement.ts";
import { revertReason } from "./reverts.ts";
import type { SenderOptions, SendRequest, SignedRequest, WaitOptions } from "./senderOptions.ts";
import {
	NoFundsError,
	TransactionNotSentError,
	TransactionPendingError,
	TransactionRevertedError,
} from "./transactionErrors.ts";

export type { ChainView, Standing } from "./follow.ts";
export type { SenderOptions, SendRequest, SignedRequest, WaitOptions } from "./senderOptions.ts";
export {
	FeesTooHighError,
	NoFundsError,
	TransactionNotSentError,
	TransactionPendingError,
	TransactionRevertedError,
} from "./transactionErrors.ts";

const NONCE_ATTEMPTS = 3;

/** How often in a row a node may fail to say how a transaction stands. */
const FAILED_LOOKS = 3;

/**
 * Sends transactions of one account, one nonce sequence, each on disk before it is broadcast.
 *
 * @example
 * const sender = new TransactionSender({ client, account, chainId: 8453, outbox });
 * const call = closeCall(escrow, channelId, amount, signature);
 * const entry = await sender.broadcast({ ...call, purpose: { kind: "close", channelId } });
 * const receipt = await sender.wait(entry);
 */
export class TransactionSender {
	readonly #client: PublicClient;
	readonly #account: LocalAccount;
	readonly #chainId: number;
	readonly #outbox: Outbox;
	readonly #now: () => number;
	readonly #pollMs: number;
	readonly #timeoutMs: number;
	readonly #confirmations: number;
	readonly #finality: number;
	readonly #maxFeePerGas: bigint | undefined;
	readonly #delivery: Delivery;
	readonly #maxGas: bigint | undefined;
	/** One transaction at a time gets a nonce and is broadcast. */
	#turn: Promise<unknown> = Promise.resolve();
	#nextNonce = 0;

	/** @throws {RangeError} unless `confirmations` and `finality` are positive integers. */
	constructor(options: SenderOptions) {
		const { client, account, chainId, outbox, now = Date.now } = options;
		const { pollMs = 1_000, timeoutMs = 60_000, confirmations = 1, maxGas } = options;
		const { finality = 64, stuckAfterMs = 30_000, maxFeePerGas } = options;
		assertConfirmations(confirmations);
		assertConfirmations(finality, "finality");
		this.#finality = finality;
		this.#maxFeePerGas = maxFeePerGas;
		this.#confirmations = confirmations;
		this.#maxGas = maxGas === undefined ? undefined : BigInt(maxGas);
		this.#client = client;
		this.#account = account;
		this.#chainId = chainId;
		this.#outbox = outbox;
		this.#now = now;
		this.#pollMs = pollMs;
		this.#timeoutMs = timeoutMs;
		this.#delivery = new Delivery({ client, account, outbox, now, stuckAfterMs, maxFeePerGas });
	}

	/** Leaves its nonce to a transaction of an earlier run, found in the outbox, if it is this account's. */
	reserveNonce(entry: OutboxEntry): void {
		if (!this.#isOwn(entry)) return;
		this.#nextNonce = Math.max(this.#nextNonce, entry.nonce + 1);
	}

	get address(): Address {
		return this.#account.address;
	}

	get chainId(): number {
		return this.#chainId;
	}

	/**
	 * Simulates, signs, records and broadcasts; `wait` then tells the outcome.
	 *
	 * @throws TransactionRevertedError when the call would revert, or need more gas than `maxGas`: nothing was sent
	 * @throws FeesTooHighError when gas costs more than may be bid: nothing was sent
	 * @throws NoFundsError when funds are checked, and the account can't pay for the gas: nothing was sent
	 * @throws TransactionNotSentError when the node refused it for good
	 */
	async broadcast(request: SendRequest): Promise<OutboxEntry> {
		const gas = await this.#estimate(request);
		const feeLimit = limitForGas(request, gas);
		const limited = { ...request, ...(feeLimit !== undefined && { feeLimit }) };
		return this.#exclusive(() => this.#signAndBroadcast(limited, withMargin(gas)));
	}

	/**
	 * Lets a transaction on its way bid more from now on: it has become more urgent. The record of it is written by whoever
	 * waits for it, with its next look.
	 *
	 * @param maxCost wei, for all the gas that it was estimated to need; absent: any
	 */
	raiseFeeLimit(entry: OutboxEntry, maxCost: bigint | undefined): void {
		if (!this.#isOwn(entry)) return;
		const { gas } = parseTransaction(entry.raw);
		if (gas === undefined) return;
		this.#delivery.inFlight.raise(entry, maxCost === undefined ? undefined : maxCost / withoutMargin(gas));
	}

	/**
	 * Records and broadcasts a transaction that another account has signed and pays for; `wait` then tells the outcome. Takes
	 * no nonce of ours.
	 *
	 * @throws TransactionNotSentError when the node refused it for good
	 */
	async broadcastSigned({ signed, purpose, record }: SignedRequest): Promise<OutboxEntry> {
		const { raw, from, nonce } = signed;
		const entry: OutboxEntry = {
			hash: keccak256(raw),
			raw,
			chainId: this.#chainId,
			from: from.toLowerCase() as Address,
			nonce,
			purpose,
			state: "pending",
			createdAt: this.#now(),
		};
		await (record ?? ((one: OutboxEntry) => this.#outbox.put(one)))(entry);
		const refusal = finalRefusal(await this.#delivery.send(raw));
		if (refusal === undefined || (await this.#delivery.mayBeKnown(entry.hash))) return entry;
		throw new TransactionNotSentError(`the node refused transaction ${entry.hash}: ${refusal}`, entry);
	}

	/**
	 * Waits for the outcome of a recorded transaction until it is `confirmations` blocks deep. Broadcasts it again while no
	 * node knows it, also when a reorganization took it out of its block; bids more while blocks pass it over. At most one of
	 * its versions is ever mined, the receipt says which.
	 *
	 * @throws TransactionRevertedError, TransactionPendingError, TransactionNotSentError
	 */
	async wait(entry: OutboxEntry, { onBid = () => undefined, signal }: WaitOptions = {}): Promise<TransactionReceipt> {
		const deadline = this.#now() + this.#timeoutMs;
		let current = entry;
		const noteBid = (bid: OutboxEntry) => {
			current = bid;
			onBid(bid);
		};
		for (let failures = 0; ; ) {
			try {
				const receipt = await this.#look(current, noteBid, () => signal?.aborted || this.#now() >= deadline);
				if (receipt !== undefined) return receipt;
				failures = 0;
			} catch (error) {
				if (isOutcome(error) || ++failures >= FAILED_LOOKS || signal?.aborted) throw error;
			}
			await delay(this.#pollMs, signal);
		}
	}

	/** What is to be recorded of where a transaction was mined. */
	minedIn(receipt: TransactionReceipt): MinedIn {
		return minedInOf(receipt, this.#finality <= this.#confirmations);
	}

	/** The chain as of now, for looking at many transactions at once. */
	viewChain(): Promise<ChainView> {
		return viewChain(this.#client);
	}

	/**
	 * Looks again at a transaction that was concluded and is not final yet (`minedIn`). One that is in no block any more is
	 * sent again, with higher bids where it needs them. Writes nothing but new bids: the record as it has to be from now on
	 * is the caller's to keep.
	 *
	 * @example
	 * const { kind, entry } = await sender.recheck(concluded);
	 * if (kind !== "there") await outbox.put(entry);
	 */
	async recheck(entry: OutboxEntry, view?: ChainView): Promise<Standing> {
		const found = await lookWhereItIs(this.#client, view ?? (await this.viewChain()), entry, this.#finality);
		if (found !== undefined) {
			this.#delivery.inFlight.remove(entry);
			return found;
		}
		const place = await this.#delivery.placeOf(entry);
		if (place === "taken") {
			this.#delivery.inFlight.remove(entry);
			const { minedIn: _, ...rest } = entry;
			return { kind: "lost", entry: { ...rest, state: "dropped" } };
		}
		let current = entry;
		await this.#delivery.push(entry, place, (bid) => {
			current = bid;
		});
		return { kind: "missing", entry: current };
	}

	/** One look at a recorded transaction, and what is to be done for it if it is in no block; its receipt once it is done. */
	async #look(
		entry: OutboxEntry,
		onBid: (entry: OutboxEntry) => void,
		isOver: () => boolean,
	): Promise<TransactionReceipt | undefined> {
		const hashes = versionsOf(entry).map(({ hash }) => hash);
		const { receipt, deepEnough } = await lookForReceipt(this.#client, hashes, this.#confirmations);
		if (deepEnough) {
			this.#delivery.inFlight.remove(entry);
			if (receipt.status === "success") return receipt;
			throw new TransactionRevertedError(await minedRevertReason(this.#client, entry, receipt), receipt);
		}
		const place = receipt === undefined ? await this.#delivery.placeOf(entry) : "used";
		if (place === "taken") {
			this.#delivery.inFlight.remove(entry);
			throw new TransactionNotSentError(`another transaction took nonce ${entry.nonce} of ${entry.from}`, entry);
		}
		if (isOver()) throw new TransactionPendingError(entry.hash);
		if (receipt === undefined) await this.#delivery.push(entry, place, onBid);
		return undefined;
	}

	async #estimate({ to, data }: SendRequest): Promise<bigint> {
		try {
			const gas = await this.#client.estimateGas({ account: this.address, to, data });
			if (this.#maxGas === undefined || gas <= this.#maxGas) return gas;
		} catch (error) {
			const reason = revertReason(error);
			if (reason !== undefined) throw new TransactionRevertedError(reason, undefined, error);
			throw error;
		}
		throw new TransactionRevertedError("more gas than is paid for");
	}

	async #signAndBroadcast(request: SendRequest, gas: bigint): Promise<OutboxEntry> {
		await request.onSigning?.();
		let passed: OutboxEntry | undefined;
		for (let attempt = 1; ; attempt++) {
			const entry = await this.#sign(request, gas);
			await (request.record ?? ((one: OutboxEntry) => this.#outbox.put(one)))(entry);
			// Only now: until its successor stands in its place, somebody has to follow the first one.
			if (passed !== undefined) await this.#outbox.put({ ...passed, state: "dropped" });
			this.#nextNonce = entry.nonce + 1;
			const refusal = await this.#delivery.send(entry.raw);
			const reason = finalRefusal(refusal);
			// Another node behind the same URL may have taken it, and its answer was lost.
			if (reason === undefined || (await this.#delivery.mayBeKnown(entry.hash))) {
				this.#delivery.inFlight.of(entry);
				return entry;
			}
			// Refused for good: it never was in a pool, so its nonce is free again.
			this.#nextNonce = entry.nonce;
			if (refusal !== "nonce-taken" || attempt === NONCE_ATTEMPTS) {
				throw new TransactionNotSentError(`the node refused transaction ${entry.hash}: ${reason}`, entry);
			}
			passed = entry;
			this.#nextNonce = 0;
		}
	}

	async #sign({ to, data, purpose, feeLimit, checkFunds = false }: SendRequest, gas: bigint): Promise<OutboxEntry> {
		const [pendingNonce, fees, balance] = await Promise.all([
			this.#client.getTransactionCount({ address: this.address, blockTag: "pending" }),
			firstFees(this.#client, lowerLimit(feeLimit, this.#maxFeePerGas)),
			checkFunds ? this.#client.getBalance({ address: this.address }) : undefined,
		]);
		const needed = gas * fees.maxFeePerGas;
		if (balance !== undefined && balance < needed) throw new NoFundsError(this.address, balance, needed);
		const nonce = Math.max(pendingNonce, this.#nextNonce);
		const raw = await this.#account.signTransaction({
			type: "eip1559",
			chainId: this.#chainId,
			nonce,
			to,
			data,
			gas,
			...fees,
		});
		return {
			hash: keccak256(raw),
			raw,
			chainId: this.#chainId,
			from: this.address.toLowerCase() as Address,
			nonce,
			purpose,
			state: "pending",
			createdAt: this.#now(),
			fees: writtenFees(fees),
			...(feeLimit !== undefined && { feeLimit: String(feeLimit) }),
		};
	}

	#isOwn({ from, chainId }: OutboxEntry): boolean {
		return from === this.address.toLowerCase() && chainId === this.#chainId;
	}

	#exclusive<T>(task: () => Promise<T>): Promise<T> {
		const run = this.#turn.then(task, task);
		this.#turn = run.catch(() => undefined);
		return run;
	}
}

/** That it is mined, can't be, or is given up on for now; all else is the node's fault, or the disk's. */
function isOutcome(error: unknown): boolean {
	return (
		error instanceof TransactionRevertedError ||
		error instanceof TransactionPendingError ||
		error instanceof TransactionNotSentError
	);
}

function delay(ms: number, signal: AbortSignal | undefined): Promise<void> {
	if (signal?.aborted) return Promise.resolve();
	return new Promise((resolve) => {
		const done = () => {
			clearTimeout(timer);
			signal?.removeEventListener("abort", done);
			resolve();
		};
		const timer = setTimeout(done, ms);
		signal?.addEventListener("abort", done);
	});
}
