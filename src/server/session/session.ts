import {
	type Credential,
	InvalidPayloadError,
	type JsonObject,
	parseSessionPayload,
	problem,
	type SessionPayload,
} from "../../protocol/index.ts";
import { type Admission, type PaidRequest, refused } from "../admission.ts";
import type { EngineContext } from "../context.ts";
import type { ScreenedSession } from "../evm/method.ts";
import { close } from "./close.ts";
import { mergedVoucher } from "./merged.ts";
import { once } from "./once.ts";
import { open } from "./open.ts";
import type { SessionOrder } from "./order.ts";
import { topUp } from "./topUp.ts";
import { voucher } from "./voucher.ts";

/** Answers a session credential by its action (draft-evm-session-00, Payload Actions). */
export function admitSession(
	context: EngineContext,
	request: PaidRequest,
	screened: ScreenedSession,
): Promise<Admission> {
	let payload: SessionPayload;
	try {
		payload = payloadOf(screened.credential, request.idempotencyKey !== undefined);
	} catch (error) {
		if (error instanceof InvalidPayloadError) return Promise.resolve(refused(problem("bad-request", error.message)));
		return Promise.reject(error);
	}
	const order: SessionOrder = { request, offer: screened.offer, screened, payload };
	if (!request.usesChallengeOnce) return byAction(context, order);
	return once(context, screened.credential.challenge, () => byAction(context, order));
}

/** What was parsed of credentials that may come again as they are: each as the same object then. */
const PARSED = new WeakMap<JsonObject, SessionPayload>();

/** @throws InvalidPayloadError */
function payloadOf({ payload }: Credential, isRepeatable: boolean): SessionPayload {
	const known = isRepeatable ? PARSED.get(payload) : undefined;
	if (known !== undefined) return known;
	const parsed = parseSessionPayload(payload);
	if (isRepeatable) PARSED.set(payload, parsed);
	return parsed;
}

function byAction(context: EngineContext, { payload, ...order }: SessionOrder): Promise<Admission> {
	switch (payload.action) {
		case "voucher":
			return payload.deposit === undefined
				? voucher(context, { ...order, payload })
				: mergedVoucher(context, { ...order, payload });
		case "open":
			return open(context, { ...order, payload });
		case "close":
			return close(context, { ...order, payload });
		case "topUp":
			return topUp(context, { ...order, payload });
	}
}
