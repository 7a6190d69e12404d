/**
 * x402's side of `session-verify`: the server of its batch settlement verifies a voucher and accounts for it, in its own
 * store in memory (`InMemoryChannelStorage`), or on files (`FileChannelStorage`, which does not wait for the disk).
 *
 * Measured are `verifyPayment` and `settlePayment` of `x402ResourceServer`, as its middlewares call them before and
 * after the handler: they verify the signature, reserve the price, and charge it. The header is parsed ahead, and what
 * the server asks for is made once: x402 itself makes it again for every request.
 */
import { serveSide } from "../lib/side.ts";
import { oneByOne } from "./oneByOne.mjs";
import { openShop } from "./x402Shop.mjs";
import { payersOf } from "./x402Vouchers.mjs";

/**
 * @typedef {Readonly<{ channels: number, folder?: string }>} Start with a folder, on files in it
 * @typedef {Readonly<{ count: number }>} Order
 * @typedef {Readonly<Record<string, never>>} Info
 */

serveSide(async (/** @type {Start} */ { channels, folder }) => {
	const { server, requirements } = await openShop({ channels, folder });
	const nextVoucher = payersOf(requirements, channels);
	return {
		info: {},
		async round(/** @type {Order} */ { count }) {
			const payments = [];
			for (let made = 0; made < count; made++) payments.push(await nextVoucher());
			return oneByOne(payments, async (payment) => {
				const { isValid, invalidReason } = await server.verifyPayment(payment, requirements);
				if (!isValid) throw new Error(`x402 refuses a voucher: ${invalidReason}`);
				const { extra } = await server.settlePayment(payment, requirements);
				const charged = extra?.channelState?.chargedCumulativeAmount;
				const { maxClaimableAmount } = payment.payload.voucher;
				if (charged !== maxClaimableAmount) throw new Error(`x402 has charged ${charged}, not ${maxClaimableAmount}`);
			});
		},
	};
});
