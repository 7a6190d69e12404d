import { LRUCache } from "lru-cache";
import {
	assertChallengeSecrets,
	type Challenge,
	type ChallengeSecret,
	createChallenge,
	formatTimestamp,
	isOurChallenge,
	nonceOpaque,
	parseTimestamp,
} from "../protocol/index.ts";
import type { Offer, PaymentMethod } from "./method.ts";

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

/** A challenge that this server issued, with its request as its method reads it. */
export type Recognised = Readonly<{
	/** The same object each time, without its `description`, which nothing vouches for. */
	challenge: Challenge;
	method: PaymentMethod;
	request: unknown;
	expired: boolean;
}>;

type Decoded = Omit<Recognised, "expired"> & Readonly<{ expiresAtMs: number }>;

/** Issues challenges and recognises its own (draft-httpauth-payment-00, Challenge Binding; D9). Stateless but for a bounded cache. */
export class ChallengeBook {
	readonly #options: ChallengeOptions;
	readonly #recognised = new LRUCache<string, Decoded>({ max: RECOGNISED_CHALLENGES });

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
		return createChallenge(secret, {
			realm,
			method: offer.method,
			intent: offer.intent,
			request: method.request(offer),
			expires: formatTimestamp(nowMs + ttlSeconds * 1_000),
			opaque: nonceOpaque(random(), offer.opaque),
			...(offer.description !== undefined && { description: offer.description }),
			...(digest !== undefined && { digest }),
		});
	}

	/** The challenge as ours, or `undefined` when it is not: altered, or of another server. */
	recognise(challenge: Challenge, nowMs: number): Recognised | undefined {
		const decoded = this.#decode(challenge);
		if (decoded === undefined) return undefined;
		const { expiresAtMs, method, request } = decoded;
		return { challenge: decoded.challenge, method, request, expired: nowMs >= expiresAtMs };
	}

	/** The method of that name, if it is taken here. */
	method(name: string): PaymentMethod | undefined {
		return this.#options.methods.find((method) => method.name === name);
	}

	#decode(challenge: Challenge): Decoded | undefined {
		const known = this.#recognised.get(challenge.id);
		if (known !== undefined && isSame(known.challenge, challenge)) return known;
		const method = this.method(challenge.method);
		if (method === undefined || !isOurChallenge(this.#options.secrets, challenge)) return undefined;
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
