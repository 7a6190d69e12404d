/** Vouchers of x402's batch settlement, as its client makes them, one payer after the other. */
import { signVoucher } from "@x402/evm/batch-settlement/client";
import { channelOf } from "./x402Shop.mjs";

/**
 * Payers that pay in turn, each its own channel's next voucher.
 *
 * @param {import("@x402/core/types").PaymentRequirements} requirements what the server asks for
 * @param {number} channels
 * @returns {() => Promise<import("@x402/core/types").PaymentPayload>} the next voucher
 */
export function payersOf(requirements, channels) {
	const payers = Array.from({ length: channels }, (_, at) => ({ ...channelOf(requirements, at), signed: 0n }));
	const price = BigInt(requirements.amount);
	let next = 0;
	return async () => {
		const payer = payers[next++ % payers.length];
		const { account, channelConfig, channelId } = payer;
		payer.signed += price;
		const voucher = await signVoucher(account, channelId, payer.signed.toString(), requirements.network);
		return { x402Version: 2, accepted: requirements, payload: { type: "voucher", channelConfig, voucher } };
	};
}
