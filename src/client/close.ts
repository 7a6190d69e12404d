import { encodeSessionPayload, type Problem, problemType, type SessionReceipt } from "../protocol/index.ts";
import { askSpent } from "./ask.ts";
import type { PayerChannel } from "./channel.ts";
import { least } from "./least.ts";
import { manage } from "./manage.ts";
import type { SessionParts } from "./parts.ts";
import { noteChannelReceipt } from "./receipts.ts";
import { discard } from "./retry.ts";

/** A channel that was closed: what the server captured, in base units, and the transaction that paid the rest back. */
export type ClosedChannel = Readonly<{ channel: PayerChannel; receipt: SessionReceipt }>;

/** The server did not close the channel. `requestClose` on the escrow gets the money back without it. */
export class CloseRefusedError extends Error {
	override readonly name = "CloseRefusedError";
	readonly code = "CLOSE_REFUSED";
	readonly channelId: string;
	constructor(channelId: string, reason: string) {
		super(`channel ${channelId} was not closed: ${reason}`);
		this.channelId = channelId;
	}
}

/**
 * Closes one channel after the requests that are on their way; what is still being read ends there. Later ones wait, and open
 * another channel. Resolves to `undefined` when there is nothing to close: it was closed meanwhile, never opened, or is another process's.
 *
 * @throws CloseRefusedError; the channel is then still there
 */
export async function closeChannel(
	parts: SessionParts,
	key: string,
	channel: PayerChannel,
): Promise<ClosedChannel | undefined> {
	const { channels } = parts;
	while (channels.turns.isBusy(key)) await channels.turns.free(key);
	if (!channels.has(key, channel)) return undefined;
	return channels.turns.alone(key, async () => {
		channel.stopStreams();
		await channels.turns.drained(channel);
		// A request on its way may have learned that the server has forgotten it.
		if (!channels.has(key, channel)) return undefined;
		if (!channel.open) {
			const onChain = await channels.look(channel);
			if (onChain === undefined) {
				if (channel.fundableUntil <= parts.now()) await channels.remove(key, channel);
				return undefined;
			}
			channel.open = channel.funding === undefined;
		}
		// Another process may have it by now, and have signed more: then it is that one's to close. A store that fails is no obstacle.
		await parts.keeper.write(key, channel).catch(() => undefined);
		if (channel.isRetired) {
			channels.lost(key);
			return undefined;
		}
		// A close for less than it has spent would be taken as none, and settled with all that was signed ahead.
		if (channel.isOpenEnded) await askSpent(parts, key, channel);
		const receipt = await close(parts, key, channel);
		if (receipt !== undefined)
			noteChannelReceipt(parts.keeper, "close", channel, channel.resource, receipt.spent, receipt);
		await channels.remove(key, channel);
		return receipt && { channel, receipt };
	});
}

/** The receipt of the close; `undefined` when the channel was closed before. The escrow has the last word on both. */
async function close(parts: SessionParts, key: string, channel: PayerChannel): Promise<SessionReceipt | undefined> {
	const { signer, channels } = parts;
	const { channelId } = channel;
	const isFinalized = ({ type }: Problem) => type === problemType("session/channel-finalized");
	const closed = await manage(
		parts,
		key,
		channel,
		async (challenge) => {
			// What is owed above the deposit can't be had from the escrow, and what no voucher was asked for is not paid.
			const cumulativeAmount = least(channel.consumed, channel.counted, channel.deposit);
			parts.gate.again(channel, cumulativeAmount);
			const signature = await signer.voucher(channel, cumulativeAmount);
			const payload = encodeSessionPayload({ action: "close", channelId, cumulativeAmount, signature });
			return signer.credential(challenge, payload);
		},
		isFinalized,
	);
	discard(closed.response);
	if (closed.receipt === undefined && !(closed.problem !== undefined && isFinalized(closed.problem)))
		throw new CloseRefusedError(channelId, closed.problem?.detail || `the server answered ${closed.response.status}`);
	if (await channels.isPaidOut(channel)) return closed.receipt;
	throw new CloseRefusedError(channelId, "the server says so, but the escrow has not paid it out");
}
