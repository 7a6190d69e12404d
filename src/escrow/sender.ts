import {
	type Address,
	BaseError,
	type Hex,
	keccak256,
	type LocalAccount,
	type PublicClient,
	TransactionNotFoundError,
	type TransactionReceipt,
} from "viem";
import type { Call } from "./calls.ts";
import { assertConfirmations, lookForReceipt } from "./confirmations.ts";
import type { Outbox, OutboxEntry, TransactionPurpose } from "./outbox.ts";
import { revertReason } from "./reverts.ts";

export type SenderOptions = Readonly<{
	client: PublicClient;
	/** Signs and pays the gas. */
	account: LocalAccount;
	chainId: number;
	outbox: Outbox;
	/** Unix milliseconds. */
	now?: () => number;
	/** How often a receipt is looked for, in ms. */
	pollMs?: number;
	/** How long `wait` looks for a receipt before it gives up waiting (the transaction goes on). */
	timeoutMs?: number;
	/** How many blocks deep a transaction has to lie before `wait` says how it ended; its own block counts. Default 1. */
	confirmations?: number;
	/**
	 * The most gas that a call may need; one that needs more is not sent. Default: any. Code of others runs in our transactions
	 * (a contract wallet's `isValidSignature`), and the gas is ours.
	 */
	maxGas?: number;
}>;

export type SendRequest = Call &
	Readonly<{
		purpose: TransactionPurpose;
		/** Writes the entry durably, together with what else has to be on disk with it. Default: the outbox alone. */
		record?: (entry: OutboxEntry) => Promise<void>;
	}>;

/** A transaction that another account has signed, to be sent for it. `record` as in {@link SendRequest}. */
export type SignedRequest = Pick<SendRequest, "purpose" | "record"> &
	Readonly<{ signed: Readonly<{ raw: Hex; from: Address; nonce: number }> }>;

/** The call would revert, or was mined and reverted: nothing changed on chain (draft-evm-session-00, Transaction Outcome Checks). */
export class TransactionRevertedError extends Error {
	override readonly name = "TransactionRevertedError";
	readonly code = "TRANSACTION_REVERTED";
	/** Name of the contract's error, `unknown` when it gave none. For logs, never for the wire. */
	readonly reason: string;
	/** Absent when the simulation reverted and nothing was sent. */
	readonly hash: Hex | undefined;
	constructor(reason: string, hash?: Hex, cause?: unknown) {
		super(hash ? `transaction ${hash} reverted` : `the call would revert: ${reason}`, { cause });
		this.reason = reason;
		this.hash = hash;
	}
}

/** The transaction's outcome is unknown yet: it is in the outbox and is followed there. Ask again later. */
export class TransactionPendingError extends Error {
	override readonly name = "TransactionPendingError";
	readonly code = "TRANSACTION_PENDING";
	readonly hash: Hex;
	constructor(hash: Hex) {
		super(`transaction ${hash} is not mined, or not deep enough, yet`);
		this.hash = hash;
	}
}

/** The transaction can't be had: refused by the node, or its nonce was taken by another one. */
export class TransactionNotSentError extends Error {
	override readonly name = "TransactionNotSentError";
	readonly code = "TRANSACTION_NOT_SENT";
	/** Its record, which nobody has marked as dropped yet. */
	readonly entry: OutboxEntry;
	constructor(message: string, entry: OutboxEntry) {
		super(message);
		this.entry = entry;
	}
}

/** Head-room over the estimate: the state may move a little between estimate and execution. */
const GAS_MARGIN_PERCENT = 20n;

const NONCE_ATTEMPTS = 3;

/** How often in a row a transaction must be seen as passed over before it counts as dropped. */
const LOOKS_BEFORE_DROPPED = 10;

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
	readonly #maxGas: bigint | undefined;
	/** One transaction at a time gets a nonce and is broadcast. */
	#turn: Promise<unknown> = Promise.resolve();
	#nextNonce = 0;

	/** @throws {RangeError} unless `confirmations` is a positive integer. */
	constructor(options: SenderOptions) {
		const { client, account, chainId, outbox, now = Date.now } = options;
		const { pollMs = 1_000, timeoutMs = 60_000, confirmations = 1, maxGas } = options;
		assertConfirmations(confirmations);
		this.#confirmations = confirmations;
		this.#maxGas = maxGas === undefined ? undefined : BigInt(maxGas);
		this.#client = client;
		this.#account = account;
		this.#chainId = chainId;
		this.#outbox = outbox;
		this.#now = now;
		this.#pollMs = pollMs;
		this.#timeoutMs = timeoutMs;
	}

	/** Leaves its nonce to a transaction of an earlier run, found in the outbox, if it is this account's. */
	reserveNonce({ from, chainId, nonce }: OutboxEntry): void {
		if (from !== this.address.toLowerCase() || chainId !== this.#chainId) return;
		this.#nextNonce = Math.max(this.#nextNonce, nonce + 1);
	}

	get address(): Address {
		return this.#account.address;
	}

	/**
	 * Simulates, signs, records and broadcasts; `wait` then tells the outcome.
	 *
	 * @throws TransactionRevertedError when the call would revert, or need more gas than `maxGas`: nothing was sent
	 * @throws TransactionNotSentError when the node refused it for good
	 */
	async broadcast(request: SendRequest): Promise<OutboxEntry> {
		const gas = await this.#estimate(request);
		return this.#exclusive(() => this.#signAndBroadcast(request, gas));
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
		const refusal = await this.#broadcast(raw);
		if (refusal === undefined || (await this.#mayBeKnown(entry.hash))) return entry;
		throw new TransactionNotSentError(`the node refused transaction ${entry.hash}: ${refusal}`, entry);
	}

	/**
	 * Waits for the outcome of a recorded transaction until it is `confirmations` blocks deep. Broadcasts it again while no
	 * node knows it, also when a reorganization took it out of its block.
	 *
	 * @throws TransactionRevertedError, TransactionPendingError, TransactionNotSentError
	 */
	async wait(entry: OutboxEntry): Promise<TransactionReceipt> {
		const deadline = this.#now() + this.#timeoutMs;
		let looksPassed = 0;
		for (;;) {
			const { receipt, deepEnough } = await lookForReceipt(this.#client, entry.hash, this.#confirmations);
			if (deepEnough) {
				if (receipt.status === "success") return receipt;
				throw new TransactionRevertedError("unknown", entry.hash);
			}
			// One node that lags behind another looks just the same: only many looks in a row are believed.
			looksPassed = receipt === undefined && (await this.#isPassed(entry)) ? looksPassed + 1 : 0;
			if (looksPassed >= LOOKS_BEFORE_DROPPED) {
				throw new TransactionNotSentError(`another transaction took nonce ${entry.nonce} of ${entry.from}`, entry);
			}
			if (this.#now() >= deadline) throw new TransactionPendingError(entry.hash);
			if (receipt === undefined) await this.#broadcastIfUnknown(entry);
			await delay(this.#pollMs);
		}
	}

	async #estimate({ to, data }: SendRequest): Promise<bigint> {
		try {
			const gas = await this.#client.estimateGas({ account: this.#account, to, data });
			if (this.#maxGas === undefined || gas <= this.#maxGas) return gas + (gas * GAS_MARGIN_PERCENT) / 100n;
		} catch (error) {
			const reason = revertReason(error);
			if (reason !== undefined) throw new TransactionRevertedError(reason, undefined, error);
			throw error;
		}
		throw new TransactionRevertedError("more gas than is paid for");
	}

	async #signAndBroadcast(request: SendRequest, gas: bigint): Promise<OutboxEntry> {
		let passed: OutboxEntry | undefined;
		for (let attempt = 1; ; attempt++) {
			const entry = await this.#sign(request, gas);
			await (request.record ?? ((one: OutboxEntry) => this.#outbox.put(one)))(entry);
			// Only now: until its successor stands in its place, somebody has to follow the first one.
			if (passed !== undefined) await this.#outbox.put({ ...passed, state: "dropped" });
			this.#nextNonce = entry.nonce + 1;
			const refusal = await this.#broadcast(entry.raw);
			if (refusal === undefined) return entry;
			if (refusal === "nonce-taken" && (await this.#mayBeKnown(entry.hash))) return entry;
			// Refused for good: it never was in a pool, so its nonce is free again.
			this.#nextNonce = entry.nonce;
			if (refusal !== "nonce-taken" || attempt === NONCE_ATTEMPTS) {
				throw new TransactionNotSentError(`the node refused transaction ${entry.hash}: ${refusal}`, entry);
			}
			passed = entry;
			this.#nextNonce = 0;
		}
	}

	async #sign({ to, data, purpose }: SendRequest, gas: bigint): Promise<OutboxEntry> {
		const [pendingNonce, fees] = await Promise.all([
			this.#client.getTransactionCount({ address: this.address, blockTag: "pending" }),
			this.#client.estimateFeesPerGas(),
		]);
		const nonce = Math.max(pendingNonce, this.#nextNonce);
		const raw = await this.#account.signTransaction({
			type: "eip1559",
			chainId: this.#chainId,
			nonce,
			to,
			data,
			gas,
			maxFeePerGas: fees.maxFeePerGas,
			maxPriorityFeePerGas: fees.maxPriorityFeePerGas,
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
		};
	}

	/** `undefined` when the transaction is, or may be, on its way; otherwise why it can never be. */
	async #broadcast(raw: Hex): Promise<string | undefined> {
		try {
			await this.#client.sendRawTransaction({ serializedTransaction: raw });
			return undefined;
		} catch (error) {
			return definitiveRefusal(error);
		}
	}

	async #broadcastIfUnknown({ hash, raw }: OutboxEntry): Promise<void> {
		if (!(await this.#isKnown(hash))) await this.#broadcast(raw);
	}

	/** In a block or in a pool. The nonce may be taken by this very transaction, when an earlier answer was lost. */
	async #isKnown(hash: Hex): Promise<boolean> {
		try {
			await this.#client.getTransaction({ hash });
			return true;
		} catch (error) {
			if (error instanceof TransactionNotFoundError) return false;
			throw error;
		}
	}

	/** As `#isKnown`; a node that does not answer knows it, perhaps. */
	#mayBeKnown(hash: Hex): Promise<boolean> {
		return this.#isKnown(hash).catch(() => true);
	}

	/** Its nonce is behind the account's confirmed count, yet no node knows it: another transaction took the nonce. */
	async #isPassed({ from, nonce, hash }: OutboxEntry): Promise<boolean> {
		const confirmed = await this.#client.getTransactionCount({ address: from, blockTag: "latest" });
		return confirmed > nonce && !(await this.#isKnown(hash));
	}

	#exclusive<T>(task: () => Promise<T>): Promise<T> {
		const run = this.#turn.then(task, task);
		this.#turn = run.catch(() => undefined);
		return run;
	}
}

/** Why a node will never take this transaction; `undefined` when it has it already or when that is not certain. */
function definitiveRefusal(error: unknown): string | undefined {
	const text = error instanceof BaseError ? `${error.shortMessage} ${error.details}` : String(error);
	if (/nonce too low|nonce is too low|lower than the current nonce/i.test(text)) return "nonce-taken";
	if (/insufficient funds/i.test(text)) return "insufficient funds for gas; fund the account that sends transactions";
	if (/intrinsic gas|max fee per gas less than|exceeds block gas limit/i.test(text)) return "gas settings";
	return undefined;
}

function delay(ms: number): Promise<void> {
	return new Promise((resolve) => setTimeout(resolve, ms));
}
