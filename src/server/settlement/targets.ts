/** Channels on their way into a settlement: which may go, what they bring, and whether a batch takes them. */
import { setImmediate } from "node:timers/promises";
import type { Hex } from "viem";
import { voucherSigner } from "../../voucher/index.ts";
import { type Channel, unsettled } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import type { Row } from "./economics.ts";
import { rowsOf, settleKey } from "./rows.ts";

/** A channel that may be settled or closed. */
export type Target = Row &
	Readonly<{
		channel: Channel;
		/** It is closed because nobody uses it: not if somebody does again. */
		whenIdle: boolean;
	}>;

/** After how many signatures others get their turn. */
const SIGNATURES_AT_ONCE = 64;

/** What is known of channels before their signatures are looked at. */
export function targetOf(channel: Channel, { whenIdle, single }: Pick<Target, "whenIdle" | "single">): Target {
	const { contractSigner } = channel;
	return {
		channel,
		value: unsettled(channel),
		byContract: contractSigner,
		single: single || contractSigner,
		whenIdle,
	};
}

/**
 * The same, with every signature looked at that would go into a batch: one that the signer's own key did not make is a
 * contract's, and no batch takes it. Records of earlier releases do not say so.
 */
export async function withSigners(context: EngineContext, targets: readonly Target[]): Promise<readonly Target[]> {
	const { signatures, voucherDomain } = context;
	const checked: Target[] = [];
	for (const [at, target] of targets.entries()) {
		if (at % SIGNATURES_AT_ONCE === SIGNATURES_AT_ONCE - 1) await setImmediate();
		const { channelId, acceptedCumulative, voucherSignature } = target.channel;
		const voucher = { channelId, cumulativeAmount: acceptedCumulative };
		const isOfKey =
			target.single ||
			target.value === 0n ||
			signatures.isOfKey(voucherDomain, voucherSigner(target.channel), voucher, voucherSignature);
		checked.push(isOfKey ? target : { ...target, single: true, byContract: true });
	}
	return checked;
}

/** Whether a channel is one of this context's. */
export function isOurs({ terms }: EngineContext, channel: Channel): boolean {
	return (
		channel.chainId === terms.chainId &&
		channel.escrow === terms.escrow &&
		channel.token === terms.currency &&
		channel.payee === terms.recipient
	);
}

/** Tells for each channel whether something of ours is under way for it already. As of now: ask anew after every wait. */
export function busyChannels(context: EngineContext): (channel: Channel) => boolean {
	const { transactions, settling, closes, recloses, store } = context;
	const sent = new Set<string>();
	for (const { purpose } of [...transactions.pendingEntries(), ...transactions.resending()]) {
		if (purpose.kind === "close" && purpose.channelId !== undefined) sent.add(purpose.channelId);
		for (const { channelId } of rowsOf(purpose)) sent.add(channelId);
	}
	return ({ channelId, closingBy }) =>
		settling.has(channelId) ||
		closes.has(channelId) ||
		sent.has(channelId) ||
		// Another close of this process's; but for one that has to be made again.
		(closingBy === store.owner && !recloses.has(channelId));
}

/**
 * Takes those channels that are free, and runs `work` with them while nobody else takes them. `work` begins at once: what it
 * does before it first waits is done before anybody else can look.
 */
export function claiming<T>(
	context: EngineContext,
	targets: readonly Target[],
	work: (free: readonly Target[], taken: readonly Target[]) => Promise<T>,
): Promise<T> {
	const isBusy = busyChannels(context);
	const free: Target[] = [];
	const taken: Target[] = [];
	for (const target of targets) (isBusy(target.channel) ? taken : free).push(target);
	const { promise: ended, resolve: end } = Promise.withResolvers<void>();
	for (const { channel } of free) context.settling.set(channel.channelId, ended);
	return (async () => work(free, taken))().finally(() => {
		for (const { channel } of free) context.settling.delete(channel.channelId);
		end();
	});
}

/** Resolves when no settlement of the channel is under way any more: two authorizations of one channel may get one nonce. */
export async function whenSettled({ transactions, settling }: EngineContext, channelId: Hex): Promise<void> {
	await settling.get(channelId);
	const entry = transactions
		.pendingEntries()
		.find(({ purpose }) => purpose.kind === "settle" && rowsOf(purpose).some((row) => row.channelId === channelId));
	await (entry && transactions.join(settleKey(entry.purpose)))?.catch(() => undefined);
}
