import type { EscrowChannel } from "../escrow/reads.ts";
import { sameAddress, voucherSigner } from "../voucher/index.ts";
import type { PayerChannel } from "./channel.ts";

/**
 * Whether the escrow's record is that of this channel, and vouchers of it can pay at least `price` (draft-evm-session-00,
 * Method Details): it is open, nobody has asked for its close, and that much of it is not settled.
 */
export function isUsable(
	{ parameters }: Readonly<{ parameters: Omit<PayerChannel["parameters"], "salt"> }>,
	onChain: EscrowChannel,
	price: bigint,
): boolean {
	return (
		sameAddress(onChain.payer, parameters.payer) &&
		sameAddress(onChain.payee, parameters.payee) &&
		sameAddress(onChain.token, parameters.token) &&
		sameAddress(voucherSigner(onChain), voucherSigner(parameters)) &&
		!onChain.finalized &&
		onChain.closeRequestedAt === 0 &&
		onChain.deposit - onChain.settled >= price
	);
}
