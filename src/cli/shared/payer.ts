/** What the payer's commands have in common: where its wallet, its policy and its key are, and how they are opened. */
import { type Command, Option } from "commander";
import type { Address, PublicClient } from "viem";
import type { PaymentClient, PaymentClientOptions } from "../../client/client.ts";
import type { PaymentPolicy } from "../../client/policy.ts";
import type { PayerStore } from "../../client/store/store.ts";
import { addRpcOption, type CommonOptions, type Run } from "./command.ts";
import { addPayerKeyOptions, type PayerKeyOptions } from "./payerKey.ts";

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

/**
 * The wallet's store alone, for what needs no key: lists, counts, pausing. Works beside other processes of the agent.
 *
 * @example
 * const store = await openPayerStore(run, options);
 * try { await store.setPaused("by hand"); } finally { await store.close(); }
 */
export async function openPayerStore(_run: Run, _options: WalletOptions): Promise<PayerStore> {
	throw new Error("not yet");
}

/**
 * Opens the wallet, reads its policy and its key, which is hidden from every output from then on, and connects to the chains.
 *
 * @param settings - what else the client is to be told: `approve`, `prefer`, `fetch`
 * @example
 * const { payer, close } = await openPayer(run, options);
 * try { await payer.fetch(url); } finally { await close(); }
 */
export async function openPayer(
	_run: Run,
	_options: PayerOptions,
	_settings: Partial<PaymentClientOptions> = {},
): Promise<OpenPayer> {
	throw new Error("not yet");
}
