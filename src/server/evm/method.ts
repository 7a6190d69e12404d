import { setTimeout } from "node:timers/promises";
import { LRUCache } from "lru-cache";
import type { OutboxEntry } from "../../escrow/outbox.ts";
import {
	Base64urlError,
	type Challenge,
	type ChargeRequest,
	decodeRequest,
	InvalidRequestError,
	JsonError,
	parseChargeRequest,
	parseSessionRequest,
	type SessionRequest,
} from "../../protocol/index.ts";
import type { Admission, PaidRequest } from "../admission.ts";
import { admitCharge } from "../charge/charge.ts";
import type { EngineContext } from "../context.ts";
import { STOP_GRACE_MS, within } from "../deadline.ts";
import { describeError } from "../describeError.ts";
import type { PaymentMethod } from "../method.ts";
import type { RecoveryThreads } from "../recovery/threads.ts";
import type { Screened } from "../screen.ts";
import { resumeClose } from "../session/close.ts";
import { admitSession } from "../session/session.ts";
import { rememberRecloses } from "../settlement/recloses.ts";
import { resumeRetire } from "../settlement/retire.ts";
import type { Settler } from "../settlement/settler.ts";
import type { ChannelWatch } from "../watch.ts";
import {
	type ChargeOffer,
	EVM,
	type EvmOffer,
	type EvmRequest,
	evmRequest,
	matchesOffer,
	parseEvmOffer,
	type SessionOffer,
} from "./offer.ts";
import type { Terms } from "./terms.ts";

/** A credential for a session, recognised; its payload is not parsed yet. */
export type ScreenedSession = Screened<SessionOffer, SessionRequest>;

/** A credential for a charge, recognised; its payload is not parsed yet. */
export type ScreenedCharge = Screened<ChargeOffer, ChargeRequest>;

/** What a restart does about a channel that was on its way to be closed, before anything else. */
const CLOSING: Readonly<Record<string, (context: EngineContext, entry: OutboxEntry) => Promise<void>>> = {
	close: resumeClose,
	retire: resumeRetire,
};

/** A server has about as many as it has prices. */
const DECODED_REQUESTS = 1_000;

/** How long a start waits for the transactions of an earlier run before it takes requests. */
const START_WAIT_MS = 5_000;

/** The `evm` method: sessions and charges in ERC-20 tokens, one context for each token. */
export class EvmMethod implements PaymentMethod<EvmOffer, EvmRequest> {
	readonly name = EVM;
	/** The tokens that are taken, the default one first. */
	readonly terms: readonly Terms[];
	readonly #contexts: ReadonlyMap<Terms, EngineContext>;
	readonly #settlers: readonly Settler[];
	readonly #watches: readonly ChannelWatch[];
	readonly #threads: RecoveryThreads | undefined;

	/**
	 * Requests of challenges by what they were read from, which is all there is to them: the challenges of one offer differ in
	 * other parts. One of another server never gets here.
	 */
	readonly #decoded = new LRUCache<string, EvmRequest>({ max: DECODED_REQUESTS });

	constructor(
		contexts: readonly EngineContext[],
		settlers: readonly Settler[],
		watches: readonly ChannelWatch[],
		threads?: RecoveryThreads,
	) {
		this.#threads = threads;
		this.#settlers = settlers;
		this.#watches = watches;
		this.terms = contexts.map(({ terms }) => terms);
		this.#contexts = new Map(contexts.map((context) => [context.terms, context]));
	}

	parseOffer(price: unknown): EvmOffer {
		return parseEvmOffer(price, this.terms);
	}

	request(offer: EvmOffer): Record<string, unknown> {
		return evmRequest(offer);
	}

	decode(challenge: Challenge): EvmRequest | undefined {
		const { intent, request } = challenge;
		const key = `${intent} ${request}`;
		const known = this.#decoded.get(key);
		if (known !== undefined) return known;
		const decoded = this.#decode(challenge);
		if (decoded !== undefined) this.#decoded.set(key, decoded);
		return decoded;
	}

	#decode(challenge: Challenge): EvmRequest | undefined {
		try {
			const request = decodeRequest(challenge);
			if (challenge.intent === "charge") return { intent: "charge", request: parseChargeRequest(request) };
			if (challenge.intent === "session") return { intent: "session", request: parseSessionRequest(request) };
		} catch (error) {
			if (!(error instanceof InvalidRequestError || error instanceof JsonError || error instanceof Base64urlError))
				throw error;
		}
		return undefined;
	}

	matches(offer: EvmOffer, challenge: Challenge, request: EvmRequest): boolean {
		return matchesOffer(offer, challenge, request);
	}

	takesExpired(intent: string): boolean {
		return intent === "charge";
	}

	/** A `HEAD`, a close, a top-up: about the channel alone. */
	isManagement(httpMethod: string, { credential, offer }: Screened<EvmOffer, EvmRequest>): boolean {
		if (offer.intent !== "session") return false;
		const { action } = credential.payload;
		return httpMethod === "HEAD" || action === "close" || action === "topUp";
	}

	admit(request: PaidRequest, screened: Screened<EvmOffer, EvmRequest>): Promise<Admission> {
		const { offer } = screened;
		const context = this.#contextOf(offer.terms);
		const decoded = screened.request;
		if (offer.intent === "session" && decoded.intent === "session")
			return admitSession(context, request, { ...screened, offer, request: decoded.request });
		if (offer.intent === "charge" && decoded.intent === "charge")
			return admitCharge(context, request, { ...screened, offer, request: decoded.request });
		throw new Error(`an offer of intent ${offer.intent} was matched with a request of intent ${decoded.intent}`);
	}

	async resume(): Promise<void> {
		const [first] = this.#contexts.values();
		if (first === undefined) return;
		const { store, log } = first;
		const pending = new Map<EngineContext["transactions"], OutboxEntry[]>();
		for await (const entry of store.outbox({ state: "pending" })) {
			const known = this.#contextFor(entry);
			if (known === undefined) {
				const { hash: txHash, chainId } = entry;
				log.error(
					{ txHash, chainId },
					"a transaction in a token, or on an escrow, that is not used any more is pending in this store; `sluice rescue` takes it up",
				);
			}
			// Others of its account wait behind its nonce, whoever knows what it was for.
			const context = known ?? [...this.#contexts.values()].find(({ terms }) => terms.chainId === entry.chainId);
			if (context === undefined) continue;
			const entries = pending.get(context.transactions) ?? [];
			pending.set(context.transactions, [...entries, entry]);
			const resumeClosing = known && CLOSING[entry.purpose.kind];
			// A damaged channel is out of use as it is; the others go on.
			await resumeClosing?.(context, entry).catch((error: unknown) => {
				log.error({ txHash: entry.hash, reason: describeError(error) }, "a close can't be taken up again");
			});
		}
		for (const context of this.#contexts.values()) await rememberRecloses(context);
		// Before anything new is sent: nonces of what a reorganization took out of the chain are not free.
		for (const [transactions] of this.#transactions()) {
			await transactions.followUp(store).catch((error: unknown) => {
				log.warn({ reason: describeError(error) }, "concluded transactions can't be looked at again right now");
			});
		}
		// A stuck transaction is followed in the background; only what it is about waits for it.
		const resumed = Promise.all([...pending].map(([transactions, entries]) => transactions.resume(entries)));
		await Promise.race([resumed, setTimeout(START_WAIT_MS, undefined, { ref: false })]);
		// A close that was requested meanwhile has to be known before the first voucher is taken (I9).
		await Promise.all(this.#watches.map((watch) => watch.catchUp()));
		for (const watch of this.#watches) watch.start();
		for (const settler of this.#settlers) settler.start();
	}

	async keepHouse(): Promise<void> {
		// A chain that does not answer must not keep the others waiting.
		const kept = await Promise.allSettled(
			[...this.#transactions()].map(async ([transactions, { store }]) => {
				await transactions.resume([]);
				await transactions.followUp(store);
			}),
		);
		const failed = kept.find((one) => one.status === "rejected");
		if (failed !== undefined) throw failed.reason;
	}

	async settle(): Promise<void> {
		await Promise.all(this.#watches.map((watch) => watch.poke()));
		await Promise.all(this.#settlers.map((settler) => settler.run()));
	}

	endStreams(): void {
		const all = new Set([...this.#contexts.values()].map(({ streams }) => streams));
		for (const streams of all) streams.stopAll();
	}

	async stop(deadlineMs: number): Promise<void> {
		const begun = performance.now();
		await within(deadlineMs, [
			// Whatever still comes is verified on this thread.
			this.#threads?.stop(),
			...this.#watches.map((watch) => watch.stop()),
			...this.#settlers.map((settler) => settler.stop(deadlineMs)),
		]);
		// What still waits for a transaction is told to end; a node that is silent can hold it up all the same.
		const left = Math.max(deadlineMs - (performance.now() - begun), STOP_GRACE_MS);
		await within(
			left,
			[...this.#transactions().keys()].map((transactions) => transactions.stop()),
		);
	}

	/** One sequence of transactions for each chain, with one of the contexts that share it. */
	#transactions(): ReadonlyMap<EngineContext["transactions"], EngineContext> {
		return new Map([...this.#contexts.values()].map((context) => [context.transactions, context]));
	}

	#contextOf(terms: Terms): EngineContext {
		const context = this.#contexts.get(terms);
		if (context === undefined) throw new Error(`token ${terms.currency} is not taken here`);
		return context;
	}

	#contextFor({ chainId, purpose }: OutboxEntry): EngineContext | undefined {
		return contextFor([...this.#contexts.values()], chainId, purpose);
	}
}

/** The context of a recorded transaction. Charges, and records of earlier releases, name no escrow. */
export function contextFor(
	contexts: readonly EngineContext[],
	chainId: number,
	{ currency, escrow }: OutboxEntry["purpose"],
): EngineContext | undefined {
	return contexts.find(
		({ terms }) =>
			terms.chainId === chainId && terms.currency === currency && (escrow ?? terms.escrow) === terms.escrow,
	);
}
