import { type Challenge, encodeSessionPayload } from "../protocol/index.ts";
import type { PayerChannel } from "./channel.ts";
import type { MergedTopUp } from "./cover.ts";
import type { FundingParts } from "./funding.ts";
import { signTopUp } from "./topUp.ts";

/** `action="voucher"`, with a top-up where one goes along (draft-evm-session-00, Voucher Payload). */
export async function voucherCredential(
	parts: FundingParts,
	challenge: Challenge,
	channel: PayerChannel,
	cumulativeAmount: bigint,
	topUp: MergedTopUp | undefined,
): Promise<string> {
	const { signer, gate } = parts;
	const { channelId } = channel;
	const deposit = topUp && (await signTopUp(parts, challenge, channel, topUp));
	await gate.voucher(channel, cumulativeAmount);
	const signature = await signer.voucher(channel, cumulativeAmount);
	const voucher = { action: "voucher", channelId, cumulativeAmount, signature } as const;
	return signer.credential(challenge, encodeSessionPayload(deposit === undefined ? voucher : { ...voucher, deposit }));
}

/** A voucher that was signed before, once more: it pays for nothing new. */
export async function sameVoucherCredential(
	{ signer, gate }: Pick<FundingParts, "signer" | "gate">,
	challenge: Challenge,
	channel: PayerChannel,
	cumulativeAmount: bigint,
): Promise<string> {
	const { channelId } = channel;
	gate.again(channel, cumulativeAmount);
	const signature = await signer.voucher(channel, cumulativeAmount);
	return signer.credential(
		challenge,
		encodeSessionPayload({ action: "voucher", channelId, cumulativeAmount, signature }),
	);
}
