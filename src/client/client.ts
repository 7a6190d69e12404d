import { LRUCache } from "lru-cache";
import type { LocalAccount, PublicClient } from "viem";
import { type ChargeRequest, isExpired, type SessionRequest } from "../protocol/index.ts";
import { type Offers, offersOf, retryAfterMs } from "./answer.ts";
import type { Offered, PayerChannel } from "./channel.ts";
import { Channels } from "./channels.ts";
import { type ClosedChannel, closeChannel } from "./close.ts";
import { Outgoing } from "./outgoing.ts";
import {
	assertAllowed,
	assertSecure,
	type PaymentPolicy,
	type Policy,
	PolicyRefusedError,
	parsePolicy,
} from "./policy.ts";
import { discard, type RetryOptions, sendWithRetries } from "./retry.ts";
import { keyOf, type Outcome, paySession, type SessionParts } from "./session.ts";
import { CredentialSigner } from "./sign.ts";

/** Routes whose price is remembered, so that the next request to them carries its voucher at once. */
const REMEMBERED_ROUTES = 1_000;

/** How often one request is paid for with another voucher, challenge or channel before its refusal is handed on. */
const MAX_TRIES = 4;

export type PaymentClientOptions = Readonly<{
	/** Signs for the payer; pays gas only where a server takes no authorizations. */
	account: LocalAccount;
	/** The payer's own node: token domains and channels are read there, never believed from the server. */
	client: PublicClient;
	/** What may be signed. */
	policy: PaymentPolicy;
	/** Default: the platform's `fetch`. */
	fetch?: typeof globalThis.fetch;
	retry?: RetryOptions;
	/** Unix milliseconds. */
	now?: () => number;
}>;

/**
 * A `fetch` that pays. A 402 is answered by opening a channel, by the next voucher of an open one, or by a charge, as far
 * as the policy allows; all other answers are handed on as they are.
 *
 * @example
 * const payer = new PaymentClient({ account, client, policy: { chainIds: [8453], tokens: [usdc], escrows: [escrow], hosts: ["api.example.com"], maxDeposit: 5_000_000n, maxPrice: 1_000n } });
 * const response = await payer.fetch("https://api.example.com/quote");
 * await payer.close();
 */
export class PaymentClient {
	readonly #policy: Policy;
	readonly #signer: CredentialSigner;
	readonly #channels: Channels;
	readonly #session: SessionParts;
	readonly #fetch: typeof globalThis.fetch;
	readonly #retry: RetryOptions;
	readonly #now: () => number;
	readonly #routes = new LRUCache<string, SessionRequest>({ max: REMEMBERED_ROUTES });

	constructor({ account, client, policy, fetch, retry = {}, now = Date.now }: PaymentClientOptions) {
		this.#policy = parsePolicy(policy);
		this.#signer = new CredentialSigner({ account, client, now });
		this.#channels = new Channels({ client, max: this.#policy.maxChannels, now });
		this.#session = {
			policy: this.#policy,
			signer: this.#signer,
			channels: this.#channels,
			send: (request, credential) => this.#send(request, credential),
			now,
		};
		this.#fetch = fetch ?? globalThis.fetch.bind(globalThis);
		this.#retry = retry;
		this.#now = now;
		this.fetch = this.fetch.bind(this);
	}

	/** The channels that are open, or may be: their deposit was signed for. */
	get channels(): readonly PayerChannel[] {
		return this.#channels.all;
	}

	/** Channels that their server says it does not know. Where the escrow does, `requestClose` there gets the deposit back (D10). */
	get forgotten(): readonly PayerChannel[] {
		return this.#channels.forgotten;
	}

	/**
	 * As the platform's `fetch`, and pays where payment is asked for. The request gets one `Idempotency-Key` unless it has
	 * one; its body is kept until it is answered. A redirect that answers a paid request is handed on, not followed; a 402
	 * behind a redirect is paid only within the origin, and only for `GET` and `HEAD`.
	 *
	 * @throws PolicyRefusedError when no offer is allowed, before anything is signed
	 * @throws DepositExhaustedError, OverchargeError, and what `fetch` throws
	 */
	async fetch(input: string | URL | Request, init?: RequestInit): Promise<Response> {
		let request = await Outgoing.from(new Request(input, init));
		let offer = this.#rememberedOffer(request);
		for (let triesLeft = MAX_TRIES; ; triesLeft--) {
			if (offer === undefined) {
				const response = await this.#send(request);
				if (response.status !== 402) return response;
				const asked = response.redirected ? request.redirectedTo(response.url) : request;
				offer = asked && this.#choose(asked, response);
				if (asked === undefined || offer === undefined) return response;
				request = asked;
				discard(response);
			}
			const { response, again } = await this.#pay(request, offer);
			if (!again || triesLeft === 1) return response;
			// A refusal that more of the same can mend: a fresh challenge, another price, a channel that is gone.
			offer = response.status === 402 ? this.#choose(request, response) : undefined;
			discard(response);
		}
	}

	/**
	 * Closes every channel, or one, with what was consumed; the rest of the deposit goes back to the payer. Waits for
	 * requests on their way; later ones open another channel. Each close is checked on the payer's own node.
	 *
	 * @throws CloseRefusedError when a server does not (an AggregateError when several do not): its channel is still there
	 */
	async close(channelId?: string): Promise<readonly ClosedChannel[]> {
		const chosen = this.#channels
			.entries()
			.filter(([, channel]) => channelId === undefined || channel.channelId === channelId);
		const outcomes = await Promise.allSettled(
			chosen.map(([key, channel]) => closeChannel(this.#session, key, channel)),
		);
		const errors = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason] : []));
		if (errors.length > 1) throw new AggregateError(errors, `${errors.length} channels were not closed`);
		if (errors.length === 1) throw errors[0];
		return outcomes.flatMap((outcome) => (outcome.status === "fulfilled" && outcome.value ? [outcome.value] : []));
	}

	/** The price of a route that was paid before, if its channel is still open and its challenge good. */
	#rememberedOffer(request: Outgoing): Offers[number] | undefined {
		const known = this.#routes.get(request.route);
		const challenge = known && this.#channels.usable(keyOf(request, known))?.challenge;
		if (known === undefined || challenge === undefined || isExpired(challenge, this.#now())) return undefined;
		return { intent: "session", challenge, request: known };
	}

	/** The first offer of a response that the policy allows; its refusal when it allows none. */
	#choose(request: Outgoing, response: Response): Offers[number] | undefined {
		const offers = offersOf(response, this.#now());
		let refusal: PolicyRefusedError | undefined;
		for (const offer of offers) {
			try {
				assertSecure(request.url);
				assertAllowed(this.#policy, request.host, offer.request);
				return offer;
			} catch (error) {
				if (!(error instanceof PolicyRefusedError)) throw error;
				refusal ??= error;
			}
		}
		if (refusal === undefined) return undefined;
		discard(response);
		throw refusal;
	}

	async #pay(request: Outgoing, offer: Offers[number]): Promise<Outcome> {
		request.signal.throwIfAborted();
		if (offer.intent === "charge") return this.#payCharge(request, offer);
		this.#routes.set(request.route, offer.request);
		return paySession(this.#session, request, offer);
	}

	async #payCharge(request: Outgoing, { challenge, request: terms }: Offered<ChargeRequest>): Promise<Outcome> {
		const credential = await this.#signer.charge(challenge, terms);
		return { response: await this.#send(request, credential), again: false };
	}

	#send(request: Outgoing, credential?: string): Promise<Response> {
		const attempt = async () => {
			try {
				return await this.#fetch(request.with(credential));
			} catch (error) {
				if (credential !== undefined) request.answerLost = true;
				throw error;
			}
		};
		// Without a credential nobody is known to heed the `Idempotency-Key`.
		const retries = credential === undefined && !request.isSafe ? { retries: 0 } : {};
		return sendWithRetries(attempt, retryAfterMs, { ...this.#retry, ...retries, signal: request.signal });
	}
}
