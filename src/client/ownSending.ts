/** How a payer's own transaction leaves: what is on disk of it first, and what is known of it when that fails. */
import type { Call } from "../escrow/calls.ts";
import { TransactionNotSentError, TransactionRevertedError } from "../escrow/sender.ts";
import { type PayerAccount, sendsItself } from "./account.ts";
import { isNothingSent, UNTOLD } from "./untold.ts";
import type { SentTransaction, Wallet } from "./wallet.ts";

/**
 * What is known of a transaction that was not seen to be mined. `unsent`: it never left. `superseded`: another one took its
 * nonce. `denied`: the account says that it has sent nothing. `reverted`: it did nothing. `open`: it may be mined yet.
 */
export type Fate = "unsent" | "superseded" | "denied" | "reverted" | "open";

export type OwnSending = Readonly<{
	wallet: Wallet;
	account: PayerAccount;
	/** Sent one after the other; only the last is written. */
	calls: readonly Call[];
	kind: string;
	/** Waited for right before the last is signed. What it throws keeps it from being signed. */
	allow?: () => Promise<void>;
	/**
	 * Puts the last on disk before it leaves: what it throws keeps it from leaving. Called again when it is signed anew. Of an
	 * account that sends by itself the hash is known too late for that: it is called with `UNTOLD` first, then with what was sent.
	 */
	write: (sent: SentTransaction) => Promise<void>;
	/** Told, and waited for, when the last is not known to be mined. */
	failed: (fate: Fate) => Promise<void> | void;
}>;

/**
 * Sends calls of the payer's own and waits until they are mined.
 *
 * @throws TransactionRevertedError, TransactionPendingError, TransactionNotSentError, and what `allow`, `write` and the account
 *   throw
 */
export async function sendOwn({ wallet, account, calls, kind, allow, write, failed }: OwnSending): Promise<void> {
	const isToldLate = sendsItself(account);
	let isTold = false;
	// Whether the last may have left, whatever becomes of what is written of it.
	let mayBeSent = false;
	try {
		await wallet.send(
			calls,
			kind,
			async (sent) => {
				isTold = true;
				mayBeSent = isToldLate;
				await write(sent);
				mayBeSent = true;
			},
			async () => {
				await allow?.();
				if (isToldLate) await write(UNTOLD);
				mayBeSent = isToldLate;
			},
		);
	} catch (error) {
		await failed(fateOf(error, mayBeSent, isToldLate && !isTold));
		throw error;
	}
}

function fateOf(error: unknown, mayBeSent: boolean, isUntold: boolean): Fate {
	if (error instanceof TransactionRevertedError) return "reverted";
	if (error instanceof TransactionNotSentError) return "superseded";
	if (!mayBeSent) return "unsent";
	return isUntold && isNothingSent(error) ? "denied" : "open";
}
