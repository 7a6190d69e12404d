import type { Address, PublicClient } from "viem";
import type { TypedDataSigner } from "../../voucher/index.ts";
import type { PayerStore } from "../store/store.ts";
import type { Wallet } from "../wallet.ts";

/** What looking after kept channels works with. Nothing of it needs a key, nor the server. */
export type LookParts = Readonly<{
	store: PayerStore;
	/** The payer's own nodes, by chain id: what they say is believed, what a server says is not. */
	nodes: Readonly<{ at(chainId: number): Promise<PublicClient> }>;
	/** Unix milliseconds. */
	now: () => number;
}>;

/** What getting a deposit back works with: the payer sends transactions of its own, and pays the gas for them. */
export type RecoveryParts = LookParts &
	Readonly<{
		nodes: LookParts["nodes"] & Readonly<{ wallet(chainId: number): Promise<SendingWallet> }>;
		/** Whose transactions they are; lower case. */
		payer: Address;
		/** The account sends for itself, a contract wallet behind its owner for example, and sees to the gas. Default: no. */
		sendsItself?: boolean;
	}>;

/** Of a wallet, what is needed. */
export type SendingWallet = Pick<Wallet, "send" | "hasGas" | "mined" | "stateOf">;

/** What a dispute's evidence is made with. */
export type EvidenceParts = LookParts &
	Readonly<{
		/** Accounts at hand that vouchers may be of: the payer's, and session keys that are not in the store. */
		signers?: readonly TypedDataSigner[];
	}>;
