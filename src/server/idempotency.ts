import { hash } from "node:crypto";
import { type Problem, problem } from "../protocol/index.ts";
import { type PaidRequest, type Refused, type Replayed, refused } from "./admission.ts";
import type { ChannelStore, IdempotencyRecord } from "./store/store.ts";

/** The longest `Idempotency-Key` that is looked at. */
const MAX_KEY_LENGTH = 255;

/** How a client should wait for its own request that is still running. */
const RUNNING_RETRY_SECONDS = 1;

/** Key and fingerprint under which a request is remembered. */
export type IdempotencyScope = Readonly<{ key: string; fingerprint: string }>;

/** Why this `Idempotency-Key` can't be used, if so. */
export function idempotencyKeyProblem(key: string | undefined): Problem | undefined {
	if (key === undefined || (key.length > 0 && key.length <= MAX_KEY_LENGTH)) return undefined;
	return problem("bad-request", `The Idempotency-Key must have 1 to ${MAX_KEY_LENGTH} characters.`);
}

/** A request is charged once per (channel or payer, method, URI, `Idempotency-Key`) (I6). */
export function idempotencyScope(request: PaidRequest, payer: string): IdempotencyScope | undefined {
	const { idempotencyKey, method, url, bodyDigest } = request;
	if (idempotencyKey === undefined) return undefined;
	const fingerprint = bodyDigest === "" ? NO_BODY : sha256(bodyDigest);
	return { key: sha256(`${payer}\n${method}\n${url}\n${idempotencyKey}`), fingerprint };
}

/**
 * What an earlier request with the same key means for this one; `undefined`: nothing, it is the first, or goes on where its
 * client lost the rest.
 */
export function earlierAnswer(
	record: IdempotencyRecord | undefined,
	scope: IdempotencyScope | undefined,
	store: ChannelStore,
	/** Goes on with a stream that has ended here, and not there: it charges for what it delivers. */
	goesOn = false,
): Refused | Replayed | undefined {
	if (record === undefined || scope === undefined) return undefined;
	const isCutOff = record.state === "running" && store.isGone(record.owner);
	// What a crash has ended counts as absent, but not the answer that it went on with.
	if (isCutOff && record.response === undefined) return undefined;
	if (record.fingerprint !== scope.fingerprint) {
		return refused(problem("unprocessable-content", "This Idempotency-Key was used with another body; use a new one."));
	}
	if ((record.state === "running" && !isCutOff) || record.response === undefined) {
		return refused(
			problem("conflict", "The request with this Idempotency-Key is still running."),
			RUNNING_RETRY_SECONDS,
		);
	}
	if (record.response.body === null) {
		if (goesOn) return undefined;
		return refused(
			problem(
				"conflict",
				"This request was served and charged; its answer was too long to keep, or streamed, so it can't be repeated.",
			),
		);
	}
	return { kind: "replayed", response: record.response };
}

const NO_BODY = sha256("");

/** SHA-256 as base64url: a short, fixed-length name for what must not be stored as it is. */
export function sha256(text: string): string {
	return hash("sha256", text, "base64url");
}
