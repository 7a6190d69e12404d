import { LRUCache } from "lru-cache";
import {
	assertChallengeSecrets,
	Base64urlError,
	type Challenge,
	type ChallengeSecret,
	type ChargeRequest,
	createChallenge,
	decodeRequest,
	formatTimestamp,
	InvalidRequestError,
	isExpired,
	isOurChallenge,
	JsonError,
	nonceOpaque,
	parseChargeRequest,
	parseSessionRequest,
	type SessionRequest,
} from "../protocol/index.ts";
import { type Offer, type Terms, wireRequest } from "./offer.ts";

/** The payment method of all our challenges (draft-evm-charge-00, IANA Considerations). */
export const METHOD = "evm";

/** Challenges recognised lately: their HMAC and their request need no second look. */
const RECOGNISED_CHALLENGES = 10_000;

export type ChallengeOptions = Readonly<{
	/** The first signs, the others still verify (D9). Each at least 32 bytes. */
	secrets: readonly ChallengeSecret[];
	terms: Terms;
	/** How long a challenge can be answered, in seconds. */
	ttlSeconds: number;
	/** Fills 16 bytes with randomness. */
	random: () => Uint8Array;
}>;

/** A challenge that this server issued, with its request decoded. */
export type Recognised = Decoded & Readonly<{ expired: boolean }>;

type Decoded =
	| Readonly<{ intent: "session"; challenge: Challenge; request: SessionRequest }>
	| Readonly<{ intent: "charge"; challenge: Challenge; request: ChargeRequest }>;

/** Issues challenges and recognises its own (draft-httpauth-payment-00, Challenge Binding; D9). Stateless but for a bounded cache. */
export class ChallengeBook {
	readonly #options: ChallengeOptions;
	readonly #recognised = new LRUCache<string, Decoded>({ max: RECOGNISED_CHALLENGES });

	/** @throws WeakSecretError when a secret is shorter than 32 bytes */
	constructor(options: ChallengeOptions) {
		assertChallengeSecrets(options.secrets);
		this.#options = options;
	}

	/** A fresh challenge for one offer, unlike any other (128 random bits). */
	issue(offer: Offer, nowMs: number): Challenge {
		const { secrets, terms, ttlSeconds, random } = this.#options;
		const [secret = ""] = secrets;
		return createChallenge(secret, {
			realm: terms.realm,
			method: METHOD,
			intent: offer.intent,
			request: wireRequest(offer, terms),
			expires: formatTimestamp(nowMs + ttlSeconds * 1_000),
			opaque: nonceOpaque(random()),
			...(offer.description !== undefined && { description: offer.description }),
		});
	}

	/** The challenge as ours, or `undefined` when it is not: altered, or of another server. */
	recognise(challenge: Challenge, nowMs: number): Recognised | undefined {
		const decoded = challenge.method === METHOD ? this.#decode(challenge) : undefined;
		return decoded && { ...decoded, expired: isExpired(challenge, nowMs) };
	}

	#decode(challenge: Challenge): Decoded | undefined {
		const known = this.#recognised.get(challenge.id);
		if (known !== undefined && isSame(known.challenge, challenge)) return known;
		if (!isOurChallenge(this.#options.secrets, challenge)) return undefined;
		const decoded = decode(challenge);
		if (decoded === undefined) return undefined;
		this.#recognised.set(challenge.id, decoded);
		return decoded;
	}
}

/** `undefined` when it can't be read: signed with our secret, but by another release or for another purpose. */
function decode(challenge: Challenge): Decoded | undefined {
	try {
		const request = decodeRequest(challenge);
		if (challenge.intent === "charge") return { intent: "charge", challenge, request: parseChargeRequest(request) };
		if (challenge.intent === "session") return { intent: "session", challenge, request: parseSessionRequest(request) };
	} catch (error) {
		if (!(error instanceof InvalidRequestError || error instanceof JsonError || error instanceof Base64urlError))
			throw error;
	}
	return undefined;
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
