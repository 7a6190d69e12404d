/** Later versions of a transaction, made from its record alone, and what became of the one that was mined. */
import {
	type Hex,
	keccak256,
	type LocalAccount,
	type PublicClient,
	parseTransaction,
	type TransactionReceipt,
} from "viem";
import { type BidTerms, type GasFees, raisedFees, writtenFees } from "./fees.ts";
import { type Bid, type OutboxEntry, versionsOf } from "./outbox.ts";
import { revertReason } from "./reverts.ts";

/**
 * Signs the next version of a transaction, with higher fees and otherwise the same; `undefined` when the limit allows none.
 */
export async function signBid(
	entry: OutboxEntry,
	account: LocalAccount,
	estimate: GasFees,
	terms: Omit<BidTerms, "first">,
	now: number,
): Promise<Bid | undefined> {
	const [{ raw: newest } = entry] = versionsOf(entry);
	const first = feesOf(entry.raw);
	const last = feesOf(newest);
	if (first === undefined || last === undefined) return undefined;
	const fees = raisedFees(last, estimate, { ...terms, first });
	if (fees === undefined) return undefined;
	const { chainId, nonce, to, data, value, gas } = parseTransaction(entry.raw);
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

/** `undefined` for a transaction of another kind than ours. */
function feesOf(raw: Hex): GasFees | undefined {
	const { maxFeePerGas, maxPriorityFeePerGas = 0n } = parseTransaction(raw);
	return maxFeePerGas === undefined ? undefined : { maxFeePerGas, maxPriorityFeePerGas };
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
