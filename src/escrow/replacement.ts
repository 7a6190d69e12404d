/** Later versions of a transaction, made from its record alone, and what became of the one that was mined. */
import { keccak256, type LocalAccount, type PublicClient, parseTransaction, type TransactionReceipt } from "viem";
import { type GasFees, raisedFees, writtenFees } from "./fees.ts";
import { type Bid, type OutboxEntry, versionsOf } from "./outbox.ts";
import { revertReason } from "./reverts.ts";

/**
 * Signs the next version of a transaction, with higher fees and otherwise the same; `undefined` when the limit allows none.
 *
 * @param terms as for {@link raisedFees}
 */
export async function signBid(
	entry: OutboxEntry,
	account: LocalAccount,
	estimate: GasFees,
	terms: Parameters<typeof raisedFees>[2],
	now: number,
): Promise<Bid | undefined> {
	const [{ raw: last } = entry] = versionsOf(entry);
	const { chainId, nonce, to, data, value, gas, maxFeePerGas, maxPriorityFeePerGas } = parseTransaction(last);
	if (maxFeePerGas === undefined) return undefined;
	const fees = raisedFees({ maxFeePerGas, maxPriorityFeePerGas: maxPriorityFeePerGas ?? 0n }, estimate, terms);
	if (fees === undefined) return undefined;
	const raw = await account.signTransaction({
		type: "eip1559",
		chainId: chainId ?? entry.chainId,
		nonce: nonce ?? 0,
		to: to ?? null,
		...(data !== undefined && { data }),
		...(value !== undefined && { value }),
		...(gas !== undefined && { gas }),
		...fees,
	});
	return { hash: keccak256(raw), raw, ...writtenFees(fees), signedAt: now };
}

/** Why a mined transaction reverted, found by running its call again on the state of its block; `unknown` when that does not tell. */
export async function minedRevertReason(
	client: PublicClient,
	{ raw, from }: OutboxEntry,
	{ blockNumber }: TransactionReceipt,
): Promise<string> {
	try {
		const { to, data, value, gas } = parseTransaction(raw);
		await client.call({
			account: from,
			to: to ?? null,
			...(data !== undefined && { data }),
			...(value !== undefined && { value }),
			...(gas !== undefined && { gas }),
			blockNumber,
		});
	} catch (error) {
		return revertReason(error) ?? "unknown";
	}
	return "unknown";
}
