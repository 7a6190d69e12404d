/** Channels on a real chain whose server is gone, kept in a real wallet folder. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Address, type Hex, type LocalAccount, type PublicClient, toHex } from "viem";
import { generatePrivateKey, type PrivateKeyAccount, privateKeyToAccount } from "viem/accounts";
import { openWallet } from "../../../src/client/node/wallet.ts";
import { Nodes } from "../../../src/client/nodes.ts";
import type { RecoveryParts } from "../../../src/client/recovery/parts.ts";
import type { ChannelRecord, PayerStore } from "../../../src/client/store/store.ts";
import { approveCall, openCall, settleCall, transferCall } from "../../../src/escrow/index.ts";
import { computeChannelId, createVoucherDomain, signVoucher, ZERO_ADDRESS } from "../../../src/voucher/index.ts";
import type { Stage } from "../stage.ts";

/** What each channel holds, and for how much of it vouchers were signed. */
export const DEPOSIT = 1_000n;
export const SIGNED = 400n;

/** The escrow's grace period. */
export const GRACE_SECONDS = 900;

export type Funded = Readonly<{
	channelId: Hex;
	record: ChannelRecord;
	payer: PrivateKeyAccount;
	/** The payer's key. */
	key: Hex;
	payee: PrivateKeyAccount;
	/** A voucher of the channel's. */
	voucher(amount: bigint): Promise<Hex>;
	/** The payee redeems a voucher. */
	settle(amount: bigint): Promise<Hex>;
}>;

export type FundedOptions = Readonly<{
	deposit?: bigint;
	signed?: bigint;
	sessionKey?: Hex;
	isOpened?: boolean;
	/** Where it was opened. */
	url?: string;
	/** The payer's key. Default: a fresh one. */
	payer?: Hex;
}>;

/** A channel that the payer has opened by itself, and what its client has kept of it. */
export async function fundedChannel(stage: Stage, options: FundedOptions = {}): Promise<Funded> {
	const {
		deposit = DEPOSIT,
		signed = SIGNED,
		sessionKey,
		isOpened = true,
		url = "https://gone.example/quote",
	} = options;
	const { chain, token, escrow } = stage;
	const { chainId } = chain;
	const key = options.payer ?? generatePrivateKey();
	const payer = privateKeyToAccount(key);
	const payee = privateKeyToAccount(generatePrivateKey());
	await Promise.all([stage.giveGas(payer.address), stage.giveGas(payee.address)]);
	const signer = sessionKey === undefined ? payer : privateKeyToAccount(sessionKey);
	const parameters = {
		payer: lower(payer.address),
		payee: lower(payee.address),
		token,
		salt: toHex(crypto.getRandomValues(new Uint8Array(32))),
		authorizedSigner: sessionKey === undefined ? ZERO_ADDRESS : lower(signer.address),
		escrow,
		chainId,
	};
	const channelId = computeChannelId(parameters);
	if (isOpened) {
		const minted = await stage.payer({ gas: true, funds: deposit });
		await stage.send(transferCall(token, payer.address, deposit), minted);
		await stage.send(approveCall(token, escrow, deposit), payer);
		await stage.send(openCall(escrow, { ...parameters, deposit }), payer);
	}
	const domain = createVoucherDomain(chainId, escrow);
	const voucher = (amount: bigint) => signVoucher(signer, domain, { channelId, cumulativeAmount: amount });
	return {
		channelId,
		payer,
		key,
		payee,
		voucher,
		settle: async (amount) => stage.send(settleCall(escrow, channelId, amount, await voucher(amount)), payee),
		record: {
			key: `${new URL(url).origin} ${chainId}:${escrow}:${token}:${parameters.payee}`,
			status: "open",
			state: {
				channelId,
				...parameters,
				deposit: String(deposit),
				signed: String(signed),
				consumed: String(signed),
				uncertain: "0",
				resource: { url, method: "GET" },
			},
			...(sessionKey !== undefined && { sessionKey }),
			createdAtMs: Date.now(),
		},
	};
}

/** A wallet folder that goes on between processes. */
export type WalletFolder = Readonly<{ path: string; open(): Promise<PayerStore>; remove(): Promise<void> }>;

export async function walletFolder(...records: readonly ChannelRecord[]): Promise<WalletFolder> {
	const parent = await mkdtemp(join(tmpdir(), "sluice-recovery-"));
	const path = join(parent, "wallet");
	const open = () => openWallet(path);
	const store = await open();
	for (const record of records) {
		const held = await store.add(record, Number.MAX_SAFE_INTEGER);
		if (held !== undefined) await store.release(record.state.channelId, held.fence);
	}
	await store.close();
	return { path, open, remove: () => rm(parent, { recursive: true, force: true }) };
}

export function partsFor(
	stage: Stage,
	account: LocalAccount,
	store: PayerStore,
	client: PublicClient = stage.chain.client,
): RecoveryParts & Readonly<{ signers: readonly LocalAccount[] }> {
	const nodes = new Nodes({ account, client, clients: {}, now: Date.now });
	return { store, nodes, payer: lower(account.address), signers: [account], now: Date.now };
}

export async function recordOf(store: PayerStore, channelId: Hex): Promise<ChannelRecord | undefined> {
	return (await store.list()).find(({ record }) => record.state.channelId === channelId)?.record;
}

export function rpc(stage: Stage, method: string, params: readonly unknown[] = []): Promise<unknown> {
	return stage.chain.client.request({ method, params } as never);
}

/** Sets the chain's clock ahead by a block. */
export async function advance(stage: Stage, seconds: number): Promise<void> {
	await rpc(stage, "evm_increaseTime", [seconds]);
	await rpc(stage, "evm_mine");
}

/** How many transactions of an account were mined. */
export function transactionsOf({ chain: { client } }: Stage, { address }: LocalAccount): Promise<number> {
	return client.getTransactionCount({ address, blockTag: "latest" });
}

/** What is thrown; fails where nothing is. */
export async function thrown(work: Promise<unknown>): Promise<Error & Readonly<Record<string, unknown>>> {
	try {
		await work;
	} catch (error) {
		return error as Error & Readonly<Record<string, unknown>>;
	}
	throw new Error("nothing was thrown");
}

const PATIENCE_MS = 30_000;

export async function until<T>(
	what: string,
	look: () => Promise<T | undefined | false> | T | undefined | false,
): Promise<T> {
	const deadline = Date.now() + PATIENCE_MS;
	for (;;) {
		const found = await look();
		if (found !== undefined && found !== false) return found;
		if (Date.now() >= deadline) throw new Error(`never happened: ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
}

function lower(address: Address): Address {
	return address.toLowerCase() as Address;
}
