import type { Address, Hex, PublicClient } from "viem";
import { type PayerAccount, sendsItself } from "./account.ts";
import type { Nodes } from "./nodes.ts";
import { assertAccepted, UnusableSignatureError } from "./payerSignature.ts";
import { remembered } from "./remembered.ts";
import { type PayerKind, readPayerKind } from "./sessionKeys.ts";

/** What moves a token by the payer's signature. */
export type Mover = Readonly<{ by: "authorization" | "permit2"; chainId: number; token: Address }>;

/** A signature that is about to be made. */
export type Making = Readonly<{
	digest: () => Uint8Array;
	/** Made by a key, in the one form that is taken. */
	byKey: () => Promise<Hex>;
	/** As the account makes it. */
	byContract: () => Promise<Hex>;
	/** What else has to be right about it where the payer has code. */
	check?: (client: PublicClient, signature: Hex) => Promise<void>;
}>;

/** The payer's account on its chains: what it can sign and send there, which depends on the code at its address. */
export class PayingAccount {
	readonly account: PayerAccount;
	/** Lowercase. */
	readonly address: Address;
	readonly #nodes: Nodes;
	readonly #kinds = new Map<number, Promise<PayerKind>>();
	/** What was found to be refused when the payer signs it, as it has code. */
	readonly #unusable = new Set<string>();

	constructor(account: PayerAccount, nodes: Nodes) {
		this.account = account;
		this.address = account.address.toLowerCase() as Address;
		this.#nodes = nodes;
	}

	/** What the address was when it was first asked for. */
	kindAt(chainId: number): Promise<PayerKind> {
		return remembered(this.#kinds, chainId, async () => readPayerKind(await this.#nodes.at(chainId), this.address));
	}

	/** Why its signature can't move a token, as far as that is known before it signs. */
	async signingRefusal(mover: Mover): Promise<string | undefined> {
		const { account } = this;
		if (this.#unusable.has(nameOf(mover))) return "the payer has code, and its signature is not taken";
		const signsNone = sendsItself(account) && account.contractSignatures !== true;
		return signsNone && (await this.kindAt(mover.chainId)) === "contract"
			? "the payer is a contract, and signs nothing for it"
			: undefined;
	}

	/** Why it can't send transactions, or sign them for others to send. */
	async sendingRefusal(chainId: number, by: "payer" | "others"): Promise<string | undefined> {
		if (sendsItself(this.account))
			return by === "payer" ? undefined : "the payer's account signs no transaction for others to send";
		return (await this.kindAt(chainId)) === "contract"
			? "the payer is a contract, which no key of its own sends transactions for"
			: undefined;
	}

	/** Whether nobody else pays for the gas of its transactions: others may, where a contract wallet has them sent. */
	async needsGas(chainId: number): Promise<boolean> {
		return !sendsItself(this.account) || (await this.kindAt(chainId)) !== "contract";
	}

	/**
	 * Makes a signature that moves money. Where the payer has code, tokens and Permit2 ask that, so it is asked here as well
	 * before anything leaves. A contract's signature stays as it is.
	 *
	 * @throws UnusableSignatureError; from then on `signingRefusal` says so
	 */
	async sign(mover: Mover, { digest, byKey, byContract, check }: Making): Promise<Hex> {
		const kind = await this.kindAt(mover.chainId);
		if (kind === "key") return byKey();
		const signature = kind === "delegated" ? await byKey() : ((await byContract()).toLowerCase() as Hex);
		const client = await this.#nodes.at(mover.chainId);
		try {
			await assertAccepted(client, this.address, digest(), signature);
			await check?.(client, signature);
			return signature;
		} catch (error) {
			if (error instanceof UnusableSignatureError) this.#unusable.add(nameOf(mover));
			throw error;
		}
	}
}

function nameOf({ by, chainId, token }: Mover): string {
	return `${by} ${chainId}:${token}`;
}
