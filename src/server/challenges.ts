import { createHmac } from "node:crypto";
import { LRUCache } from "lru-cache";
import {
	assertChallengeSecrets,
	type Challenge,
	type ChallengeSecret,
	type Credential,
	type CredentialStart,
	createChallenge,
	credentialStart,
	encodeBase64url,
	formatTimestamp,
	type HmacSha256,
	isOurChallenge,
	nonceOpaque,
	parseCredential,
	parseCredentialAfter,
	parseTimestamp,
} from "../protocol/index.ts";
import type { Offer, PaymentMethod } from "./method.ts";
import { credentialKey } from "./proofs.ts";

/** Challenges recognised lately: their HMAC and their request need no second look. */
const RECOGNISED_CHALLENGES = 10_000;

export type ChallengeOptions = Readonly<{
	/** The first signs, the others still verify (D9). Each at least 32 bytes. */
	secrets: readonly ChallengeSecret[];
	realm: string;
	methods: readonly PaymentMethod[];
	/** How long a challenge can be answered, in seconds. */
	ttlSeconds: number;
	/** Fills 16 bytes with randomness. */
	random: () => Uint8Array;
}>;

/** Longer headers, and longer beginnings of them, are not remembered. Ours have about 1,400 characters. */
const MOST_REMEMBERED = 3_072;

/** Credentials that may come again as they are. */
const REPEATED_CREDENTIALS = 2_000;

/** The part of a credential's header in which a challenge of ours has its id, where a client writes that first, as most do. */
const ID_AT = "Payment ".length;
const ID_ENDS = ID_AT + encodeBase64url(`{"challenge":{"id":"${"-".repeat(43)}`).length;

/** A challenge that this server issued, with its request as its method reads it. */
export type Recognised = Readonly<{
	/** The same object each time, without its `description`, which nothing vouches for. */
	challenge: Challenge;
	method: PaymentMethod;
	request: unknown;
	expired: boolean;
}>;

type Decoded = Omit<Recognised, "expired"> & Readonly<{ expiresAtMs: number }>;

/** A credential, and its challenge as ours, if it is. */
export type ReadCredential = Readonly<
	| { credential: Credential; recognised: undefined }
	| {
			credential: Credential;
			recognised: Recognised;
			/** Names it byte for byte. */
			credentialKey: string;
	  }
>;

type Known = Readonly<{ credential: Credential; decoded: Decoded; credentialKey: string }>;

/** What a credential ends with: long enough for some of the signature, also where a `source` follows it. */
const TAIL = 192;

/** Issues challenges and recognises its own (draft-httpauth-payment-00, Challenge Binding; D9). Stateless but for a bounded cache. */
export class ChallengeBook {
	readonly #options: ChallengeOptions;
	readonly #recognised = new LRUCache<string, Decoded>({ max: RECOGNISED_CHALLENGES });
	/** What credentials that answer a challenge of `#recognised` begin with, by the part that holds its id. */
	readonly #starts = new LRUCache<string, CredentialStart & { readonly decoded: Decoded }>({
		max: RECOGNISED_CHALLENGES,
	});

	/** By their last characters: a hash of the whole header takes longer than to compare it with the one that it must be. */
	readonly #repeated = new LRUCache<string, Known & { readonly authorization: string }>({ max: REPEATED_CREDENTIALS });

	/** @throws WeakSecretError when a secret is shorter than 32 bytes */
	constructor(options: ChallengeOptions) {
		assertChallengeSecrets(options.secrets);
		this.#options = options;
	}

	/**
	 * A fresh challenge for one offer, unlike any other (128 random bits).
	 *
	 * @param digest binds it to a request body (draft-httpauth-payment-00, Request Body Digest Binding)
	 */
	issue(offer: Offer, nowMs: number, digest?: string): Challenge {
		const { secrets, realm, ttlSeconds, random } = this.#options;
		const [secret = ""] = secrets;
		const method = this.method(offer.method);
		if (method === undefined) throw new Error(`there is no payment method ${offer.method}`);
		const params = {
			realm,
			method: offer.method,
			intent: offer.intent,
			request: method.request(offer),
			expires: formatTimestamp(nowMs + ttlSeconds * 1_000),
			opaque: nonceOpaque(random(), offer.opaque),
			...(offer.description !== undefined && { description: offer.description }),
			...(digest !== undefined && { digest }),
		};
		return createChallenge(secret, params, native);
	}

	/**
	 * Reads a credential. Of one that begins like an earlier one, which answered the same challenge, only the rest is read: the
	 * beginning was verified, character for character.
	 *
	 * @param isRepeatable it came with an `Idempotency-Key`, and may come again as it is with others: then it is remembered
	 * @throws MalformedCredentialError
	 */
	read(authorization: string, nowMs: number, isRepeatable = false): ReadCredential {
		const latest = isRepeatable ? this.#repeated.get(authorization.slice(-TAIL)) : undefined;
		const repeated = latest?.authorization === authorization ? latest : undefined;
		const known = repeated ?? this.#readNew(authorization);
		if ("recognised" in known) return known;
		if (isRepeatable && repeated === undefined && isPlain(authorization, known.credential))
			this.#repeated.set(authorization.slice(-TAIL), { ...known, authorization });
		const { credential, decoded, credentialKey: key } = known;
		return { credential, recognised: shown(decoded, nowMs), credentialKey: key };
	}

	#readNew(authorization: string): Known | Extract<ReadCredential, { recognised: undefined }> {
		const idPart = authorization.slice(ID_AT, ID_ENDS);
		const start = this.#starts.get(idPart);
		const again = start && parseCredentialAfter(start, authorization);
		if (start !== undefined && again !== undefined) return named(authorization, again, start.decoded);
		const sent = parseCredential(authorization);
		// Where payers are very many, most challenges come once: what they begin with is not worth its 2 kB.
		const isAgain = this.#recognised.has(sent.challenge.id);
		const decoded = this.#decode(sent.challenge);
		if (decoded === undefined) return { credential: sent, recognised: undefined };
		const first = isAgain ? credentialStart(authorization, sent.challenge) : undefined;
		// Its own `idPart`: that of the header would keep the whole header in memory.
		if (first !== undefined && first.text.length <= MOST_REMEMBERED)
			this.#starts.set(first.text.slice(ID_AT, ID_ENDS), { ...first, challenge: decoded.challenge, decoded });
		return named(authorization, { ...sent, challenge: decoded.challenge }, decoded);
	}

	/** The challenge as ours, or `undefined` when it is not: altered, or of another server. */
	recognise(challenge: Challenge, nowMs: number): Recognised | undefined {
		const decoded = this.#decode(challenge);
		return decoded && shown(decoded, nowMs);
	}

	/** The method of that name, if it is taken here. */
	method(name: string): PaymentMethod | undefined {
		return this.#options.methods.find((method) => method.name === name);
	}

	#decode(challenge: Challenge): Decoded | undefined {
		const known = this.#recognised.get(challenge.id);
		if (known !== undefined && isSame(known.challenge, challenge)) return known;
		const method = this.method(challenge.method);
		if (method === undefined || !isOurChallenge(this.#options.secrets, challenge, native)) return undefined;
		// Signed with our secret, and yet perhaps by another release or for another purpose.
		const request = method.decode(challenge);
		if (request === undefined) return undefined;
		const { description: _, ...bound } = challenge;
		const { expires } = bound;
		// Unreadable: expired ever since.
		const expiresAtMs = expires === undefined ? Number.POSITIVE_INFINITY : (parseTimestamp(expires) ?? 0);
		const decoded: Decoded = { challenge: bound, method, request, expiresAtMs };
		this.#recognised.set(challenge.id, decoded);
		return decoded;
	}
}

/** In a quarter of the time of the protocol's own. */
const native: HmacSha256 = (key, input) => createHmac("sha256", key).update(input).digest();

/** As small as what payers send: anyone can send credentials that nobody has signed. */
function isPlain(authorization: string, { payload }: Credential): boolean {
	return authorization.length <= MOST_REMEMBERED && Object.values(payload).every((value) => typeof value === "string");
}

function named(authorization: string, credential: Credential, decoded: Decoded): Known {
	return { credential, decoded, credentialKey: credentialKey(authorization, decoded.challenge) };
}

function shown({ challenge, method, request, expiresAtMs }: Decoded, nowMs: number): Recognised {
	return { challenge, method, request, expired: nowMs >= expiresAtMs };
}

/** All that the HMAC covers is equal; `description` is for people only. */
function isSame(a: Challenge, b: Challenge): boolean {
	return (
		a.realm === b.realm &&
		a.method === b.method &&
		a.intent === b.intent &&
		a.request === b.request &&
		a.expires === b.expires &&
		a.digest === b.digest &&
		a.opaque === b.opaque
	);
}
