/** Paid requests for x402Http.mjs, made ahead: for the process that sends them. */
import { decodePaymentRequiredHeader, encodePaymentSignatureHeader } from "@x402/core/http";
import { payersOf } from "./x402Vouchers.mjs";

/** Where each server's payers have got to. */
const payers = new Map();

/**
 * Makes the headers of `count` paid requests. The payers pay in turn, each its own channel's next voucher; a further call
 * goes on where the last one ended.
 *
 * x402 takes a channel's vouchers in their order and without a gap, and one that it misses makes its channel useless.
 * Therefore all requests of one channel have to go over one connection: with `connections` of them, which divide
 * `channels`, connection c sends the requests c, c + connections, c + 2 * connections, and so on.
 *
 * @param {Readonly<{ url: string, count: number, channels: number }>} order `channels` as the server was started with
 * @returns {Promise<readonly Readonly<Record<string, string>>[]>}
 * @example
 * const [headers] = await prepare({ url, count: 1, channels: 200 });
 * const response = await fetch(url, { headers });
 */
export async function prepare({ url, count, channels }) {
	let nextVoucher = payers.get(url);
	if (nextVoucher === undefined) {
		const unpaid = await fetch(url);
		await unpaid.arrayBuffer();
		const { accepts } = decodePaymentRequiredHeader(unpaid.headers.get("payment-required") ?? "");
		nextVoucher = payersOf(accepts[0], channels);
		payers.set(url, nextVoucher);
	}
	const requests = [];
	for (let made = 0; made < count; made++)
		requests.push({ "payment-signature": encodePaymentSignatureHeader(await nextVoucher()) });
	return requests;
}
