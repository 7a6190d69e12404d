import { PassThrough, type Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import {
	ACCEPT_PAYMENT,
	AUTHORIZATION as AUTHORIZATION_FIELD,
	IDEMPOTENCY_KEY,
	isLoopback,
} from "../protocol/index.ts";
import type { Admitted, PaidRequest, Refused } from "./admission.ts";
import type { ChallengeFor, Transport } from "./engine.ts";
import type { Offer } from "./method.ts";
import { bodyHash, digestOf } from "./requestBody.ts";
import type { Screened } from "./screen.ts";

// As Node names fields.
const AUTHORIZATION = AUTHORIZATION_FIELD.toLowerCase();
const IDEMPOTENCY = IDEMPOTENCY_KEY.toLowerCase();
const ACCEPT = ACCEPT_PAYMENT.toLowerCase();

/** What the hooks of one paid request hand on to each other. */
export class PaidState {
	/** Absent until they are made, where the price is a function. */
	offers: readonly Offer[] | undefined;
	/** The credential, or why it is none; answered once the body was read where it is bound to that. */
	looked: Screened | Refused | undefined;
	/** Of the body, as far as it was read; final when it has ended. */
	body: { hash: ReturnType<typeof bodyHash>; length: number; ended: boolean; digest?: string } | undefined;
	admitted: Admitted | undefined;
	/** The plugin itself has answered: with a refusal, a receipt, or an earlier answer. */
	ownAnswer = false;
	/** An answer went through `onSend`. */
	answered = false;
	/** Since when the handler of a metered route works, in monotonic ms. */
	meteredSince = 0;
	/** What that handler has answered with, where it is an iterable. */
	pieces: Readable | undefined;
}

/** Names the state among a request's decorators. */
export const STATE = Symbol("sluice.payment");

export function stateOf(request: FastifyRequest): PaidState {
	const known = request as FastifyRequest & { [STATE]?: PaidState | null };
	known[STATE] ??= new PaidState();
	return known[STATE];
}

/** As errors name it. */
export function routeOf({ method, url }: FastifyRequest["routeOptions"]["config"]): string {
	return `${String(method)} ${url ?? ""}`;
}

/** As far as Fastify can tell: behind a proxy that it trusts, protocol and address are the client's own. */
export function transportOf({ protocol, ip }: FastifyRequest): Transport {
	// A Unix socket has no address. The usual one is told without a pattern, which takes microseconds where it is seldom used.
	return { isSecure: protocol === "https", isLoopback: !ip || ip === "127.0.0.1" || isLoopback(ip) };
}

export function headersOf({ headers, raw }: FastifyRequest): Pick<PaidRequest, "authorization" | "idempotencyKey"> {
	return { authorization: authorizationOf(headers, raw), idempotencyKey: joined(headers[IDEMPOTENCY]) };
}

/**
 * Node keeps only the first of several Authorization fields in `headers`; all of them count. Looked for among the fields as
 * they came: `headersDistinct` makes an object of all of them for it, which takes 2 µs of each paid request.
 */
function authorizationOf(headers: FastifyRequest["headers"], { rawHeaders }: FastifyRequest["raw"]): readonly string[] {
	const values: string[] = [];
	for (let at = 0; at + 1 < (rawHeaders?.length ?? 0); at += 2) {
		const name = rawHeaders[at] as string;
		if (name.length === AUTHORIZATION.length && name.toLowerCase() === AUTHORIZATION)
			values.push(rawHeaders[at + 1] as string);
	}
	return values.length > 0 ? values : [headers.authorization ?? ""];
}

export function asked(request: FastifyRequest): ChallengeFor {
	return {
		acceptPayment: joined(request.headers[ACCEPT]),
		bodyDigest: bodyDigest(stateOf(request)),
	};
}

function joined(value: string | string[] | undefined): string | undefined {
	return Array.isArray(value) ? value.join(",") : value;
}

export function paidRequest(request: FastifyRequest): PaidRequest {
	const state = stateOf(request);
	const { offers = [] } = state;
	const { method, url, headers, raw } = request;
	return {
		method,
		url,
		authorization: authorizationOf(headers, raw),
		idempotencyKey: joined(headers[IDEMPOTENCY]),
		lastEventId: joined(headers["last-event-id"]) || undefined,
		bodyDigest: bodyDigest(state),
		offers,
	};
}

export function hasBody({ headers, raw }: FastifyRequest): boolean {
	// HTTP/2 has no field that says so.
	const { stream } = raw as Readonly<{ stream?: Readonly<{ endAfterHeaders?: boolean }> }>;
	if (stream?.endAfterHeaders !== undefined) return !stream.endAfterHeaders;
	return headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
}

/** Empty where there is no body, or none that was read to its end. */
function bodyDigest({ body }: PaidState): string {
	if (body === undefined || !body.ended) return "";
	body.digest ??= digestOf(body.hash, body.length);
	return body.digest;
}

/** The body, hashed as it passes. */
export function hashing(body: Readable & { receivedEncodedLength?: number }, { raw }: FastifyReply, state: PaidState) {
	const seen: NonNullable<PaidState["body"]> = { hash: bodyHash(), length: 0, ended: false };
	state.body = seen;
	const through = new PassThrough();
	body.on("data", (chunk: Buffer) => {
		seen.hash.update(chunk);
		seen.length += chunk.length;
	});
	body.on("end", () => {
		seen.ended = true;
	});
	body.on("error", (error) => through.destroy(error));
	// What nobody reads would stand in the way of the connection's next request.
	raw.once("close", () => {
		if (seen.ended) return;
		body.unpipe(through).resume();
		through.destroy();
	});
	// Fastify compares it with Content-Length where a hook before this one has unpacked the body.
	Object.defineProperty(through, "receivedEncodedLength", { get: () => body.receivedEncodedLength });
	return body.pipe(through);
}
