import type { Hex } from "viem";
import { type Challenge, formatTimestamp, type SessionReceipt } from "../../protocol/index.ts";
import type { Channel } from "../channel.ts";
import type { EngineContext } from "../context.ts";

/** A session receipt (draft-evm-session-00, Receipt Generation). */
export function sessionReceipt(
	{ now }: Pick<EngineContext, "now">,
	channel: Pick<Channel, "channelId" | "chainId" | "acceptedCumulative" | "spent">,
	challenge: Pick<Challenge, "id">,
	extra: Readonly<{ units?: number; txHash?: Hex }> = {},
): SessionReceipt {
	const { channelId, chainId, acceptedCumulative, spent } = channel;
	return {
		method: "evm",
		intent: "session",
		status: "success",
		timestamp: formatTimestamp(now()),
		challengeId: challenge.id,
		reference: channelId,
		channelId,
		chainId,
		acceptedCumulative,
		spent,
		...extra,
	};
}
