/**
 * The Payment scheme in JSON-RPC 2.0 messages (draft-payment-transport-mcp-00): challenges in errors, credentials and receipts
 * in `_meta`. A challenge is a native object here, and the same one as in a header: its `id` is over the same characters,
 * since `request` is canonical JSON in both.
 */

import * as z from "zod";
import { type Challenge, decodeRequest } from "./challenge.ts";
import { type Credential, formatCredential, MAX_CREDENTIAL_LENGTH } from "./credential.ts";
import { canonicalJson, encodeJson, isJsonObject, type JsonObject } from "./json.ts";

/** The codes of a refused payment (draft, section "Error Code Mapping"). */
export const RPC_PAYMENT_CODES = {
	/** Nothing was paid: `data.challenges` say what to pay. */
	paymentRequired: -32042,
	/** What was paid is not taken: `data.challenges` are fresh ones, `data.failure` says why. */
	verificationFailed: -32043,
	/** The credential can't be read. */
	invalidParams: -32602,
	/** The payment can't be checked now, or not here. */
	internalError: -32603,
} as const;

/** Where a credential is in `_meta`. */
export const CREDENTIAL_META = "org.paymentauth/credential";

/** Where a receipt is in `_meta`. */
export const RECEIPT_META = "org.paymentauth/receipt";

/**
 * What stands for the `Idempotency-Key` header in `_meta`. The draft has none; without it an answer that was lost could not
 * be had again, since a challenge is good once.
 */
export const IDEMPOTENCY_META = "org.paymentauth/idempotency-key";

/** In the `_meta` of a result that is about the payment alone: the operation was not carried out. No name of the draft's. */
export const MANAGED_META = "org.paymentauth/managed";

/**
 * The method by which a client is about its channel alone, as `HEAD` is over HTTP: its `params` are the `method` and `params` of
 * the operation whose price it is about, its credential a voucher, an opening, a top-up or a close. No name of the draft's.
 */
export const PAYMENT_MANAGE_METHOD = "payment.manage";

/** The notification by which a server may say what it takes (draft, section "Capability Advertisement"). */
export const PAYMENT_CAPABILITIES_METHOD = "payment.capabilities";

/** A challenge as a native object. Members that the draft does not have are there as they came. */
export type RpcChallenge = Readonly<{
	id: string;
	realm: string;
	method: string;
	intent: string;
	/** Never base64url here. */
	request: JsonObject;
	expires?: string;
	description?: string;
	digest?: string;
	/** As in a header: base64url, to be sent back unchanged. */
	opaque?: string;
}>;

/** A credential as a native object. */
export type RpcCredential = Readonly<{ challenge: RpcChallenge; payload: JsonObject; source?: string }>;

/** A request or notification, its members not looked at yet. `id` is absent in a notification. */
export type RpcMessage = Readonly<{
	jsonrpc?: unknown;
	id?: unknown;
	method: string;
	params?: unknown;
	_meta?: unknown;
}>;

const text = z.string();
const object = z.custom<JsonObject>(isJsonObject);

const challengeSchema = z.object({
	id: text.min(1),
	realm: text,
	method: text,
	intent: text,
	request: object,
	expires: text.exactOptional(),
	description: text.exactOptional(),
	digest: text.exactOptional(),
	opaque: text.exactOptional(),
});

const credentialSchema = z.object({ challenge: challengeSchema, payload: object, source: text.exactOptional() });

/**
 * A challenge as JSON-RPC carries it.
 *
 * @throws {Base64urlError} or {JsonError} when its request is not base64url of a JSON object
 * @example
 * ```ts
 * challengeToRpc(challenge).request; // { amount: "100", currency: "0x…", … }
 * ```
 */
export function challengeToRpc(challenge: Challenge): RpcChallenge {
	const { id, realm, method, intent, expires, description, digest, opaque } = challenge;
	return {
		id,
		realm,
		method,
		intent,
		request: decodeRequest(challenge),
		...(expires !== undefined && { expires }),
		...(description !== undefined && { description }),
		...(digest !== undefined && { digest }),
		...(opaque !== undefined && { opaque }),
	};
}

/**
 * Reads a native challenge: as a header would have carried it, so that its `id` can be verified.
 *
 * @throws {MalformedRpcPaymentError} naming the member that is missing or wrong
 * @example
 * ```ts
 * isOurChallenge(secrets, challengeFromRpc(credential.challenge));
 * ```
 */
export function challengeFromRpc(json: unknown): Challenge {
	return toChallenge(checked(challengeSchema, json, "challenge"));
}

/**
 * A credential as JSON-RPC carries it.
 *
 * @param challenge the native challenge as it came, so that it goes back unchanged; by default made from the credential's
 */
export function credentialToRpc(credential: Credential, challenge?: RpcChallenge): RpcCredential {
	const { payload, source } = credential;
	return {
		challenge: challenge ?? challengeToRpc(credential.challenge),
		payload,
		...(source !== undefined && { source }),
	};
}

/**
 * Reads a native credential, as the `Authorization` value that says the same. Objects that differ in the order of their members
 * are the same credential, and the same text.
 *
 * @throws {MalformedRpcPaymentError} when it can't be read or is too long; it carries none of it
 * @example
 * ```ts
 * const authorization = authorizationFromRpc(message.params._meta["org.paymentauth/credential"]);
 * ```
 */
export function authorizationFromRpc(json: unknown): string {
	const { challenge, payload, source } = checked(credentialSchema, json, "");
	let authorization: string;
	try {
		const canonical = JSON.parse(canonicalJson(payload)) as JsonObject;
		authorization = formatCredential({
			challenge: toChallenge(challenge),
			payload: canonical,
			...(source !== undefined && { source }),
		});
	} catch (error) {
		if (error instanceof MalformedRpcPaymentError) throw error;
		// The cause may quote what was sent.
		throw new MalformedRpcPaymentError("payload");
	}
	if (authorization.length > MAX_CREDENTIAL_LENGTH) throw new MalformedRpcPaymentError(undefined, "too_long");
	return authorization;
}

/**
 * What a request has under a name in `_meta`: at its root, in its `params`, or both. Which of the two is the client's choice
 * (draft, section "Metadata Placement").
 */
export function metaOf(message: RpcMessage, name: string): readonly unknown[] {
	const { _meta: root, params } = message;
	const nested = isJsonObject(params) ? params._meta : undefined;
	return [root, nested].flatMap((meta) => (isJsonObject(meta) && meta[name] !== undefined ? [meta[name]] : []));
}

/** The receipt of a response, at its root or in its result; not checked. */
export function receiptOfRpc(response: unknown): JsonObject | undefined {
	if (!isJsonObject(response)) return undefined;
	const { result } = response;
	for (const meta of [response._meta, isJsonObject(result) ? result._meta : undefined]) {
		const receipt = isJsonObject(meta) ? meta[RECEIPT_META] : undefined;
		if (isJsonObject(receipt)) return receipt;
	}
	return undefined;
}

/**
 * What a request asks for, whoever sends it: canonical JSON of its method and params, without `_meta`. Challenges are bound to it
 * (draft, section "Challenge Binding").
 *
 * @throws {MalformedRpcPaymentError} when it has no canonical form
 */
export function canonicalCall({ method, params }: Pick<RpcMessage, "method" | "params">): string {
	try {
		if (!isJsonObject(params)) return canonicalJson(params === undefined ? { method } : { method, params });
		const { _meta, ...rest } = params;
		return canonicalJson({ method, params: rest });
	} catch {
		throw new MalformedRpcPaymentError("params");
	}
}

function toChallenge({ request, ...rest }: z.output<typeof challengeSchema>): Challenge {
	try {
		return { ...rest, request: encodeJson(request) };
	} catch {
		throw new MalformedRpcPaymentError("challenge.request");
	}
}

function checked<Schema extends z.ZodType>(schema: Schema, json: unknown, at: string): z.output<Schema> {
	const parsed = schema.safeParse(json);
	if (parsed.success) return parsed.data;
	const path = [at, ...(parsed.error.issues[0]?.path ?? [])].filter((part) => part !== "").join(".");
	throw new MalformedRpcPaymentError(path === "" ? undefined : path);
}

/** A payment object of a message that can't be read: code -32602. It carries none of it. */
export class MalformedRpcPaymentError extends Error {
	override readonly name = "MalformedRpcPaymentError";
	/** Stable code of this error. */
	readonly code = "malformed_rpc_payment";
	/** What is missing or wrong, such as `challenge.id`. */
	readonly path: string | undefined;

	constructor(path: string | undefined, reason: "shape" | "too_long" | "several" = "shape") {
		super(`${MALFORMED[reason]}${path === undefined ? "" : ` (${path})`}.`);
		this.path = path;
	}
}

const MALFORMED = {
	shape: "Not a payment credential: a member is missing or has the wrong form",
	too_long: "Not a payment credential: it is too long",
	several: "Send one payment credential, at the root or in params, not two different ones",
} as const;
