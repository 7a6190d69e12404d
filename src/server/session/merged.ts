import type { Hex } from "viem";
import { type Problem, problem, type VoucherDeposit, type VoucherPayload } from "../../protocol/index.ts";
import { type Admission, type Refused, refused } from "../admission.ts";
import type { Channel } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import { applyEvent, mergedVoucherProblem, topUpProblem } from "../ledger.ts";
import { adoption, type Foundling, find } from "./adopt.ts";
import { usedByAnother } from "./binding.ts";
import { fundingSignatureProblem, openFunding, topUpFunding, typeProblem } from "./funding.ts";
import { sendOpening } from "./open.ts";
import { describeOpening } from "./opening.ts";
import type { SessionOrder } from "./order.ts";
import { dearerProblem } from "./spend.ts";
import { credited, sendTopUp } from "./topUp.ts";
import { occasionOf, spendVoucher, tooManyVouchers, verifyOnChannel } from "./voucher.ts";

type Merged<Action> = SessionOrder<VoucherPayload & Readonly<{ deposit: Extract<VoucherDeposit, { action: Action }> }>>;

/**
 * A voucher with its funding: draft-evm-session-00, Voucher Payload and Voucher Verification step 2. Whatever can be known
 * of the voucher is checked before the deposit costs gas (D14); then the deposit; then the voucher as any other. A deposit
 * that fails refuses all of it; one that was made before is not made again.
 */
export async function mergedVoucher(context: EngineContext, order: SessionOrder<VoucherPayload>): Promise<Admission> {
	const { payload, screened } = order;
	const { deposit, channelId } = payload;
	if (deposit === undefined) throw new TypeError("a voucher without a deposit is not a merged one");
	const unlisted = typeProblem(screened, deposit.type);
	if (unlisted !== undefined) return refused(unlisted);
	const foreign = await usedByAnother(context, screened.credential.challenge, channelId);
	if (foreign !== undefined) return foreign;
	const refusal =
		deposit.action === "open"
			? await openFirst(context, { ...order, payload: { ...payload, deposit } })
			: await topUpFirst(context, { ...order, payload: { ...payload, deposit } });
	return refusal ?? spendVoucher(context, order);
}

/** Opens the channel that the voucher is for, unless this very deposit has opened it already. */
async function openFirst(context: EngineContext, order: Merged<"open">): Promise<Refused | undefined> {
	const { channelId, cumulativeAmount, signature, deposit } = order.payload;
	const { salt, authorizedSigner, authorization } = deposit;
	const claim = { channelId, cumulativeAmount, signature, payer: authorization.from, salt, authorizedSigner };
	const opening = await describeOpening(context, order, claim);
	if ("problem" in opening) return refused(opening.problem);
	const funding = openFunding(context, deposit, opening.identity);
	if ("problem" in funding) return refused(funding.problem);
	const tooMany = tooManyVouchers(context, order.payload);
	if (tooMany !== undefined) return tooMany;
	const known = await context.store.channel(channelId);
	if (known === undefined) {
		const dearer = notAnswered(order);
		return dearer === undefined ? sendOpening(context, opening, funding) : refused(dearer);
	}
	const invalid = await fundingSignatureProblem(context, funding, channelId);
	if (invalid !== undefined) return refused(invalid);
	if ((await credited(context, channelId, funding.key)) === undefined) {
		const detail = "The channel is open already, by another deposit; merge a top-up instead.";
		return refused(problem("session/transaction-reverted", detail, { channelId }));
	}
	await context.chainState.ensureFresh(known);
	return undefined;
}

/** Adds to the channel that the voucher is for, unless this very deposit was added already. */
async function topUpFirst(context: EngineContext, order: Merged<"topUp">): Promise<Refused | undefined> {
	const { payload, screened } = order;
	const { channelId, cumulativeAmount, signature, deposit } = payload;
	const { challenge } = screened.credential;
	const voucher = { cumulativeAmount, signature, challengeId: challenge.id };
	const { terms, limits, now } = context;

	// A channel that the store has lost is taken in afterwards: its voucher may be above what is in escrow now.
	let lost: Foundling | undefined;
	if ((await context.store.channel(channelId)) === undefined) {
		const found = await find(context, payload, challenge);
		if ("kind" in found) return found;
		lost = found;
	} else {
		const checked = await verifyOnChannel(context, payload, occasionOf(order));
		if (checked.kind === "refused") return checked;
	}
	const tooMany = tooManyVouchers(context, payload);
	if (tooMany !== undefined) return tooMany;
	const funding = topUpFunding(context, deposit, channelId);
	if ("problem" in funding) return refused(funding.problem);
	const { amount } = funding;

	const check = (channel: Channel | undefined): Problem | undefined => {
		const dearer = notAnswered(order);
		if (dearer !== undefined) return dearer;
		if (channel !== undefined) return mergedVoucherProblem(channel, amount, voucher, terms.minVoucherDelta, now());
		if (lost === undefined) return undefined;
		const chain = { ...lost.chain, deposit: lost.chain.deposit + amount };
		const foreseen = applyEvent(undefined, adoption({ ...lost, chain }, occasionOf(order)), now());
		if (!foreseen.ok) return foreseen.problem;
		return topUpProblem({ ...foreseen.channel, ...lost.chain }, amount, limits.minSponsoredDeposit);
	};
	const sent = await sendTopUp(context, { channelId, funding, challenge, check });
	if ("kind" in sent) return sent;
	if (lost !== undefined) return takeIn(context, order, channelId);
	// The deposit may be an old one: then the chain was not asked just now (I9).
	const channel = await context.store.channel(channelId);
	if (channel !== undefined) await context.chainState.ensureFresh(channel);
	return undefined;
}

/** A price that the voucher does not pay, for which no deposit is to cost gas. One that was made is left to `spendVoucher`. */
function notAnswered({ request, offer, screened }: SessionOrder): Problem | undefined {
	return request.method === "HEAD" ? undefined : dearerProblem(offer, screened.request.amount);
}

async function takeIn(context: EngineContext, order: Merged<"topUp">, channelId: Hex): Promise<Refused | undefined> {
	const checked = await verifyOnChannel(context, order.payload, occasionOf(order));
	if (checked.kind === "refused") return checked;
	context.log.info({ channelId }, "a channel was topped up and adopted");
	return undefined;
}
