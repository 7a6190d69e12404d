import { LRUCache } from "lru-cache";
import type { LocalAccount, PublicClient } from "viem";
import {
	AUTHORIZATION,
	type ChargeRequest,
	IDEMPOTENCY_KEY,
	isExpired,
	problemType,
	type SessionReceipt,
	type SessionRequest,
} from "../protocol/index.ts";
import { computeChannelId, ZERO_ADDRESS } from "../voucher/index.ts";
import { type Offers, offersOf, problemOf, receiptOf, retryAfterMs } from "./answer.ts";
import { channelKey, type Offered, PayerChannel } from "./channel.ts";
import {
	assertAllowed,
	assertSecure,
	depositFor,
	type PaymentPolicy,
	type Policy,
	PolicyRefusedError,
	parsePolicy,
} from "./policy.ts";
import { type RetryOptions, sendWithRetries } from "./retry.ts";
import { CredentialSigner } from "./sign.ts";

/** Routes whose price is remembered, so that the next request to them carries its voucher at once. */
const REMEMBERED_ROUTES = 1_000;

/** How often one request may be answered with a new voucher, challenge or channel before its refusal is handed on. */
const MAX_TRIES = 4;

export type PaymentClientOptions = Readonly<{
	/** Signs for the payer; pays gas only where a server takes no authorizations. */
	account: LocalAccount;
	/** The payer's own node: token domains are read there, never believed from the server. */
	client: PublicClient;
	/** What may be signed. */
	policy: PaymentPolicy;
	/** Default: the platform's `fetch`. */
	fetch?: typeof globalThis.fetch;
	retry?: RetryOptions;
	/** Unix milliseconds. */
	now?: () => number;
}>;

/** A channel that was closed: what the server captured, in base units, and the transaction that paid the rest back. */
export type ClosedChannel = Readonly<{ channel: PayerChannel; receipt: SessionReceipt }>;

/** The server did not close the channel. `requestClose` on the escrow gets the money back without it. */
export class CloseRefusedError extends Error {
	override readonly name = "CloseRefusedError";
	readonly code = "CLOSE_REFUSED";
	readonly channelId: string;
	constructor(channelId: string, reason: string) {
		super(`channel ${channelId} was not closed: ${reason}`);
		this.channelId = channelId;
	}
}

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
	readonly #fetch: typeof globalThis.fetch;
	readonly #retry: RetryOptions;
	readonly #now: () => number;
	readonly #channels = new Map<string, PayerChannel>();
	/** One opening per channel key at a time: whoever else needs the channel waits for it. */
	readonly #opening = new Map<string, Promise<unknown>>();
	readonly #routes = new LRUCache<string, SessionRequest>({ max: REMEMBERED_ROUTES });

	constructor({ account, client, policy, fetch, retry = {}, now = Date.now }: PaymentClientOptions) {
		this.#policy = parsePolicy(policy);
		this.#signer = new CredentialSigner({ account, client, now });
		this.#fetch = fetch ?? globalThis.fetch.bind(globalThis);
		this.#retry = retry;
		this.#now = now;
		this.fetch = this.fetch.bind(this);
	}

	/** The open channels. */
	get channels(): readonly PayerChannel[] {
		return [...this.#channels.values()];
	}

	/**
	 * As the platform's `fetch`, and pays where payment is asked for. The request gets one `Idempotency-Key` unless it has
	 * one; its body is kept until it is answered.
	 *
	 * @throws PolicyRefusedError when no offer is allowed, before anything is signed
	 * @throws DepositExhaustedError, OverchargeError, and what `fetch` throws
	 */
	async fetch(input: string | URL | Request, init?: RequestInit): Promise<Response> {
		const request = await Outgoing.from(new Request(input, init));
		let offer: Offers[number] | undefined = this.#rememberedOffer(request);
		let response: Response | undefined;
		for (let tries = 0; tries < MAX_TRIES; tries++) {
			if (offer === undefined) {
				response = await this.#send(request);
				if (response.status !== 402) return response;
				offer = this.#choose(request, offersOf(response, this.#now()));
				if (offer === undefined) return response;
			}
			const outcome =
				offer.intent === "session" ? await this.#paySession(request, offer) : await this.#payCharge(request, offer);
			response = outcome.response;
			if (!outcome.again) return response;
			// A refusal that more of the same can mend: a fresh challenge, another price, a channel that is gone.
			offer = response.status === 402 ? this.#choose(request, offersOf(response, this.#now())) : undefined;
		}
		return response ?? this.#send(request);
	}

	/**
	 * Closes every open channel, or one, with what was consumed; the rest of the deposit goes back to the payer.
	 *
	 * @throws CloseRefusedError when the server does not
	 */
	async close(channelId?: string): Promise<readonly ClosedChannel[]> {
		const closed: ClosedChannel[] = [];
		for (const [key, channel] of this.#channels) {
			if (channelId !== undefined && channel.channelId !== channelId) continue;
			const receipt = await this.#close(channel);
			this.#channels.delete(key);
			closed.push({ channel, receipt });
		}
		return closed;
	}

	/** The price of a route that was paid before, if its channel is still open and its challenge good. */
	#rememberedOffer(request: Outgoing): Offers[number] | undefined {
		const known = this.#routes.get(request.route);
		const channel = known && this.#channels.get(channelKey(known));
		if (known === undefined || channel === undefined || isExpired(channel.challenge, this.#now())) return undefined;
		return { intent: "session", challenge: channel.challenge, request: known };
	}

	/** The first offer that the policy allows; its refusal when it allows none. */
	#choose(request: Outgoing, offers: Offers): Offers[number] | undefined {
		if (offers.length > 0) assertSecure(request.url);
		let refusal: PolicyRefusedError | undefined;
		for (const offer of offers) {
			try {
				assertAllowed(this.#policy, request.host, offer.request);
				return offer;
			} catch (error) {
				if (!(error instanceof PolicyRefusedError)) throw error;
				refusal ??= error;
			}
		}
		if (refusal !== undefined) throw refusal;
		return undefined;
	}

	async #paySession(request: Outgoing, offer: Offered<SessionRequest>): Promise<Outcome> {
		const key = channelKey(offer.request);
		await this.#opening.get(key)?.catch(() => undefined);
		const channel = this.#channels.get(key);
		if (channel === undefined) {
			// Another request may have begun to open it while this one waited.
			const others = this.#opening.get(key);
			if (others !== undefined) return this.#paySession(request, offer);
			const opening = this.#open(request, offer, key);
			this.#opening.set(key, opening);
			return opening.finally(() => this.#opening.delete(key));
		}
		if (isExpired(channel.challenge, this.#now())) channel.challenge = offer.challenge;
		return this.#payVoucher(request, offer.request, channel, key);
	}

	async #open(
		request: Outgoing,
		{ challenge, request: terms }: Offered<SessionRequest>,
		key: string,
	): Promise<Outcome> {
		const { amount: price, currency, recipient, methodDetails } = terms;
		const deposit = depositFor(this.#policy, terms);
		const parameters = {
			payer: this.#signer.payer,
			payee: recipient,
			token: currency,
			salt: randomHex(),
			authorizedSigner: ZERO_ADDRESS,
			escrow: methodDetails.escrowContract,
			chainId: methodDetails.chainId,
		};
		const channelId = computeChannelId(parameters);
		const channel = new PayerChannel({
			channelId,
			parameters,
			deposit,
			challenge,
			resource: { url: request.url, method: request.method },
		});
		const cumulativeAmount = channel.begin(price);
		const byAuthorization = (methodDetails.credentialTypes ?? ["hash"]).includes("authorization");
		const credential = byAuthorization
			? await this.#signer.openByAuthorization(challenge, channelId, parameters, deposit, cumulativeAmount)
			: await this.#signer.openByTransaction(challenge, channelId, parameters, deposit, cumulativeAmount);
		const response = await this.#send(request, credential);
		const receipt = receiptOf(response);
		const problem = await problemOf(response);
		// Only a refusal of the open itself leaves no channel; a handler that failed has one all the same.
		if (receipt !== undefined || problem === undefined) {
			this.#channels.set(key, channel);
			this.#routes.set(request.route, terms);
		}
		this.#book(channel, price, response);
		return { response, again: false };
	}

	async #payVoucher(request: Outgoing, terms: SessionRequest, channel: PayerChannel, key: string): Promise<Outcome> {
		const price = terms.amount;
		const amount = channel.begin(price);
		let response: Response;
		try {
			const credential = await this.#signer.voucher("voucher", channel.challenge, channel, amount);
			response = await this.#send(request, credential);
		} catch (error) {
			channel.lost(price);
			throw error;
		}
		const problem = await problemOf(response);
		if (problem === undefined) {
			this.#routes.set(request.route, terms);
			this.#book(channel, price, response);
			return { response, again: false };
		}
		try {
			return await this.#afterRefusal(request, response, problem, channel, key);
		} finally {
			channel.failed(price);
		}
	}

	/** What a refusal of a voucher asks for: a fresh challenge, a higher voucher, or another channel. */
	async #afterRefusal(
		request: Outgoing,
		response: Response,
		problem: NonNullable<Awaited<ReturnType<typeof problemOf>>>,
		channel: PayerChannel,
		key: string,
	): Promise<Outcome> {
		switch (problem.type) {
			case problemType("session/challenge-not-found"): {
				const fresh = this.#choose(request, offersOf(response, this.#now()));
				if (fresh?.intent === "session") channel.challenge = fresh.challenge;
				return { response, again: fresh !== undefined };
			}
			case problemType("session/insufficient-balance"):
			case problemType("session/delta-too-small"): {
				const required = String(problem.requiredCumulative ?? "");
				if (!/^\d{1,39}$/.test(required)) return { response, again: false };
				const fresh = this.#choose(request, offersOf(response, this.#now()));
				if (fresh?.intent === "session" && fresh.request.amount === this.#routes.get(request.route)?.amount)
					channel.catchUp(BigInt(required));
				return { response, again: true };
			}
			case problemType("session/channel-not-found"):
			case problemType("session/channel-finalized"):
				// D10: forget it, open another one once. Its deposit can be had back from the escrow.
				if (this.#channels.get(key) === channel) this.#channels.delete(key);
				return { response, again: request.reopenOnce() };
			default:
				return { response, again: false };
		}
	}

	async #payCharge(request: Outgoing, { challenge, request: terms }: Offered<ChargeRequest>): Promise<Outcome> {
		const credential = await this.#signer.charge(challenge, terms);
		return { response: await this.#send(request, credential), again: false };
	}

	async #close(channel: PayerChannel): Promise<SessionReceipt> {
		const { url, method } = channel.resource;
		const request = await Outgoing.from(new Request(url, { method }));
		let response: Response | undefined;
		for (let tries = 0; tries < MAX_TRIES; tries++) {
			// The server knows better only of requests whose answers were lost, and never beyond what was signed.
			const amount = channel.consumed;
			const credential = await this.#signer.voucher("close", channel.challenge, channel, amount);
			response = await this.#send(request, credential);
			const receipt = receiptOf(response);
			if (response.ok && receipt?.intent === "session") return receipt;
			if (response.status !== 402) break;
			const fresh = this.#choose(request, offersOf(response, this.#now()));
			if (fresh?.intent !== "session") break;
			channel.challenge = fresh.challenge;
		}
		const problem = response && (await problemOf(response));
		throw new CloseRefusedError(channel.channelId, problem?.detail ?? `the server answered ${response?.status}`);
	}

	/** A paid answer was delivered; any other one cost nothing. */
	#book(channel: PayerChannel, price: bigint, response: Response): void {
		const receipt = receiptOf(response);
		if (receipt?.intent === "session") {
			channel.delivered(price);
			channel.settleLost(receipt.spent);
		} else {
			channel.failed(price);
		}
	}

	#send(request: Outgoing, credential?: string): Promise<Response> {
		return sendWithRetries(() => this.#fetch(request.with(credential)), retryAfterMs, {
			...this.#retry,
			signal: request.signal,
		});
	}
}

type Outcome = Readonly<{ response: Response; again: boolean }>;

/** One logical request: sent as often as it takes, with one `Idempotency-Key`. */
class Outgoing {
	readonly url: string;
	readonly method: string;
	readonly host: string;
	readonly signal: AbortSignal;
	/** Names the route for its price: query and fragment do not count. */
	readonly route: string;
	readonly #request: Request;
	readonly #body: ArrayBuffer | undefined;
	#reopened = false;

	private constructor(request: Request, body: ArrayBuffer | undefined) {
		const { host, origin, pathname } = new URL(request.url);
		this.url = request.url;
		this.method = request.method;
		this.host = host;
		this.signal = request.signal;
		this.route = `${request.method} ${origin}${pathname}`;
		this.#request = request;
		this.#body = body;
	}

	static async from(request: Request): Promise<Outgoing> {
		const body = request.body === null ? undefined : await request.arrayBuffer();
		if (!request.headers.has(IDEMPOTENCY_KEY)) request.headers.set(IDEMPOTENCY_KEY, crypto.randomUUID());
		return new Outgoing(request, body);
	}

	with(credential: string | undefined): Request {
		const headers = new Headers(this.#request.headers);
		if (credential !== undefined) headers.set(AUTHORIZATION, credential);
		const { method, redirect, signal, credentials, cache } = this.#request;
		const body = this.#body === undefined ? {} : { body: this.#body };
		return new Request(this.url, { method, headers, redirect, signal, credentials, cache, ...body });
	}

	/** True the first time. */
	reopenOnce(): boolean {
		if (this.#reopened) return false;
		this.#reopened = true;
		return true;
	}
}

function randomHex(): `0x${string}` {
	const bytes = crypto.getRandomValues(new Uint8Array(32));
	return `0x${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
