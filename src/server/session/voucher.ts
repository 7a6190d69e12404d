import type { Hex } from "viem";
import { type ClosePayload, type Problem, problem, type VoucherPayload } from "../../protocol/index.ts";
import { type SignatureVerdict, voucherSigner } from "../../voucher/index.ts";
import { type Admission, type Refused, refused } from "../admission.ts";
import type { Channel } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import type { SessionOrder } from "./order.ts";
import { spend } from "./spend.ts";

/** `action="voucher"`: draft-evm-session-00, Voucher Verification. */
export async function voucher(context: EngineContext, order: SessionOrder<VoucherPayload>): Promise<Admission> {
	const { request, offer, screened, payload } = order;
	const checked = await verifyOnChannel(context, payload);
	if (checked.kind === "refused") return checked;
	await context.chainState.ensureFresh(checked.channel);
	return spend(context, {
		request,
		offer,
		challenge: screened.credential.challenge,
		channelId: payload.channelId,
		voucher: { cumulativeAmount: payload.cumulativeAmount, signature: payload.signature },
		credentialKey: screened.credentialKey,
		management: request.method === "HEAD" ? "always" : "never",
	});
}

/**
 * The channel a voucher is for, after its signature was found good. Of the channel only what never changes is read
 * before that (I3).
 */
export async function verifyOnChannel(
	{ store, signatures, voucherDomain, terms }: EngineContext,
	{ channelId, cumulativeAmount, signature }: VoucherPayload | ClosePayload,
): Promise<Readonly<{ kind: "verified"; channel: Channel }> | Refused> {
	const channel = await store.channel(channelId);
	const isOurs =
		channel !== undefined &&
		channel.chainId === terms.chainId &&
		channel.escrow === terms.escrow &&
		channel.payee === terms.recipient &&
		channel.token === terms.currency;
	if (!isOurs) return refused(channelNotFoundProblem(channelId));
	const verdict = await signatures.verifyVoucher(
		voucherDomain,
		voucherSigner(channel),
		{ channelId, cumulativeAmount },
		signature,
	);
	const problem = signatureProblem(verdict, channelId);
	return problem === undefined ? { kind: "verified", channel } : refused(problem);
}

/** What is wrong with a voucher's signature, if anything. */
export function signatureProblem(verdict: SignatureVerdict, channelId: Hex): Problem | undefined {
	switch (verdict) {
		case "valid":
			return undefined;
		case "invalid-signature":
			return problem("session/invalid-signature", "The voucher's signature could not be verified.", { channelId });
		case "signer-mismatch":
			return problem(
				"session/signer-mismatch",
				"The voucher was signed by somebody else, or for another channel, amount, chain or escrow.",
				{
					channelId,
				},
			);
	}
}

export function channelNotFoundProblem(channelId: Hex): Problem {
	return problem("session/channel-not-found", "No channel with this id is open here; open one.", { channelId });
}
