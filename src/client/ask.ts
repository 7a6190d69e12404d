import type { Challenge } from "../protocol/index.ts";
import type { PayerChannel } from "./channel.ts";
import { least } from "./least.ts";
import { manage } from "./manage.ts";
import type { SessionParts } from "./parts.ts";
import { discard, pause } from "./retry.ts";
import { sameVoucherCredential } from "./voucherCredential.ts";

/** How long an answer may take, in ms: somebody waits for it, and can do without. */
const ASK_MS = 10_000;

/** How often a count is asked for that is not at its end, and the first pause between, in ms; doubled each time. */
const LOOKS = 4;
const PAUSE_MS = 50;

/**
 * Asks the server for its count, by `HEAD` with the last voucher once more (D11): what answers have cost that told it in no
 * receipt. One whose connection has just been cut may still be ending there, so it is asked again for a moment where it
 * counts less than was delivered. A server that does not say leaves all as it is.
 */
export async function askSpent(parts: SessionParts, key: string, channel: PayerChannel): Promise<void> {
	channel.asksFirst = false;
	const amount = least(channel.counted, channel.deposit);
	if (!channel.open || amount === 0n) return;
	const voucher = (challenge: Challenge) => sameVoucherCredential(parts, challenge, channel, amount);
	const signal = AbortSignal.timeout(ASK_MS);
	for (let looks = 1; ; looks++) {
		const told = await manage(parts, key, channel, voucher, () => true, { method: "HEAD", signal }).catch(
			() => undefined,
		);
		discard(told?.response);
		if (told?.receipt === undefined || channel.told(told.receipt.spent) || looks === LOOKS) return;
		await pause(PAUSE_MS * 2 ** (looks - 1), signal);
	}
}
