import { type Problem, problem, type SessionPayload } from "../../protocol/index.ts";
import type { PaidRequest } from "../admission.ts";
import type { ScreenedSession } from "../evm/method.ts";
import type { SessionOffer } from "../evm/offer.ts";

/** A session credential on its way: recognised, offer found, payload parsed. */
export type SessionOrder<Payload extends SessionPayload = SessionPayload> = Readonly<{
	request: PaidRequest;
	offer: SessionOffer;
	screened: ScreenedSession;
	payload: Payload;
}>;

/** For what the drafts have and this version has not. */
export function unsupportedProblem(what: string): Problem {
	return problem("method-unsupported", `This server does not take ${what}.`);
}
