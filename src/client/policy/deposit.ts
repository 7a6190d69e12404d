import type { SessionRequest } from "../../protocol/index.ts";
import { least } from "../least.ts";
import { amountText, type Bounds, boundsFor, type TokenAt } from "./currency.ts";
import { PolicyRefusedError } from "./errors.ts";
import type { Policy } from "./schema.ts";

/** The deposit for a new channel: what the server suggests, never more than the policy allows. */
export function depositFor(policy: Policy, terms: SessionRequest): bigint {
	const { amount: price, suggestedDeposit, currency: token, methodDetails } = terms;
	const at = { chainId: methodDetails.chainId, token };
	const { maxDeposit, maxTotal } = boundsFor(policy, at);
	const limit = least(maxDeposit, maxTotal ?? maxDeposit);
	const deposit = least(suggestedDeposit ?? limit, limit);
	if (deposit < price)
		throw new PolicyRefusedError(
			"deposit",
			`a deposit of at most ${amountText(policy, at, deposit)} can't pay a price of ${amountText(policy, at, price)}`,
		);
	return deposit;
}

/**
 * What to add to a channel's deposit that is `missing` base units: as much as the server suggests, never more than the
 * policy allows. `undefined` where it does not allow as much as is missing.
 *
 * @param bounds - of the channel's token: {@link boundsFor}
 */
export function additionalDepositFor(
	{ maxDeposit, maxTotal }: Pick<Bounds, "maxDeposit"> & Readonly<{ maxTotal?: bigint | undefined }>,
	{ deposit, accounted }: Readonly<{ deposit: bigint; accounted: bigint }>,
	suggestedDeposit: bigint | undefined,
	missing: bigint,
): bigint | undefined {
	const room = maxDeposit - (deposit - accounted);
	const limit = maxTotal === undefined ? room : least(room, maxTotal - deposit);
	if (limit < missing || limit <= 0n) return undefined;
	const wanted = suggestedDeposit ?? limit;
	return least(wanted > missing ? wanted : missing, limit);
}

/** Whether a channel may be opened with its deposit, as the policy is now. */
export function mayHold(
	policy: Policy,
	{ deposit, parameters }: Readonly<{ deposit: bigint; parameters: TokenAt }>,
): boolean {
	const { maxDeposit, maxTotal = maxDeposit } = boundsFor(policy, parameters);
	return deposit <= maxDeposit && deposit <= maxTotal;
}
