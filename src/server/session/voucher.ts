import { type ClosePayload, problem, type VoucherPayload } from "../../protocol/index.ts";
import { voucherSigner } from "../../voucher/index.ts";
import { type Admission, type Refused, refused } from "../admission.ts";
import type { Channel } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import type { VoucherVerdict } from "../signatures.ts";
import { adopt, type Occasion } from "./adopt.ts";
import type { SessionOrder } from "./order.ts";
import { channelNotFoundProblem, isOurs, signatureProblem } from "./signed.ts";
import { spend } from "./spend.ts";

/** `action="voucher"`: draft-evm-session-00, Voucher Verification. */
export async function voucher(context: EngineContext, order: SessionOrder<VoucherPayload>): Promise<Admission> {
	const checking = verifyCredential(context, order);
	const checked = "kind" in checking ? checking : await checking;
	if (checked.kind === "refused") return checked;
	const tooMany = tooManyVouchers(context, order.payload);
	if (tooMany !== undefined) return tooMany;
	if (!context.chainState.isFresh(checked.channel)) await context.chainState.ensureFresh(checked.channel);
	return spendVoucher(context, order);
}

/**
 * The channel of a voucher that was found good. Whoever signs some units ahead sends the same credential again and again, each
 * time with an `Idempotency-Key` of its own: byte for byte the same one is as good as it was (I3).
 */
function verifyCredential(context: EngineContext, order: SessionOrder<VoucherPayload>): Checked | Promise<Checked> {
	const { request, payload } = order;
	const channel = context.store.peek(payload.channelId);
	if (request.idempotencyKey !== undefined) return verifyOnce(context, order, channel);
	return channel === undefined
		? verifyOnChannel(context, payload, occasionOf(order))
		: verifySigner(context, payload, channel);
}

async function verifyOnce(
	context: EngineContext,
	order: SessionOrder<VoucherPayload>,
	known: Channel | undefined,
): Promise<Checked> {
	const { screened, payload } = order;
	if (context.verified.has(screened.credentialKey)) {
		const channel = known ?? (await context.store.channel(payload.channelId));
		if (channel !== undefined) return { kind: "verified", channel };
	}
	const checked = await verifyOnChannel(context, payload, occasionOf(order));
	if (checked.kind === "verified" && checked.isByKey) context.verified.add(screened.credentialKey);
	return checked;
}

type Checked = Verified | Refused;

type Verified = Readonly<{
	kind: "verified";
	channel: Channel;
	/** The signer's own key made the signature; a contract that says it is good may change its mind. */
	isByKey?: boolean;
}>;

/** What a voucher's request would cost: nothing when it is about the channel alone (D11). */
export function occasionOf({ screened, request, offer }: SessionOrder): Occasion {
	return { challenge: screened.credential.challenge, price: request.method === "HEAD" ? 0n : offer.amount };
}

/** Takes a voucher that was verified, and promises the request's price to it. */
export function spendVoucher(
	context: EngineContext,
	{ request, offer, screened, payload }: SessionOrder<VoucherPayload>,
): Promise<Admission> {
	return spend(context, {
		request,
		offer,
		challenge: screened.credential.challenge,
		answered: screened.request.amount,
		channelId: payload.channelId,
		voucher: { cumulativeAmount: payload.cumulativeAmount, signature: payload.signature },
		credentialKey: screened.credentialKey,
		management: request.method === "HEAD" ? "always" : "never",
	});
}

/** Vouchers beyond the channel's rate, counted only once their signature is known to be good (draft: Denial of Service). */
export function tooManyVouchers(
	{ voucherRate, limits }: EngineContext,
	{ channelId }: Pick<VoucherPayload, "channelId">,
): Refused | undefined {
	const waitSeconds = voucherRate?.take(channelId) ?? 0;
	if (waitSeconds === 0) return undefined;
	const { maxVouchersPerSecond } = limits;
	const detail = "This channel sends more vouchers in a second than are taken; send fewer and higher ones.";
	return refused(problem("too-many-requests", detail, { channelId, maxVouchersPerSecond }), Math.ceil(waitSeconds));
}

/**
 * The channel a voucher is for, after its signature was found good. Of the channel only what never changes is read
 * before that (I3). One that the store has lost is taken in (D10).
 */
export async function verifyOnChannel(
	context: EngineContext,
	payload: VoucherPayload | ClosePayload,
	occasion: Occasion,
): Promise<Checked> {
	const { store } = context;
	const { channelId } = payload;
	const channel = store.peek(channelId) ?? (await store.channel(channelId));
	return channel === undefined ? adopt(context, payload, occasion) : verifySigner(context, payload, channel);
}

/** Whether this channel's signer has signed the voucher: at once, where nobody else is asked. */
function verifySigner(
	context: EngineContext,
	{ channelId, cumulativeAmount, signature }: VoucherPayload | ClosePayload,
	channel: Channel,
): Checked | Promise<Checked> {
	if (!isOurs(context, channel)) return refused(channelNotFoundProblem(channelId));
	const { signatures, voucherDomain } = context;
	const signer = voucherSigner(channel);
	const verifying = signatures.verifyVoucher(voucherDomain, signer, { channelId, cumulativeAmount }, signature);
	const judged = ({ verdict, isByKey }: VoucherVerdict): Checked => {
		const invalid = signatureProblem(verdict, channelId);
		return invalid === undefined ? { kind: "verified", channel, isByKey } : refused(invalid);
	};
	return "verdict" in verifying ? judged(verifying) : verifying.then(judged);
}
