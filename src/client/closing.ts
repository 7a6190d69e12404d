import { type Problem, problemType } from "../protocol/index.ts";
import type { PayerChannel } from "./channel.ts";
import type { Outgoing } from "./outgoing.ts";
import type { SessionParts } from "./parts.ts";
import { pause } from "./retry.ts";

/** Whether the server is closing the channel by itself, as it does with idle ones: it takes no vouchers meanwhile. */
export function isClosing(refusal: Problem | undefined): boolean {
	return refusal?.type === problemType("session/channel-closing");
}

/**
 * Waits, as long as retries may, until a channel whose server is closing it is paid out on chain, as the payer's own node
 * shows it. Then another one can be opened, as in place of any that is finalized. Where the payer has asked the escrow itself
 * for the close, that may take the whole grace period: another one is opened at once.
 *
 * @returns whether to try again: in a new channel, or in this one if it is not closed after all
 */
export async function outlive(
	{ channels, retry }: SessionParts,
	key: string,
	channel: PayerChannel,
	request: Outgoing,
): Promise<boolean> {
	const { retries = 5, minDelayMs = 200, maxDelayMs = 5_000 } = retry;
	for (let looks = 0; ; looks++) {
		const onChain = await channels.look(channel).catch(() => undefined);
		request.signal.throwIfAborted();
		// A close of the payer's own, or another request, has taken it out of use.
		if (!channels.has(key, channel)) return true;
		if (onChain?.finalized) {
			await channels.remove(key, channel);
			return request.reopenOnce();
		}
		if (onChain !== undefined && onChain.closeRequestedAt !== 0) {
			channels.forget(key, channel);
			return request.reopenOnce();
		}
		if (looks >= retries) return true;
		await pause(Math.min(minDelayMs * 2 ** looks, maxDelayMs), request.signal);
	}
}
