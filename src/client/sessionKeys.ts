import { type Address, bytesToHex, type Hex, hexToBytes, type LocalAccount, type PublicClient } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { signsDigests } from "./digestSigner.ts";

/**
 * Whose channels get a key of their own that signs their vouchers: everybody's; those of payers that sign no vouchers
 * themselves, which are contract wallets, or that would ask a person about each; or nobody's.
 */
export type SessionKeyUse = "always" | "contracts" | "never";

/** Makes the account of a private key. */
export type AccountOf = (key: Hex) => LocalAccount;

/** The default one, which signs by JavaScript, and vouchers by their digest. */
function portableAccount(key: Hex): LocalAccount {
	const account = privateKeyToAccount(key);
	return signsDigests(account, { sign: (digest) => account.sign({ hash: bytesToHex(digest) }) });
}

/** What a payer's address is on a chain. One that is `delegated` (EIP-7702) has code, and still signs with its key. */
export type PayerKind = "key" | "delegated" | "contract";

/** What the code of a delegated account begins with. */
const DELEGATION = "0xef0100";

/**
 * The key of one channel: it signs that channel's vouchers and nothing else, and is never used for another one. It is kept in
 * the channel's record, which is on disk before anything is signed for the channel. No printing of it shows the key.
 */
export class SessionKey {
	readonly address: Address;
	readonly account: LocalAccount;
	readonly #key: Hex;

	private constructor(key: Hex, accountOf: AccountOf) {
		this.account = accountOf(key);
		this.address = this.account.address.toLowerCase() as Address;
		this.#key = key;
	}

	/** A fresh one. */
	static create(accountOf: AccountOf = portableAccount): SessionKey {
		return new SessionKey(generatePrivateKey(), accountOf);
	}

	/** One that was kept. */
	static from(key: Hex, accountOf: AccountOf = portableAccount): SessionKey {
		return new SessionKey(key, accountOf);
	}

	/** The private key, for the channel's record alone. */
	secret(): Hex {
		return this.#key;
	}
}

/** What a payer's address is on the chain of this node. */
export async function readPayerKind(client: PublicClient, payer: Address): Promise<PayerKind> {
	const code = (await client.getCode({ address: payer })) ?? "0x";
	if (code === "0x") return "key";
	return code.toLowerCase().startsWith(DELEGATION) && hexToBytes(code).length === 23 ? "delegated" : "contract";
}
