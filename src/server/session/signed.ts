import type { Hex } from "viem";
import { type Problem, problem, type VoucherPayload } from "../../protocol/index.ts";
import type { SignatureVerdict } from "../../voucher/index.ts";
import type { ChannelIdentity } from "../channel.ts";
import type { EngineContext } from "../context.ts";

/** Whether a channel pays us, in this token, on this escrow: several tokens share one store. */
export function isOurs({ terms }: Pick<EngineContext, "terms">, channel: ChannelIdentity): boolean {
	return (
		channel.chainId === terms.chainId &&
		channel.escrow === terms.escrow &&
		channel.payee === terms.recipient &&
		channel.token === terms.currency
	);
}

/** A voucher as it came, its signature not verified yet. */
export type VoucherClaim = Pick<VoucherPayload, "channelId" | "cumulativeAmount" | "signature">;

/** What is wrong with a signature of a channel's payer or signer, if anything. */
export function signatureProblem(
	verdict: SignatureVerdict,
	channelId: Hex,
	what: "voucher" | "deposit" = "voucher",
): Problem | undefined {
	switch (verdict) {
		case "valid":
			return undefined;
		case "invalid-signature":
			return problem("session/invalid-signature", `The ${what}'s signature could not be verified.`, { channelId });
		case "signer-mismatch":
			return problem(
				"session/signer-mismatch",
				`The ${what} was signed by somebody else, or for another channel, amount, chain or escrow.`,
				{ channelId },
			);
	}
}

export function channelNotFoundProblem(channelId: Hex): Problem {
	return problem("session/channel-not-found", "No channel with this id is open here; open one.", { channelId });
}
