import {
	authorizationFromRpc,
	CREDENTIAL_META,
	IDEMPOTENCY_META,
	type JsonObject,
	MANAGED_META,
	MalformedRpcPaymentError,
	metaOf,
	needsChallenges,
	problem,
	RECEIPT_META,
	rpcCodeOf,
	rpcRefusal,
} from "../../protocol/index.ts";
import { type Admitted, type Payment, type Refused, refused } from "../admission.ts";
import { releaseQuietly, storedReceipt, storedResponse } from "../answer.ts";
import type { PaymentEngine } from "../engine.ts";
import type { Offer } from "../method.ts";
import { type AnyReceipt, receiptText } from "../receipts.ts";
import { challengeProblem, unpaid } from "../screen.ts";
import type { StoredResponse } from "../store/store.ts";
import { assertRpcOffers, boundOffers, type CallDigest, digestOfCall, isBoundTo, withoutBinding } from "./binding.ts";
import type { RpcFrom, RpcOutcome, RpcPlacement, RpcRequest, RpcResponse } from "./types.ts";

/** One call to a paid operation. */
export type PaidCall = Readonly<{
	message: RpcRequest;
	/** Names the operation, for people and for idempotency keys: `tools/call web-search`. */
	operation: string;
	/** What it costs now; a refusal where that can't be said. */
	offers: readonly Offer[] | Refused;
	from: RpcFrom;
	placement: RpcPlacement;
	/** It is about the payment alone: nothing is carried out. */
	isManagement?: boolean;
	/** The result of a call that was about the payment alone, in a form that its method has. */
	managedResult: (receipt: JsonObject) => JsonObject;
}>;

/**
 * Answers a call to a paid operation (draft-payment-transport-mcp-00): by the very engine that answers HTTP requests, with the
 * call as its body. `serve` runs between the promise of the price and its capture: an error, a result that is marked
 * `isError`, and a client that has left cost nothing (I7).
 */
export async function answerPaid(
	engine: PaymentEngine,
	call: PaidCall,
	serve: (payment: Payment, signal: AbortSignal) => Promise<RpcOutcome>,
): Promise<RpcResponse> {
	const { message, from } = call;
	const answer = (outcome: RpcOutcome): RpcResponse => ({ jsonrpc: "2.0", id: message.id, ...outcome });
	const plain = engine.transportRefusal(from.transport);
	if (plain !== undefined) return answer({ error: errorOf(engine, [], plain, from) });
	if ("kind" in call.offers) return answer({ error: errorOf(engine, [], call.offers, from) });
	let order: Order;
	try {
		const digest = digestOfCall(message);
		order = {
			call,
			digest,
			offers: boundOffers(assertRpcOffers(call.operation, call.offers), digest),
			authorization: authorizationOf(message),
			idempotencyKey: idempotencyKeyOf(message),
		};
	} catch (error) {
		const why =
			error instanceof MalformedRpcPaymentError
				? refused(problem("malformed-credential", error.message, { path: error.path }))
				: engine.refusalFor(error);
		return answer({ error: errorOf(engine, [], why, from) });
	}
	const outcome = await admitAndServe(engine, order, serve);
	if ("kind" in outcome) return answer({ error: errorOf(engine, order.offers, outcome, from) });
	return "receipt" in outcome ? withReceipt(answer, call.placement, outcome) : answer(outcome);
}

type Order = Readonly<{
	call: PaidCall;
	digest: CallDigest;
	offers: readonly Offer[];
	authorization: readonly string[];
	idempotencyKey: string | undefined;
}>;

type Paid = Readonly<{ result: unknown; receipt: JsonObject; isManaged?: boolean }>;

async function admitAndServe(
	engine: PaymentEngine,
	{ call, digest, offers, authorization, idempotencyKey }: Order,
	serve: (payment: Payment, signal: AbortSignal) => Promise<RpcOutcome>,
): Promise<Paid | RpcOutcome | Refused> {
	const { operation: url, isManagement = false } = call;
	if (authorization.length === 0) return unpaid();
	const head = { offers, authorization, idempotencyKey };
	const screened = engine.screen(head);
	if (screened.kind === "refused") return screened;
	const { challenge } = screened.credential;
	if (!isBoundTo(challenge, digest)) return refused(challengeProblem(challenge));
	const method = isManagement ? "HEAD" : "POST";
	const { bodyDigest } = digest;
	const admission = await engine.admit({ ...head, method, url, bodyDigest, usesChallengeOnce: true }, screened);
	switch (admission.kind) {
		case "refused":
			return admission;
		case "managed": {
			const receipt = receiptJson(admission.receipt);
			return { result: call.managedResult(receipt), receipt, isManaged: true };
		}
		case "replayed":
			return replayed(admission.response);
		case "admitted":
			return deliver(engine, admission, call.from.signal, serve);
	}
}

/** Carries the operation out, and takes the payment before anything of its result leaves, or gives it back. */
async function deliver(
	engine: PaymentEngine,
	admitted: Admitted,
	signal: AbortSignal = new AbortController().signal,
	serve: (payment: Payment, signal: AbortSignal) => Promise<RpcOutcome>,
): Promise<Paid | RpcOutcome | Refused> {
	const leave = () => void releaseQuietly(engine, admitted);
	signal.addEventListener("abort", leave);
	try {
		signal.throwIfAborted();
		const outcome = await serve(withoutBinding(admitted.payment), signal);
		signal.throwIfAborted();
		if (!isPayable(outcome)) {
			await releaseQuietly(engine, admitted);
			return outcome;
		}
		signal.removeEventListener("abort", leave);
		const body = new TextEncoder().encode(JSON.stringify(outcome.result));
		const { maxReplayBytes } = engine.limits;
		const stored = (receipt: AnyReceipt) =>
			storedResponse(200, [["content-type", "application/json"]], body, receipt, maxReplayBytes);
		const captured = await admitted.capture(stored).catch((error: unknown) => engine.refusalFor(error));
		if (captured.kind === "refused") return captured;
		return { result: outcome.result, receipt: receiptJson(captured.receipt) };
	} catch (error) {
		await releaseQuietly(engine, admitted);
		throw error;
	} finally {
		signal.removeEventListener("abort", leave);
	}
}

/** An error is not paid for; neither is what MCP calls one inside a result. */
function isPayable(outcome: RpcOutcome): outcome is Readonly<{ result: unknown }> {
	if (!("result" in outcome)) return false;
	const { result } = outcome;
	return !(typeof result === "object" && result !== null && "isError" in result && result.isError === true);
}

function authorizationOf(message: RpcRequest): readonly string[] {
	const [first, ...others] = new Set(metaOf(message, CREDENTIAL_META).map(authorizationFromRpc));
	if (others.length > 0) throw new MalformedRpcPaymentError(undefined, "several");
	return first === undefined ? [] : [first];
}

function idempotencyKeyOf(message: RpcRequest): string | undefined {
	const [key] = metaOf(message, IDEMPOTENCY_META);
	if (key === undefined || typeof key === "string") return key;
	throw new MalformedRpcPaymentError(IDEMPOTENCY_META);
}

function errorOf(engine: PaymentEngine, offers: readonly Offer[], refusal: Refused, { acceptPayment }: RpcFrom) {
	const { problem: why, retryAfterSeconds } = refusal;
	const challenges = needsChallenges(rpcCodeOf(why)) ? engine.challenge(offers, { acceptPayment }) : [];
	return rpcRefusal(why, { challenges, retryAfterSeconds });
}

function replayed(response: StoredResponse): Paid {
	const result = JSON.parse(new TextDecoder().decode(response.body ?? new Uint8Array()));
	return { result, receipt: storedReceipt(response) };
}

function receiptJson(receipt: AnyReceipt): JsonObject {
	return JSON.parse(receiptText(receipt)) as JsonObject;
}

function withReceipt(
	answer: (outcome: RpcOutcome) => RpcResponse,
	placement: RpcPlacement,
	{ result, receipt, isManaged = false }: Paid,
): RpcResponse {
	const own = { [RECEIPT_META]: receipt, ...(isManaged && { [MANAGED_META]: true }) };
	// A result that is no object has no place for it.
	if (placement === "root" || typeof result !== "object" || result === null || Array.isArray(result))
		return { ...answer({ result }), _meta: own } as RpcResponse;
	const meta = "_meta" in result && typeof result._meta === "object" ? result._meta : undefined;
	return answer({ result: { ...result, _meta: { ...meta, ...own } } });
}
