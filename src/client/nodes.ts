import type { PublicClient } from "viem";
import type { PayerAccount } from "./account.ts";
import { PolicyRefusedError } from "./policy.ts";
import { remembered } from "./remembered.ts";
import { Wallet } from "./wallet.ts";

export type NodesOptions = Readonly<{
	account: PayerAccount;
	/** Serves every chain that `clients` has no node for; which one it really is on is asked before it is believed. */
	client: PublicClient;
	clients: Readonly<Record<number, PublicClient>>;
	now: () => number;
}>;

/** The payer's own nodes, one for each chain, and what the payer sends there itself. */
export class Nodes {
	readonly #options: NodesOptions;
	readonly #checked = new Map<number, Promise<PublicClient>>();
	readonly #wallets = new Map<number, Promise<Wallet>>();

	constructor(options: NodesOptions) {
		this.#options = options;
	}

	/**
	 * The node of a chain, once it has said that it is on that chain.
	 *
	 * @throws PolicyRefusedError (`chain`) when it is on another one
	 */
	at(chainId: number): Promise<PublicClient> {
		return remembered(this.#checked, chainId, async () => {
			const client = this.#options.clients[chainId] ?? this.#options.client;
			const served = await client.getChainId();
			if (served === chainId) return client;
			throw new PolicyRefusedError("chain", `the payer's node serves chain ${served}, not ${chainId}`);
		});
	}

	/** The payer's account on a chain: one for all that it sends there, since its transactions have one row of nonces. */
	wallet(chainId: number): Promise<Wallet> {
		return remembered(this.#wallets, chainId, async () => {
			const { account, now } = this.#options;
			return new Wallet({ account, chainId, client: await this.at(chainId), now });
		});
	}
}
