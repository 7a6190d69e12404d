import type { Address } from "viem";
import { readAllowance, readBalance } from "../escrow/reads.ts";
import type { EngineContext } from "./context.ts";
import type { Draw } from "./transactions.ts";

/**
 * What a payer signs away by ERC-3009, or by Permit2, which moves no more than it is allowed to.
 *
 * @param once the key of its Permit2 nonce; nonces of ERC-3009 follow from what is paid
 */
export function drawOf(
	{ client, terms: { currency }, permit2Domain }: Pick<EngineContext, "client" | "terms" | "permit2Domain">,
	{ type, from, amount, once }: Readonly<{ type: string; from: Address; amount: bigint; once?: string | undefined }>,
): Draw {
	return {
		account: `${currency}:${from}`,
		amount,
		...(once !== undefined && { once }),
		async funds() {
			if (type !== "permit2" || permit2Domain === undefined) return readBalance(client, currency, from);
			const [balance, allowance] = await Promise.all([
				readBalance(client, currency, from),
				readAllowance(client, currency, from, permit2Domain.permit2),
			]);
			return allowance < balance ? allowance : balance;
		},
	};
}
