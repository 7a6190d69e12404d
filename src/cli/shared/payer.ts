/** What the payer's commands have in common: where its wallet, its policy and its key are, and how they are opened. */
import { stat } from "node:fs/promises";
import { type Command, Option } from "commander";
import type { Address, PublicClient } from "viem";
import { PaymentClient } from "../../client/client.ts";
import type { PaymentClientOptions } from "../../client/clientOptions.ts";
import { defaultWalletFolder, openWallet } from "../../client/node/index.ts";
import { findPolicyFile, readPolicyFile } from "../../client/node/policyFile.ts";
import { type PaymentPolicy, type Policy, parsePolicy } from "../../client/policy.ts";
import type { PayerStore } from "../../client/store/store.ts";
import { addRpcOption, type CommonOptions, type Run } from "./command.ts";
import { UsageError } from "./exit.ts";
import { openPayerChains } from "./payerChains.ts";
import { addPayerKeyOptions, type PayerKeyOptions, readPayerKey } from "./payerKey.ts";

/** Where the wallet is, and what it may do. */
export type WalletOptions = CommonOptions & Readonly<{ wallet?: string; policy?: string }>;

/** What a command is told that signs for the payer. */
export type PayerOptions = WalletOptions & PayerKeyOptions;

/** The payer, ready to pay. */
export type OpenPayer = Readonly<{
	payer: PaymentClient;
	store: PayerStore;
	/** Signs for the payer. */
	account: PaymentClientOptions["account"];
	/** Lowercase. */
	address: Address;
	policy: PaymentPolicy;
	/** The payer's own nodes, by chain id. */
	clients: ReadonlyMap<number, PublicClient>;
	/** Gives the channels back, lets go of the files and of the connections. Closes no channel. */
	close(): Promise<void>;
}>;

/** `--wallet`. */
export function addWalletOption(command: Command): Command {
	return command.addOption(
		new Option("--wallet <folder>", "the folder of the payer's wallet (default: ~/.sluice/wallet)").env(
			"SLUICE_WALLET",
		),
	);
}

/** `--policy`. */
export function addPolicyOption(command: Command): Command {
	return command.addOption(
		new Option(
			"--policy <file>",
			"what may be paid: JSON or YAML (default: policy.json or policy.yaml in the wallet)",
		).env("SLUICE_POLICY"),
	);
}

/** All that {@link openPayer} takes: `--wallet`, `--policy`, `--rpc`, and where the key is. */
export function addPayerOptions(command: Command): Command {
	addWalletOption(command);
	addPolicyOption(command);
	addRpcOption(command, "the payer's own node, one or several for each chain of the policy");
	return addPayerKeyOptions(command);
}

/** Where the wallet is: as the options say, else where it is by default. */
export function walletFolder({ env }: Run, { wallet }: WalletOptions): string {
	return wallet ?? defaultWalletFolder(env);
}

/**
 * The wallet's policy: the file that the options name, else the one in the wallet's folder.
 *
 * @throws PolicyError when there is none, or it is wrong
 */
export async function readPolicy(run: Run, options: WalletOptions): Promise<PaymentPolicy> {
	return readPolicyFile(options.policy ?? (await findPolicyFile(walletFolder(run, options))));
}

/** The chains that a policy allows. */
export function chainsOf({ chainIds, denied }: Policy): readonly number[] {
	return chainIds.filter((chainId) => !denied?.chainIds?.includes(chainId));
}

/**
 * The wallet's store alone, for what needs no key: lists, counts, pausing. Works beside other processes of the agent.
 *
 * @param isMade - makes a wallet where there is none; a misspelt folder is refused otherwise
 * @example
 * const store = await openPayerStore(run, options);
 * try { await store.setPaused("by hand"); } finally { await store.close(); }
 */
export async function openPayerStore(run: Run, options: WalletOptions, isMade = false): Promise<PayerStore> {
	const folder = walletFolder(run, options);
	if (!isMade && !(await isThere(folder)))
		throw new UsageError(
			`there is no wallet in ${folder}: \`sluice wallet new\` makes one; or name another folder (--wallet, SLUICE_WALLET)`,
		);
	return openWallet(folder);
}

/**
 * Opens the wallet, reads its policy and its key, which is hidden from every output from then on, and connects to the chains.
 *
 * @param settings - what else the client is to be told: `approve`, `prefer`, `fetch`
 * @throws UsageError, SignerError, PolicyError, PayerStoreError
 * @example
 * const { payer, close } = await openPayer(run, options);
 * try { await payer.fetch(url); } finally { await close(); }
 */
export async function openPayer(
	run: Run,
	options: PayerOptions,
	settings: Partial<PaymentClientOptions> = {},
): Promise<OpenPayer> {
	const folder = walletFolder(run, options);
	const policy = await readPolicy(run, options);
	const { account, address } = await readPayerKey(run, options, folder);
	const chains = await openPayerChains(run, options.rpc, chainsOf(parsePolicy(policy)));
	let store: PayerStore | undefined;
	try {
		store = await openPayerStore(run, options, true);
		const [client] = chains.clients.values();
		if (client === undefined) throw new UsageError("the policy allows no chain");
		const clients = Object.fromEntries(chains.clients);
		const payer = new PaymentClient({ account, client, clients, policy, store, ...settings });
		const opened = store;
		const close = async () => {
			try {
				await payer.release();
			} finally {
				await Promise.allSettled([opened.close(), chains.close()]);
			}
		};
		return { payer, store, account, address, policy, clients: chains.clients, close };
	} catch (error) {
		await Promise.allSettled([store?.close(), chains.close()]);
		throw error;
	}
}

async function isThere(folder: string): Promise<boolean> {
	return (await stat(folder).catch(() => undefined))?.isDirectory() ?? false;
}
