import { type Challenge, isExpired, problemType, type SessionReceipt } from "../protocol/index.ts";
import { offersOf, problemOf, receiptFor } from "./answer.ts";
import type { PayerChannel } from "./channel.ts";
import { Outgoing } from "./outgoing.ts";
import { discard } from "./retry.ts";
import { keyOf, type SessionParts } from "./session.ts";

/** How often a close is sent again with a fresh challenge. */
const MAX_TRIES = 4;

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
 * Closes one channel after the requests that are on their way; those that come later wait, and open another. Resolves to
 * `undefined` when there is nothing to close: it was closed meanwhile, or never opened.
 *
 * @throws CloseRefusedError; the channel is then still there
 */
export async function closeChannel(
	parts: SessionParts,
	key: string,
	channel: PayerChannel,
): Promise<ClosedChannel | undefined> {
	const { channels } = parts;
	while (channels.isBusy(key)) await channels.free(key);
	if (!channels.has(key, channel)) return undefined;
	return channels.alone(key, async () => {
		await channels.drained(channel);
		// A request on its way may have learned that the server has forgotten it.
		if (!channels.has(key, channel)) return undefined;
		if (!channel.open && (await channels.look(channel)) === undefined) return undefined;
		const receipt = await close(parts, key, channel);
		channels.remove(key, channel);
		return receipt && { channel, receipt };
	});
}

/** The receipt of the close; `undefined` when the channel was closed before. The escrow has the last word on both. */
async function close(
	{ signer, channels, send, now }: SessionParts,
	key: string,
	channel: PayerChannel,
): Promise<SessionReceipt | undefined> {
	const { channelId, resource } = channel;
	const request = await Outgoing.from(new Request(resource.url, { method: resource.method }));
	const freshChallenge = (response: Response): Challenge | undefined =>
		offersOf(response, now()).find((offer) => offer.intent === "session" && keyOf(request, offer.request) === key)
			?.challenge;
	for (let triesLeft = MAX_TRIES; ; triesLeft--) {
		const expired = isExpired(channel.challenge, now());
		const credential = expired
			? undefined
			: await signer.voucher("close", channel.challenge, channel, channel.consumed);
		const response = await send(request, credential);
		const receipt = receiptFor(response, channel);
		const problem = await problemOf(response);
		const over = problem?.type === problemType("session/channel-finalized");
		if (!expired && (receipt !== undefined || over)) {
			discard(response);
			if (await channels.isPaidOut(channel)) return receipt;
			throw new CloseRefusedError(channelId, "the server says so, but the escrow has not paid it out");
		}
		const fresh = response.status === 402 && triesLeft > 1 ? freshChallenge(response) : undefined;
		if (fresh === undefined) {
			discard(response);
			throw new CloseRefusedError(channelId, problem?.detail || `the server answered ${response.status}`);
		}
		discard(response);
		channel.challenge = fresh;
	}
}
