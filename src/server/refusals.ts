/** What the ledger's refusals say, in the drafts' words. When to refuse is the ledger's to know. */
import type { Hex } from "viem";
import { type Problem, problem } from "../protocol/index.ts";
import type { Channel } from "./channel.ts";

export function insufficientProblem(channel: Channel, required: bigint, detail: string): Problem {
	return problem("session/insufficient-balance", detail, {
		channelId: channel.channelId,
		requiredCumulative: required,
		acceptedCumulative: channel.acceptedCumulative,
		deposit: channel.deposit,
	});
}

export function finalizedProblem(channelId: Hex): Problem {
	return problem("session/channel-finalized", "This channel is closed for ever; open a new one with a new salt.", {
		channelId,
	});
}

export function exceededProblem(channelId: Hex, cumulativeAmount: bigint, deposit: bigint): Problem {
	return problem("session/amount-exceeds-deposit", "The voucher exceeds the channel's deposit; top up first.", {
		channelId,
		cumulativeAmount,
		deposit,
	});
}
