/**
 * What the escrow's events say of a channel, as the chain state that the ledger takes: a watcher's reading of them. Every
 * event carries the new values, so that none but `ChannelOpened` is needed to understand the next one.
 */
import type { Hex } from "viem";
import type { ChainState, ChannelIdentity } from "../../src/server/channel.ts";
import type { Emitted } from "./terms.ts";

type Identified = Readonly<{ identity: ChannelIdentity; chain: ChainState }>;

/** The channel as it is after an event in this block, its own `before` where the event changes nothing. */
export function readEvent(
	before: Identified | undefined,
	{ name, args }: Emitted,
	blockNumber: number,
	where: Pick<ChannelIdentity, "chainId" | "escrow">,
): Identified | undefined {
	if (name === "ChannelOpened") {
		const { channelId, payer, payee, token, authorizedSigner, deposit } = args as ChannelIdentity & { deposit: bigint };
		return {
			identity: { ...where, channelId, payer, payee, token, authorizedSigner },
			chain: { deposit, settledOnChain: 0n, closeRequestedAt: 0, finalized: false, blockNumber },
		};
	}
	// Of a row that was left out; where it was redeemed all the same, another event said so before.
	if (name === "SettlementSkipped") return before;
	if (before === undefined) throw new TypeError(`${name} of a channel that was never opened`);
	const change = changeOf(name, args as Readonly<Record<string, bigint>>);
	return { ...before, chain: { ...before.chain, ...change, blockNumber } };
}

function changeOf(name: string, args: Readonly<Record<string, bigint>>): Partial<ChainState> {
	const { deposit = 0n, settled: settledOnChain = 0n, closeRequestedAt = 0n } = args;
	switch (name) {
		case "ToppedUp":
			return { deposit };
		case "Settled":
			return { settledOnChain };
		case "CloseRequested":
			return { closeRequestedAt: Number(closeRequestedAt) };
		case "CloseRequestCancelled":
			return { closeRequestedAt: 0 };
		case "ChannelClosed":
		case "Withdrawn":
			return { settledOnChain, finalized: true };
		default:
			throw new TypeError(`an event that no watcher knows: ${name}`);
	}
}

export function channelIdOf({ args }: Emitted): Hex {
	return args.channelId as Hex;
}
