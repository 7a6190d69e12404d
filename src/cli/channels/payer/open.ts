/** Opens what getting deposits back takes: the wallet's store, the chains of its channels, the payer's key. No policy is needed. */
import type { Hex } from "viem";
import { Nodes } from "../../../client/nodes.ts";
import { ChannelUnknownError } from "../../../client/recovery/held.ts";
import type { LookParts, RecoveryParts } from "../../../client/recovery/parts.ts";
import type { ListedChannel, PayerStore } from "../../../client/store/store.ts";
import type { Run } from "../../shared/command.ts";
import { UsageError } from "../../shared/exit.ts";
import { openPayerStore, type PayerOptions, type WalletOptions, walletFolder } from "../../shared/payer.ts";
import { chainsAsNeeded } from "../../shared/payerChains.ts";
import { readPayerKey } from "../../shared/payerKey.ts";
import type { Signer } from "../../shared/signer.ts";

/** A wallet that is looked at, and the nodes of its channels' chains. */
export type OpenWallet = Readonly<{ parts: LookParts; listed: readonly ListedChannel[]; store: PayerStore }>;

/** The same with the payer's account, which sends transactions. */
export type OpenRecovery = Readonly<{ parts: RecoveryParts; signer: Signer }>;

/**
 * Works with a wallet and its channels' chains. Without `--rpc` no chain is asked, and asking one is refused.
 *
 * @throws ChannelUnknownError when a channel is named that the wallet does not have
 */
export async function withWallet<T>(
	run: Run,
	options: WalletOptions,
	channelIds: readonly Hex[],
	work: (wallet: OpenWallet) => Promise<T>,
): Promise<T> {
	const store = await openPayerStore(run, options);
	const chains = chainsAsNeeded(options.rpc);
	try {
		const listed = await store.list();
		for (const channelId of channelIds) assertKnown(listed, channelId);
		return await work({ parts: { store, nodes: { at: chains.at }, now: Date.now }, listed, store });
	} finally {
		await Promise.allSettled([store.close(), chains.close()]);
	}
}

/** As {@link withWallet}, with the payer's key, to send transactions. */
export function withRecovery<T>(
	run: Run,
	options: PayerOptions,
	channelIds: readonly Hex[],
	work: (recovery: OpenRecovery) => Promise<T>,
): Promise<T> {
	if (options.rpc === undefined)
		throw new UsageError("the chain's RPC is missing: give --rpc <url>, or set SLUICE_RPC_URL");
	return withWallet(run, options, channelIds, async ({ parts }) => {
		const signer = await readPayerKey(run, options, walletFolder(run, options));
		const { account, address } = signer;
		const wallets = new Map<number, Nodes>();
		const wallet = async (chainId: number) => {
			const client = await parts.nodes.at(chainId);
			const nodes = wallets.get(chainId) ?? new Nodes({ account, client, clients: {}, now: parts.now });
			wallets.set(chainId, nodes);
			return nodes.wallet(chainId);
		};
		return work({ parts: { ...parts, nodes: { at: parts.nodes.at, wallet }, payer: address }, signer });
	});
}

function assertKnown(listed: readonly ListedChannel[], channelId: Hex): void {
	if (!listed.some(({ record }) => record.state.channelId === channelId)) throw new ChannelUnknownError(channelId);
}
