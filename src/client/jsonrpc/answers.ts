/** What a JSON-RPC server answers, as the responses that it would be over HTTP. */
import {
	challengeFromRpc,
	encodeBase64url,
	formatChallenge,
	isJsonObject,
	MANAGED_META,
	PAYMENT_RECEIPT,
	PROBLEM_CONTENT_TYPE,
	type Problem,
	parseRpcRefusal,
	problem,
	RETRY_AFTER,
	RPC_PAYMENT_CODES,
	type RpcChallenge,
	type RpcError,
	type RpcRefusal,
	receiptOfRpc,
	WWW_AUTHENTICATE,
} from "../../protocol/index.ts";

/** An answer as it came. */
export type RpcAnswer = Readonly<{ result: unknown; error?: never; _meta?: unknown }> | Readonly<{ error: RpcError }>;

/** Remembers challenges as they came, so that they go back unchanged. */
export type Keep = (challenge: RpcChallenge) => void;

/** The response that an answer stands for. Failures that are not about the payment prove nothing of it: they are a 500. */
export function responseOf(answer: RpcAnswer, keep: Keep): Response {
	if (answer.error === undefined) return resultResponse(answer);
	const refusal = parseRpcRefusal(answer.error);
	if (refusal === undefined) return new Response(null, { status: 500 });
	const headers = new Headers({ "content-type": PROBLEM_CONTENT_TYPE });
	for (const challenge of refusal.challenges) {
		const field = fieldOf(challenge);
		if (field === undefined) continue;
		headers.append(WWW_AUTHENTICATE, field);
		keep(challenge);
	}
	if (refusal.retryAfterSeconds !== undefined) headers.set(RETRY_AFTER, String(refusal.retryAfterSeconds));
	return new Response(JSON.stringify(problemOf(refusal)), { status: refusal.httpStatus, headers });
}

/** The refusal of a challenge that is not good any more, with the fresh ones of another 402. */
export function staleResponse(asked: Response): Response {
	const detail = "Each challenge is good for one credential here.";
	return new Response(JSON.stringify(problem("session/challenge-not-found", detail)), {
		status: 402,
		headers: asked.headers,
	});
}

function resultResponse(answer: Extract<RpcAnswer, Readonly<{ result: unknown }>>): Response {
	const receipt = receiptOfRpc(answer);
	const { result } = answer;
	const metas = [answer._meta, isJsonObject(result) ? result._meta : undefined];
	const isManaged = metas.some((meta) => isJsonObject(meta) && meta[MANAGED_META] === true);
	// What a tool calls an error came to nothing, and was not paid for unless a receipt says so.
	const isError = isJsonObject(result) && result.isError === true && receipt === undefined;
	const headers = new Headers({ "content-type": "application/json" });
	if (receipt !== undefined) headers.set(PAYMENT_RECEIPT, encodeBase64url(JSON.stringify(receipt)));
	const body = JSON.stringify((isManaged ? receipt : result) ?? null);
	return new Response(body, { status: isError ? 500 : 200, headers });
}

/** The challenge as a header would say it; `undefined` for one that no header can. */
function fieldOf(native: RpcChallenge): string | undefined {
	try {
		return formatChallenge(challengeFromRpc(native));
	} catch {
		return undefined;
	}
}

function problemOf({ code, problem: stated, failure, httpStatus }: RpcRefusal): Problem {
	if (stated !== undefined) return stated;
	if (code === RPC_PAYMENT_CODES.verificationFailed)
		return problem("verification-failed", failure?.detail ?? failure?.reason ?? "The server gave no reason.");
	return { ...problem("payment-required", "The server gave no reason."), status: httpStatus };
}
