import type { Hex, TransactionReceipt } from "viem";
import { orAborted } from "../orAborted.ts";
import { readPayerKind } from "../sessionKeys.ts";
import type { ChannelRecord, ChannelStatus } from "../store/store.ts";
import { isKnown } from "../wallet.ts";
import { assertPayer, ContractPayerError, NoGasError, type RecoveryKind, recoveryCall } from "./calls.ts";
import { type Hold, keep } from "./held.ts";
import type { RecoveryParts, SendingWallet } from "./parts.ts";
import type { RecoveryProgress } from "./progress.ts";

export type SendingOptions = Readonly<{
	signal?: AbortSignal | undefined;
	onProgress?: ((progress: RecoveryProgress) => void) | undefined;
}>;

/**
 * What became of the transaction of this kind that was kept last. One that is on its way is waited for. `undefined` when
 * there is none, or it can't be mined any more, or did nothing: then another one is to be sent. That one takes the nonce of
 * one that no node knows, so that at most one of the two is ever mined.
 *
 * @throws TransactionPendingError when it takes too long; run it again
 */
export async function takeUp(
	parts: RecoveryParts,
	{ channel: { record } }: Hold,
	kind: RecoveryKind,
	options: SendingOptions,
): Promise<TransactionReceipt | undefined> {
	const earlier = (record.recovery ?? []).findLast((one) => one.kind === kind);
	if (earlier === undefined) return undefined;
	const { channelId, chainId } = record.state;
	const client = await parts.nodes.at(chainId);
	const wallet = await parts.nodes.wallet(chainId);
	const state = await wallet.stateOf(earlier);
	if (state === "reverted" || state === "passed") return undefined;
	if (state === "open") {
		if (!(await isKnown(client, earlier.hash))) return undefined;
		options.onProgress?.({ phase: "mining", channelId, kind, hash: earlier.hash });
		await waitFor(wallet, earlier.hash, options.signal);
	}
	return client.getTransactionReceipt({ hash: earlier.hash });
}

/**
 * Sends the payer's transaction and waits until it is mined. It is in the store before it is broadcast, and with it that no
 * voucher is signed for the channel any more.
 *
 * @throws WrongPayerError, ContractPayerError, NoGasError: nothing was sent
 * @throws TransactionRevertedError, TransactionPendingError, TransactionNotSentError; HolderLostError
 */
export async function send(
	parts: RecoveryParts,
	hold: Hold,
	kind: RecoveryKind,
	{ signal, onProgress }: SendingOptions,
): Promise<TransactionReceipt> {
	const { record } = hold.channel;
	const { channelId, chainId } = record.state;
	assertPayer(parts, record);
	const client = await parts.nodes.at(chainId);
	const isContract = (await readPayerKind(client, record.state.payer)) === "contract";
	if (isContract && !parts.sendsItself) {
		// Whoever makes the call may do so at any time from now on.
		await keep(hold, { status: forgotten(record) });
		throw new ContractPayerError(record, kind);
	}
	const wallet = await parts.nodes.wallet(chainId);
	// Others may pay for what a contract wallet has sent.
	if (!isContract && !(await wallet.hasGas())) throw new NoGasError(parts.payer, chainId);
	signal?.throwIfAborted();
	onProgress?.({ phase: "sending", channelId, kind });
	let hash: Hex | undefined;
	const sent = wallet.send([recoveryCall(record, kind)], kind, async (transaction) => {
		const { recovery = [] } = hold.channel.record;
		signal?.throwIfAborted();
		await keep(hold, {
			status: forgotten(hold.channel.record),
			recovery: [...recovery, { kind, hash: transaction.hash, nonce: transaction.nonce, atMs: parts.now() }],
		});
		hash = transaction.hash;
		onProgress?.({ phase: "mining", channelId, kind, hash });
	});
	await (signal === undefined ? sent : orAborted(sent, signal));
	if (hash === undefined) throw new Error(`the wallet did not tell of its ${kind}`);
	return client.getTransactionReceipt({ hash });
}

/** No voucher is signed for it any more. */
function forgotten({ status }: ChannelRecord): ChannelStatus {
	return status === "open" ? "forgotten" : status;
}

async function waitFor(wallet: SendingWallet, hash: Hex, signal: AbortSignal | undefined): Promise<void> {
	const mined = wallet.mined(hash);
	await (signal === undefined ? mined : orAborted(mined, signal));
}
