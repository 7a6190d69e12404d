import type { IncomingMessage } from "node:http";
import { formatChallenge } from "../../protocol/index.ts";
import type { Admission, Admitted, Refused } from "../admission.ts";
import { storedReceipt, storedResponse } from "../answer.ts";
import type { ChallengeFor, PaymentEngine } from "../engine.ts";
import type { Offer } from "../method.ts";
import { type AnyReceipt, receiptText } from "../receipts.ts";
import { unpaid } from "../screen.ts";
import type { StoredResponse } from "../store/store.ts";
import type { SocketLine } from "./socketLine.ts";

/** How often a client that pays in band may try: a fresh challenge, a top-up, a higher voucher. */
const MAX_TRIES = 6;

/** A request to open a socket, as it is admitted. */
export type SocketOrder = Readonly<{
	engine: PaymentEngine;
	request: IncomingMessage;
	/** Path and query. */
	url: string;
	idempotencyKey: string | undefined;
	offers: readonly Offer[];
	asked: ChallengeFor;
}>;

/** A socket that may begin: admitted, and what it is paid for is on disk. */
export type Begun = Readonly<{ admitted: Admitted; receipt: AnyReceipt }>;

/** Writes down what a socket is paid with before its first message leaves: all of it, or of a metered one its voucher. */
export async function beginSocket({ engine }: SocketOrder, admitted: Admitted): Promise<Begun | Refused> {
	try {
		if (admitted.metered !== undefined && admitted.receipt !== undefined)
			return { admitted, receipt: await admitted.receipt() };
		const captured = await admitted.capture((receipt) => storedSocket(engine, receipt));
		return captured.kind === "captured" ? { admitted, receipt: captured.receipt } : captured;
	} catch (error) {
		await releaseSocket(engine, admitted);
		return engine.refusalFor(error);
	}
}

/** A store that fails now has nothing promised after its restart. */
export async function releaseSocket(engine: PaymentEngine, admitted: Admitted): Promise<void> {
	await admitted.release().catch((error: unknown) => void engine.refusalFor(error));
}

/** Admits a request as any other one. `authorization` is what its header says, or what came in its place. */
export async function admitUpgrade(order: SocketOrder, authorization: readonly string[]): Promise<Admission> {
	const { engine, url, offers, idempotencyKey } = order;
	const head = { offers, authorization, idempotencyKey };
	const screened = engine.screen(head);
	if (screened.kind === "refused") return screened;
	return engine.admit({ ...head, method: "GET", url, bodyDigest: "" }, screened);
}

/** Asks for the payment by messages, until there is one. `undefined` when there is none: then the line is closed. */
export async function admitInBand(
	order: SocketOrder,
	line: SocketLine,
	payWithinMs: number,
): Promise<Begun | undefined> {
	let refusal: Refused | undefined = unpaid();
	for (let triesLeft = MAX_TRIES; triesLeft > 0; triesLeft--) {
		const tooLate = setTimeout(() => void line.close("unpaid", "no payment came in time"), payWithinMs);
		if (refusal !== undefined) await line.say("payment-required", refusalData(order, refusal));
		const { value: sent } = await line.credentials.next();
		clearTimeout(tooLate);
		if (sent === undefined) return void (await line.closed);
		const { credential, idempotencyKey = order.idempotencyKey } = sent;
		const admission = await admitUpgrade({ ...order, idempotencyKey }, [credential]);
		const begun = admission.kind === "admitted" ? await beginSocket(order, admission) : admission;
		if (!("kind" in begun)) return begun;
		refusal = begun.kind === "refused" ? begun : undefined;
		if (begun.kind === "managed") await line.say("payment-receipt", receiptData(begun.receipt));
		if (begun.kind === "replayed") {
			// It was served before, to its end: the receipt is all that is left of it.
			void line.say("payment-receipt", storedReceipt(begun.response));
			return void (await line.close("done"));
		}
	}
	return void (await refuseSocket(order, line, refusal ?? unpaid()));
}

/** Says why, and closes. */
export function refuseSocket(order: SocketOrder, line: SocketLine, refusal: Refused): Promise<void> {
	void line.say("payment-required", refusalData(order, refusal));
	return line.close("unpaid", refusal.problem.title);
}

/** A refusal as its message: a 402 has fresh challenges. */
export function refusalData({ engine, offers, asked }: SocketOrder, { problem: why, retryAfterSeconds }: Refused) {
	const challenges = why.status === 402 ? engine.challenge(offers, asked).map(formatChallenge) : [];
	return { challenges, problem: why, ...(retryAfterSeconds !== undefined && { retryAfterSeconds }) };
}

export function receiptData(receipt: AnyReceipt): unknown {
	return JSON.parse(receiptText(receipt));
}

/** What a retry with the same `Idempotency-Key` gets: the receipt alone. What was sent on a socket is not kept. */
export function storedSocket({ limits }: PaymentEngine, receipt: AnyReceipt): StoredResponse {
	return storedResponse(200, [], null, receipt, limits.maxReplayBytes);
}
