/** A channel as operators see it: no signatures, amounts as decimal strings of base units. */
import { type Channel, chainNow, reserved, unsettled } from "../../server/channel.ts";
import { moment } from "./words.ts";

/**
 * `closing`: it is being closed by the server. `close-requested`: the payer has asked the chain to. `frozen`: a reorganization
 * took back what was relied on.
 */
export type ChannelStatus = "open" | "closing" | "close-requested" | "frozen" | "finalized";

export type ChannelRow = Readonly<{
	channelId: string;
	chainId: number;
	escrow: string;
	payer: string;
	payee: string;
	token: string;
	state: ChannelStatus;
	deposit: string;
	acceptedCumulative: string;
	spent: string;
	reserved: string;
	settledOnChain: string;
	/** What the payee could capture on chain and has not. */
	unsettled: string;
	/** Unix seconds, 0 when the payer has not asked the chain to close. */
	closeRequestedAt: number;
	openedAt: string;
	lastActivityAt: string;
	/** Since when something is owed; `null` when nothing is. */
	unsettledSince: string | null;
	/** The block as of which deposit and settled amount are so. */
	blockNumber: number;
}>;

export function channelRow(channel: Channel): ChannelRow {
	const { channelId, chainId, escrow, payer, payee, token, acceptedCumulative, spent, unsettledSince } = channel;
	const chain = chainNow(channel);
	return {
		channelId,
		chainId,
		escrow,
		payer,
		payee,
		token,
		state: statusOf(channel),
		deposit: String(chain.deposit),
		acceptedCumulative: String(acceptedCumulative),
		spent: String(spent),
		reserved: String(reserved(channel)),
		settledOnChain: String(chain.settledOnChain),
		unsettled: String(unsettled(channel)),
		closeRequestedAt: chain.closeRequestedAt,
		openedAt: moment(channel.openedAt),
		lastActivityAt: moment(channel.lastActivityAt),
		unsettledSince: unsettledSince === null ? null : moment(unsettledSince),
		blockNumber: chain.blockNumber,
	};
}

export function statusOf(channel: Channel): ChannelStatus {
	const { finalized, closeRequestedAt } = chainNow(channel);
	if (finalized) return "finalized";
	if (channel.behind !== null) return "frozen";
	if (closeRequestedAt !== 0) return "close-requested";
	return channel.closingBy === null ? "open" : "closing";
}
