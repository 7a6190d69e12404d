import type { Address, Hex, LocalAccount } from "viem";

/** A call for an account to send by itself. */
export type AccountCall = Readonly<{ chainId: number; to: Address; data: Hex }>;

/**
 * An account whose key is elsewhere: a wallet in the browser (`accountFromProvider`), a contract wallet behind its owner. It signs
 * typed data and sends transactions; it signs none for others to send.
 */
export type SendingAccount = Readonly<{
	address: Address;
	signTypedData: LocalAccount["signTypedData"];
	/**
	 * Sends one call, with gas and fees as it sees fit. Resolves to the transaction's hash as soon as there is one. An error of
	 * the code `USER_REJECTED` or `TRANSACTION_NOT_SENT` says that nothing was sent; after any other it may have been.
	 */
	sendTransaction(call: AccountCall): Promise<Hex>;
	/**
	 * Of a contract wallet: whether `signTypedData` makes signatures of 65 bytes that its contract accepts (ERC-1271), so that
	 * they can authorize deposits. Default: no; deposits are its own transactions then.
	 */
	contractSignatures?: boolean;
}>;

/** Whoever pays: an account with its key at hand (any of viem's), or one that sends for itself. */
export type PayerAccount = LocalAccount | SendingAccount;

/** Whether an account sends for itself instead of signing transactions. */
export function sendsItself(account: PayerAccount): account is SendingAccount {
	return "sendTransaction" in account;
}
