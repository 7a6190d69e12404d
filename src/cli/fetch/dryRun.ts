import type { Offer } from "../../client/answer.ts";
import { bareUrl } from "../../client/bareUrl.ts";
import {
	amountText,
	assertAllowed,
	DryRunError,
	needsApproval,
	type Policy,
	PolicyRefusedError,
	type PolicyRule,
} from "../../client/policy.ts";
import type { PayerStore } from "../../client/store/store.ts";
import { type Payment, refusalFor } from "../policy/whatIf.ts";
import type { Run } from "../shared/command.ts";
import { EXIT, type ExitCode } from "../shared/exit.ts";
import type { OpenPayer } from "../shared/payer.ts";
import { harmless, paymentLines } from "./ask.ts";
import type { PaymentWatch } from "./watch.ts";

type Verdict = Readonly<{ isAllowed: boolean; rule?: PolicyRule; message?: string }>;

/** What would be paid. Amounts in base units, as decimal strings; texts with their unit. */
type DryRun = Readonly<{
	dryRun: true;
	status: number | null;
	offers: readonly object[];
	/** What the client would sign: the first thing that it would be asked for. */
	chosen: object | null;
	/** Whether it would be paid, and if not, why. */
	verdict: Verdict & Readonly<{ needsApproval: boolean }>;
}>;

/**
 * Sends the request without paying, and tells what paying would come to. Nothing is signed: the policy of a dry run refuses
 * every signature.
 */
export async function dryRun(
	run: Run,
	{ payer, store }: Pick<OpenPayer, "payer" | "store">,
	policy: Policy,
	watch: PaymentWatch,
	request: Request,
): Promise<ExitCode> {
	let status: number | null = null;
	let chosen: DryRunError["request"] | undefined;
	let refusal: PolicyRefusedError | undefined;
	try {
		const response = await payer.fetch(request);
		status = response.status;
		await response.body?.cancel();
	} catch (error) {
		if (!(error instanceof PolicyRefusedError)) throw error;
		status = 402;
		if (error instanceof DryRunError) chosen = error.request;
		else refusal = error;
	}
	const host = new URL(request.url).host;
	const offers = await Promise.all(watch.offers.map(async (offer) => offerRow(policy, host, offer, store)));
	const offer = chosen && watch.offerOf(chosen);
	refusal ??= offer && (await refusalOfOffer(policy, host, offer, store));
	const verdict = verdictOf(refusal);
	const result: DryRun = {
		dryRun: true,
		status,
		offers,
		chosen: chosen === undefined ? null : { ...chosen, url: bareUrl(chosen.url), amount: String(chosen.amount) },
		verdict: { ...verdict, needsApproval: chosen !== undefined && needsApproval(policy, chosen) },
	};
	if (run.format === "json") await run.out.line(JSON.stringify(result));
	else await tell(run, policy, result, chosen, offer);
	return verdict.isAllowed ? EXIT.done : EXIT.refused;
}

async function tell(
	{ out }: Run,
	policy: Policy,
	{ status, offers, verdict }: DryRun,
	chosen: DryRunError["request"] | undefined,
	offer: Offer | undefined,
): Promise<void> {
	if (offers.length === 0)
		return out.line(
			`the server answered ${status}: ${status === 402 ? "nothing that this client can pay" : "nothing to pay"}`,
		);
	await out.line(`${offers.length} offers`);
	for (const its of offers as readonly Record<string, unknown>[])
		await out.line(`  ${its.intent} ${its.text} to ${its.payee}: ${its.isAllowed ? "allowed" : its.message}`);
	if (chosen !== undefined) for (const line of paymentLines(policy, chosen, offer)) await out.line(line);
	const asks = verdict.needsApproval ? ", once it is approved" : "";
	await out.line(
		verdict.isAllowed ? `would be paid${asks}; nothing was signed` : `would not be paid: ${verdict.message}`,
	);
}

function verdictOf(refusal: PolicyRefusedError | undefined): Verdict {
	return refusal === undefined
		? { isAllowed: true }
		: { isAllowed: false, rule: refusal.rule, message: refusal.message };
}

async function offerRow(policy: Policy, host: string, offer: Offer, store: PayerStore): Promise<object> {
	const { intent, request, challenge } = offer;
	const { amount, currency: token, recipient: payee, methodDetails } = request;
	const { chainId } = methodDetails;
	return {
		intent,
		amount: String(amount),
		text: amountText(policy, { chainId, token }, amount),
		payee,
		token,
		chainId,
		...(offer.intent === "session" && {
			unitType: harmless(offer.request.unitType ?? "request"),
			escrow: offer.request.methodDetails.escrowContract,
			suggestedDeposit: offer.request.suggestedDeposit === undefined ? null : String(offer.request.suggestedDeposit),
		}),
		...(challenge.description !== undefined && { description: harmless(challenge.description) }),
		...verdictOf(await refusalOfOffer(policy, host, offer, store)),
	};
}

/** By what the policy says of an offer, with what is counted by now. */
async function refusalOfOffer(
	policy: Policy,
	host: string,
	{ request }: Offer,
	store: PayerStore,
): Promise<PolicyRefusedError | undefined> {
	try {
		assertAllowed(policy, host, request);
	} catch (error) {
		if (error instanceof PolicyRefusedError) return error;
		throw error;
	}
	const { amount, currency: token, recipient: payee, methodDetails } = request;
	const payment: Payment = { host, amount, payee, token, chainId: methodDetails.chainId, isStream: false };
	return refusalFor(policy, payment, Date.now(), store);
}
