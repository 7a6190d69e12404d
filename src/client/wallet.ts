import {
	type Address,
	type Hex,
	keccak256,
	type LocalAccount,
	type PublicClient,
	TransactionNotFoundError,
	TransactionReceiptNotFoundError,
} from "viem";
import type { Call } from "../escrow/calls.ts";
import { isContractFault } from "../escrow/nodeFault.ts";
import { revertReason } from "../escrow/reverts.ts";
import {
	TransactionNotSentError,
	TransactionPendingError,
	TransactionRevertedError,
	TransactionSender,
} from "../escrow/sender.ts";
import { type PayerAccount, sendsItself } from "./account.ts";

/** How long a transaction of the payer's is waited for. */
const MINING_MS = 60_000;

/** How long a signed transaction that others are to broadcast keeps the payer's next one waiting. */
const HELD_MS = 60_000;

/** How many nonces one transaction may lose to other processes of the same key, and be signed anew for the next one. */
const MAX_NONCES = 5;

/** How often in a row a transaction must be seen as passed over before it counts as that. */
const LOOKS_BEFORE_PASSED = 5;

/** How often in a row a node must not know a transaction before it counts as never sent. */
const LOOKS_BEFORE_LOST = 3;

/** How often the payer's node is asked for a transaction that its account has just sent, a polling interval apart. */
const LOOKS_FOR_SENT = 3;

/** The nonce of a transaction that some other account sent for the payer: it is never taken for passed over. */
export const NO_NONCE = Number.MAX_SAFE_INTEGER;

/** Head-room over the estimate of gas. */
const GAS_MARGIN_PERCENT = 20n;

export type WalletOptions = Readonly<{
	account: PayerAccount;
	chainId: number;
	client: PublicClient;
	now: () => number;
}>;

/** What a transaction of the payer's is found by again. */
export type SentTransaction = Readonly<{ hash: Hex; nonce: number }>;

/** A transaction that the payer signed and did not broadcast. */
export type SignedTransaction = SentTransaction & Readonly<{ raw: Hex }>;

/** What became of a transaction, as the payer's own node shows it. */
export type TransactionState = "mined" | "reverted" | "open" | "passed";

/**
 * What the payer sends on one chain itself, one thing at a time: transactions have one row of nonces, and an approval
 * belongs to what comes right after it.
 */
export class Wallet {
	readonly #options: WalletOptions;
	/** For an account that does not send for itself. */
	readonly #local: Readonly<{ account: LocalAccount; sender: TransactionSender }> | undefined;
	#turn: Promise<unknown> = Promise.resolve();
	/** What the payer broadcast itself; a node may not have counted it yet. */
	#nextNonce = 0;

	constructor(options: WalletOptions) {
		this.#options = options;
		const { account } = options;
		if (sendsItself(account)) return;
		const sender = new TransactionSender({
			...options,
			account,
			outbox: { put: async () => undefined },
			pollMs: options.client.pollingInterval,
			timeoutMs: MINING_MS,
			// A version with higher fees has another hash, and this one is what the payer finds its transaction by again.
			stuckAfterMs: Number.POSITIVE_INFINITY,
		});
		this.#local = { account, sender };
	}

	/** Whether there is anything to pay gas with. */
	async hasGas(): Promise<boolean> {
		return (await this.#options.client.getBalance({ address: this.#options.account.address })) > 0n;
	}

	/**
	 * Sends calls one after the other, each when the one before is mined. `onSent` is told of the last before it is broadcast,
	 * and waited for: what it throws keeps it from being sent. It is told again when another process of this key took the nonce
	 * and the call is signed anew. An account that sends for itself tells the hash only when it has sent it, so there `onSent`
	 * hears of it right after.
	 *
	 * @param onSending - is called once, and waited for, right before the last is signed: it would not revert. What it throws
	 *   keeps it from being signed
	 * @throws TransactionRevertedError, TransactionPendingError, TransactionNotSentError, and what the account throws
	 */
	send(
		calls: readonly Call[],
		kind: string,
		onSent: (sent: SentTransaction) => Promise<void> | void = () => undefined,
		onSending: () => Promise<void> = nothing,
	): Promise<void> {
		return this.#alone(async () => {
			for (const call of calls.slice(0, -1)) await this.#sendOne(call, kind, nothing, nothing);
			const last = calls.at(-1);
			let sending: Promise<void> | undefined;
			const onSendingOnce = () => (sending ??= onSending());
			if (last !== undefined) await this.#sendOne(last, kind, onSent, onSendingOnce);
		});
	}

	async #sendOne(
		call: Call,
		kind: string,
		onSent: (sent: SentTransaction) => Promise<void> | void,
		onSending: () => Promise<void>,
	): Promise<void> {
		if (this.#local === undefined) {
			const sent = await this.#sendByAccount(call, onSending);
			await onSent(sent);
			return this.mined(sent.hash);
		}
		const { sender } = this.#local;
		const record = async ({ hash, nonce }: SentTransaction) => onSent({ hash, nonce });
		for (let triesLeft = MAX_NONCES; ; triesLeft--) {
			const entry = await sender.broadcast({ ...call, purpose: { kind }, onSigning: onSending, record });
			this.#nextNonce = entry.nonce + 1;
			try {
				await sender.wait(entry);
				return;
			} catch (error) {
				// What another process of this key has sent took its nonce: it can't be mined any more, and is sent anew.
				if (!(error instanceof TransactionNotSentError) || triesLeft === 1) throw error;
			}
		}
	}

	/**
	 * Signs a call as a transaction for others to broadcast, and lets `use` have it. Until `use` is done nothing else is sent,
	 * for a while at least: the next transaction takes the nonce after it if it was broadcast, and the same one if it was
	 * not, so that no nonce is lost and at most one of the two is ever mined.
	 *
	 * @param onSigning - is waited for right before it is signed: it would not revert. What it throws keeps it from being signed
	 */
	lend<T>(
		call: Call & Readonly<{ to: Hex }>,
		use: (transaction: SignedTransaction) => Promise<T>,
		onSigning: () => Promise<void> = nothing,
	): Promise<T> {
		return this.#hold(async () => use(await this.#sign(call, onSigning)));
	}

	/** As `lend`, for a transaction that was signed before. */
	lendAgain<T>(transaction: SignedTransaction, use: (transaction: SignedTransaction) => Promise<T>): Promise<T> {
		return this.#hold(() => use(transaction));
	}

	/** What became of a transaction; `passed` when another one has taken its nonce. */
	async stateOf({ hash, nonce }: SentTransaction): Promise<TransactionState> {
		const { client, account } = this.#options;
		for (let looks = 1; ; looks++) {
			// The count first: a transaction that is mined in between is then still found.
			const mined = await client.getTransactionCount({ address: account.address, blockTag: "latest" });
			const status = await this.#statusOf(hash);
			if (status !== undefined) return status === "success" ? "mined" : "reverted";
			if (mined <= nonce) return "open";
			// One node that lags behind another looks just the same, and what counts as passed is paid again.
			if (looks === LOOKS_BEFORE_PASSED) return "passed";
			await this.#pause();
		}
	}

	/**
	 * Whether one that is `open` can't be mined by itself: the process that kept it ended before it was broadcast, or the node
	 * has dropped it. The payer's next transaction takes its nonce, so that at most one of the two is ever mined.
	 */
	async isLost({ hash, nonce }: SentTransaction): Promise<boolean> {
		const { client, account } = this.#options;
		// What this process has sent keeps its nonce; an account that sends for itself may do so by a node of its own.
		if (this.#local === undefined || this.#nextNonce > nonce || (await isKnown(client, hash))) return false;
		return (await client.getTransactionCount({ address: account.address, blockTag: "pending" })) <= nonce;
	}

	/**
	 * Waits until a transaction is mined that the payer sent before.
	 *
	 * @throws TransactionRevertedError; TransactionPendingError when it takes too long
	 */
	async mined(hash: Hex): Promise<void> {
		const deadline = this.#options.now() + MINING_MS;
		for (;;) {
			const status = await this.#statusOf(hash);
			if (status === "success") return;
			if (status === "reverted") throw new TransactionRevertedError("unknown", hash);
			if (this.#options.now() >= deadline) throw new TransactionPendingError(hash);
			await this.#pause();
		}
	}

	async #statusOf(hash: Hex): Promise<"success" | "reverted" | undefined> {
		try {
			return (await this.#options.client.getTransactionReceipt({ hash })).status;
		} catch (error) {
			if (error instanceof TransactionReceiptNotFoundError) return undefined;
			throw error;
		}
	}

	/** Nobody is asked for a transaction that would revert. */
	async #sendByAccount({ to, data }: Call, onSending: () => Promise<void>): Promise<SentTransaction> {
		const { account, chainId, client } = this.#options;
		if (to === null || !sendsItself(account)) throw new TypeError("this account can't send that");
		try {
			await client.call({ account: account.address, to, data });
		} catch (error) {
			if (isContractFault(error))
				throw new TransactionRevertedError(revertReason(error) ?? "unknown", undefined, error);
			throw error;
		}
		await onSending();
		const hash = await account.sendTransaction({ chainId, to, data });
		return { hash, nonce: await this.#nonceOf(hash, account.address) };
	}

	/** A contract wallet's transaction is some other account's, whose nonces say nothing. */
	async #nonceOf(hash: Hex, address: Address): Promise<number> {
		for (let looks = 1; looks <= LOOKS_FOR_SENT; looks++) {
			try {
				const { from, nonce } = await this.#options.client.getTransaction({ hash });
				return from.toLowerCase() === address.toLowerCase() ? nonce : NO_NONCE;
			} catch (error) {
				// It is sent: whatever is wrong with the node, its hash has to be told of.
				if (!(error instanceof TransactionNotFoundError)) break;
			}
			await this.#pause();
		}
		return NO_NONCE;
	}

	async #sign({ to, data }: Call & Readonly<{ to: Hex }>, onSigning: () => Promise<void>): Promise<SignedTransaction> {
		const { chainId, client } = this.#options;
		if (this.#local === undefined) throw new TypeError("this account signs no transaction for others to send");
		const { account } = this.#local;
		const { address } = account;
		const [gas, pending, { maxFeePerGas, maxPriorityFeePerGas }] = await Promise.all([
			client.estimateGas({ account: address, to, data }).catch((error: unknown) => {
				const reason = revertReason(error);
				throw reason === undefined ? error : new TransactionRevertedError(reason, undefined, error);
			}),
			client.getTransactionCount({ address, blockTag: "pending" }),
			client.estimateFeesPerGas(),
		]);
		const nonce = Math.max(pending, this.#nextNonce);
		await onSigning();
		const raw = await account.signTransaction({
			type: "eip1559",
			chainId,
			nonce,
			to,
			data,
			gas: gas + (gas * GAS_MARGIN_PERCENT) / 100n,
			maxFeePerGas,
			maxPriorityFeePerGas,
		});
		return { raw, hash: keccak256(raw), nonce };
	}

	#pause(): Promise<void> {
		return new Promise((resolve) => setTimeout(resolve, this.#options.client.pollingInterval));
	}

	#alone<T>(task: () => Promise<T>): Promise<T> {
		const run = this.#turn.then(task, task);
		this.#turn = run.catch(() => undefined);
		return run;
	}

	#hold<T>(task: () => Promise<T>): Promise<T> {
		const run = this.#turn.then(task, task);
		let timer: ReturnType<typeof setTimeout> | undefined;
		this.#turn = Promise.race([
			run.catch(() => undefined),
			// From when it begins, not from when it is asked for.
			this.#turn.then(() => new Promise((resolve) => (timer = setTimeout(resolve, HELD_MS)))),
		]).finally(() => clearTimeout(timer));
		return run;
	}
}

async function nothing(): Promise<void> {}

/** Whether a node knows a transaction, mined or not. It is asked several times, a polling interval apart. */
export async function isKnown(client: PublicClient, hash: Hex): Promise<boolean> {
	for (let looks = 1; ; looks++) {
		try {
			await client.getTransaction({ hash });
			return true;
		} catch (error) {
			if (!(error instanceof TransactionNotFoundError)) throw error;
		}
		if (looks === LOOKS_BEFORE_LOST) return false;
		await new Promise((resolve) => setTimeout(resolve, client.pollingInterval));
	}
}
