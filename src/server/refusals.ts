/** What refusals say, in the drafts' words, where more than one place says it. When to refuse a voucher is the ledger's to know. */
import type { Hex } from "viem";
import { type Problem, problem } from "../protocol/index.ts";
import type { Channel } from "./channel.ts";

export function insufficientProblem(
	channel: Pick<Channel, "channelId" | "acceptedCumulative" | "deposit">,
	required: bigint,
	detail: string,
): Problem {
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

export function frozenProblem(channelId: Hex): Problem {
	const detail = "The chain has taken back what this channel was funded or settled with; wait until it shows it again.";
	return problem("service-unavailable", detail, { channelId });
}

/** It may go through later. A charge's rejections are 402, whatever their cause (draft-evm-charge-00, Error Responses). */
export function overdrawnProblem(intent: "session" | "charge"): Problem {
	const detail =
		"Other payments of this payer are on their way and may take what this one needs; send the same request again.";
	return problem(intent === "charge" ? "verification-failed" : "conflict", detail);
}
