import { type Address, createPublicClient, custom, type Hex, type LocalAccount, type PublicClient } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, beforeEach } from "vitest";
import type { OutboxEntry } from "../../src/escrow/outbox.ts";
import { readBalance } from "../../src/escrow/reads.ts";
import { type SenderOptions, TransactionSender } from "../../src/escrow/sender.ts";
import { mined } from "../support/mined.ts";
import { createStage, mine, recordingOutbox, rpc, type Stage, sendAs, setBalance, transferCall } from "./support.ts";

export const PURPOSE = { kind: "test" };
export const GAS_MONEY = 10n ** 18n;

/** Asked for each call to the node; may answer for it, or lose its answer. */
export type Around = (method: string, ask: () => Promise<unknown>, params: unknown) => Promise<unknown>;

/** A chain, and for each test an account with tokens and gas, and somebody to be paid. */
export class SenderStage {
	stage!: Stage;
	client!: PublicClient;
	account!: LocalAccount;
	recipient!: Address;

	async renew(): Promise<void> {
		this.account = privateKeyToAccount(generatePrivateKey());
		this.recipient = privateKeyToAccount(generatePrivateKey()).address;
		await setBalance(this.client, this.account.address, GAS_MONEY);
		await sendAs(this.stage.chain, this.stage.payer, transferCall(this.stage.token, this.account.address, 1_000n));
	}

	makeSender(options: Partial<SenderOptions> = {}) {
		const outbox = recordingOutbox();
		const { client, account } = this;
		const { chainId } = this.stage.chain;
		const usual = { client, account, chainId, outbox, pollMs: 10, timeoutMs: 10_000 };
		return { sender: new TransactionSender({ ...usual, ...options }), written: outbox.written };
	}

	/** A payment of `value` that a second execution would repeat. */
	payment(value: bigint) {
		return { ...transferCall(this.stage.token, this.recipient, value), purpose: PURPOSE };
	}

	received(): Promise<bigint> {
		return readBalance(this.client, this.stage.token, this.recipient);
	}

	nonceOf(blockTag: "latest" | "pending"): Promise<number> {
		return this.client.getTransactionCount({ address: this.account.address, blockTag });
	}

	/** Another transaction of the same account with that nonce, past the sender. */
	async takeNonce(nonce: number): Promise<Hex> {
		const { maxFeePerGas, maxPriorityFeePerGas } = await this.client.estimateFeesPerGas();
		const serializedTransaction = await this.account.signTransaction({
			type: "eip1559",
			chainId: this.stage.chain.chainId,
			nonce,
			to: this.recipient,
			value: 1n,
			gas: 21_000n,
			maxFeePerGas: 2n * maxFeePerGas,
			maxPriorityFeePerGas: 2n * maxPriorityFeePerGas,
		});
		return this.client.sendRawTransaction({ serializedTransaction });
	}

	/** The same, and it is mined. */
	async useUpNonce(nonce: number): Promise<void> {
		await mined(this.client, await this.takeNonce(nonce));
	}

	/** A node whose calls pass by `around`. */
	transportThat(around: Around) {
		const request = ({ method, params }: { method: string; params?: unknown }) =>
			around(method, () => this.client.request({ method, params } as never), params);
		return custom({ request }, { retryCount: 0 });
	}

	clientThat(around: Around): PublicClient {
		return createPublicClient({ transport: this.transportThat(around), cacheTime: 0 });
	}

	/** Makes a block whose gas costs `wei`: what bids less is passed over. */
	async mineAt(wei: bigint): Promise<void> {
		await this.setGasPrice(wei);
		await mine(this.client);
	}

	/** The base fee of the next block. */
	async setGasPrice(wei: bigint): Promise<void> {
		await rpc(this.client, "anvil_setNextBlockBaseFeePerGas", [`0x${wei.toString(16)}`]);
	}
}

/** Starts the chain of a test file. */
export function useSenderStage(): SenderStage {
	const on = new SenderStage();
	beforeAll(async () => {
		on.stage = await createStage();
		on.client = on.stage.chain.client;
	});
	afterAll(() => on.stage?.chain.stop());
	beforeEach(() => on.renew());
	return on;
}

/** The hash of the version that is to be mined. */
export function newestHash({ hash, bids = [] }: OutboxEntry): Hex {
	return bids.at(-1)?.hash ?? hash;
}
