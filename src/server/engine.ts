import { randomBytes } from "node:crypto";
import { type Challenge, opaqueData, parseAcceptPayment, preferred, problem } from "../protocol/index.ts";
import { type Admission, type PaidRequest, type Refused, refused } from "./admission.ts";
import { ChallengeBook } from "./challenges.ts";
import type { EngineContext, EngineLog, Limits } from "./context.ts";
import { DamageReport } from "./damage.ts";
import { STOP_GRACE_MS, within } from "./deadline.ts";
import { describeError } from "./describeError.ts";
import { startEvm } from "./evm/start.ts";
import type { Terms } from "./evm/terms.ts";
import { Listeners, type PaymentHooks } from "./hooks.ts";
import type { Offer, PaymentMethod, PriceConfig } from "./method.ts";
import { parseOffers } from "./offer.ts";
import { checkOptions, type EngineOptions, EngineOptionsError, type Settings } from "./options.ts";
import { type Screened, screen } from "./screen.ts";

/** How often unfinished transactions are looked at again and expired records are deleted. */
const HOUSEKEEPING_MS = 15_000;

const UNAVAILABLE_RETRY_SECONDS = 5;

/** How long a stop waits for settlements under way. */
const STOP_DEADLINE_MS = 30_000;

/** How long a start that failed waits for what it had begun to end. */
const START_STOP_MS = 5_000;

const SILENT: EngineLog = { info: () => undefined, warn: () => undefined, error: () => undefined };

/** What a 402 is made for: what the client can pay with, and the body that its challenges are to be bound to. */
export type ChallengeFor = Readonly<{
	/** The `Accept-Payment` header, if any. */
	acceptPayment?: string | undefined;
	/** Digest of the request's body (RFC 9530), once it was read; `""` where there is none. */
	bodyDigest?: string | undefined;
}>;

/** How a request came to this server. */
export type Transport = Readonly<{
	/** Over TLS, as far as this server can tell. */
	isSecure: boolean;
	/** From this very machine. */
	isLoopback: boolean;
}>;

type EngineParts = Readonly<{
	settings: Settings;
	methods: readonly PaymentMethod[];
	challenges: ChallengeBook;
	listeners: Listeners;
	store: EngineContext["store"];
	damage: DamageReport;
	now: () => number;
	log: EngineLog;
}>;

/**
 * The server's engine: takes requests of any face (Fastify, a fetch handler), answers who may be served and for what.
 * It knows the scheme; how money moves is each payment method's own.
 *
 * Make it with `PaymentEngine.start`, let go of it with `stop`.
 *
 * @example
 * const store = await LevelStore.open({ folder: "./channels" });
 * const engine = await PaymentEngine.start({ realm: "api.example.com", client, chainId: 8453, escrow, currency, account, secrets, store });
 */
export class PaymentEngine {
	readonly realm: string;
	readonly limits: Limits;
	/** The tokens that are taken, the default one first. */
	readonly terms: readonly Terms[];
	readonly #parts: EngineParts;
	readonly #housekeeping: NodeJS.Timeout;
	#keepingHouse: Promise<void> | undefined;
	#pruning: Promise<void> | undefined;

	private constructor(parts: EngineParts, terms: readonly Terms[]) {
		this.terms = terms;
		this.realm = parts.settings.realm;
		this.limits = parts.settings.limits;
		this.#parts = parts;
		this.#housekeeping = setInterval(() => this.#keepHouse(), HOUSEKEEPING_MS).unref();
	}

	/**
	 * Checks options and escrows (D17), takes up what an earlier run left unfinished, and is then ready for requests.
	 *
	 * @throws EngineOptionsError, WeakSecretError, EscrowUnusableError: what is wrong and what to change
	 * @throws ChainUnavailableError, CatchUpError: the chain does not answer, so nothing can be sold
	 */
	static async start(options: EngineOptions): Promise<PaymentEngine> {
		const { store, log = SILENT, now = Date.now, random = () => randomBytes(16), hooks } = options;
		const settings = checkOptions(options);
		const methods: PaymentMethod[] = [...(options.methods ?? [])];
		const challenges = new ChallengeBook({
			secrets: options.secrets,
			realm: settings.realm,
			methods,
			ttlSeconds: settings.limits.challengeTtlSeconds,
			random,
		});
		const listeners = new Listeners(log);
		if (hooks !== undefined) listeners.add(hooks);
		const evm = await startEvm({ options, settings, listeners, log, now });
		methods.unshift(evm);
		assertMethodNames(methods);
		const damage = new DamageReport(store, log);
		try {
			for (const method of methods) await method.resume();
			damage.tell();
		} catch (error) {
			await within(
				START_STOP_MS,
				methods.map(async (method) => method.stop?.(0)),
			);
			damage.tell();
			throw error;
		}
		// Its housekeeping begins here: a start that fails leaves nothing running.
		return new PaymentEngine({ settings, methods, challenges, listeners, store, damage, now, log }, evm.terms);
	}

	/**
	 * What a route asks for, checked.
	 *
	 * @param route names it in errors
	 * @throws OfferError naming the route and the setting to change
	 * @example
	 * engine.offers("GET /quote", [{ price: "100" }, { price: "500", intent: "charge" }]);
	 */
	offers(route: string, config: PriceConfig | readonly PriceConfig[]): readonly Offer[] {
		return parseOffers({ methods: this.#parts.methods, realm: this.realm }, route, config);
	}

	/** The refusal of a request that came in plain text from elsewhere (draft-httpauth-payment-00, Transport Security). */
	transportRefusal({ isSecure, isLoopback }: Transport): Refused | undefined {
		if (isSecure || isLoopback || this.#parts.settings.allowPlainHttp) return undefined;
		return refused(
			problem("forbidden", "Payments are taken over HTTPS only: what travels in plain text can be spent by others."),
		);
	}

	/** The cheap first steps, without I/O: for before a request's body is read. */
	screen(request: Pick<PaidRequest, "offers" | "authorization" | "idempotencyKey">): Screened | Refused {
		return screen(request, this.#parts.challenges, this.#parts.now());
	}

	/** Whether the request is about the payment alone: then body, validation and handler have no part in it (D11). */
	isManagement(httpMethod: string, screened: Screened): boolean {
		return screened.method.isManagement(httpMethod, screened);
	}

	/** Everything else: signature, chain state, ledger, money. Never rejects for a fault of chain or store: it refuses (I10). */
	async admit(request: PaidRequest, screened: Screened): Promise<Admission> {
		const { digest } = screened.credential.challenge;
		if (digest !== undefined && digest !== request.bodyDigest) {
			return refused(
				problem("verification-failed", "The challenge is bound to another body; send the one it was asked with."),
			);
		}
		try {
			return withOpaque(await screened.method.admit(request, screened), screened);
		} catch (error) {
			return this.refusalFor(error);
		}
	}

	/**
	 * Fresh challenges for a 402: one for each offer, in the order that the client prefers (draft-httpauth-payment-00, Client
	 * Payment Preferences), bound to the request's body where the offer wants it.
	 */
	challenge(offers: readonly Offer[], { acceptPayment, bodyDigest }: ChallengeFor = {}): readonly Challenge[] {
		const { challenges, now } = this.#parts;
		const at = now();
		const ranges = acceptPayment === undefined ? undefined : parseAcceptPayment(acceptPayment);
		return preferred(offers, ranges).map((offer) =>
			challenges.issue(offer, at, offer.bindBody && bodyDigest ? bodyDigest : undefined),
		);
	}

	/**
	 * Tells `hooks` of payments from now on.
	 *
	 * @returns stops it
	 * @example
	 * const stop = engine.observe({ onVoucher: ({ channelId, delta }) => meter.add(channelId, delta) });
	 */
	observe(hooks: PaymentHooks): () => void {
		return this.#parts.listeners.add(hooks);
	}

	/** The refusal for a fault while a request was admitted or captured: nothing is given away, nothing is said of the cause. */
	refusalFor(error: unknown): Refused {
		this.#parts.log.error({ reason: describeError(error) }, "a paid request could not be admitted");
		return refused(
			problem("service-unavailable", "Payments can't be checked right now; nothing was charged."),
			UNAVAILABLE_RETRY_SECONDS,
		);
	}

	/**
	 * Looks at the chain and brings in now what is due by the settlement policies; a timer does so as well.
	 *
	 * @example
	 * await engine.settle(); // before a planned stop, say
	 */
	async settle(): Promise<void> {
		for (const method of this.#parts.methods) await method.settle?.();
	}

	/**
	 * Ends metered answers that are still under way: what has left of them by then is charged. The Fastify plugin does so when
	 * its server closes, after `limits.drainDeadlineMs`.
	 */
	endStreams(): void {
		for (const method of this.#parts.methods) method.endStreams?.();
	}

	/**
	 * Takes up no new work and resolves when settlements under way are done, or soon after `deadlineMs`: what is not done by
	 * then is on disk and is taken up by the next start. The store is the caller's to close, after this and after
	 * the last request.
	 *
	 * @example
	 * await app.close(); // requests end first
	 * await engine.stop();
	 * await store.close();
	 */
	async stop({ deadlineMs = STOP_DEADLINE_MS }: Readonly<{ deadlineMs?: number }> = {}): Promise<void> {
		clearInterval(this.#housekeeping);
		const { methods, damage, log } = this.#parts;
		const stopped = methods.map(async (method) => {
			try {
				await method.stop?.(deadlineMs);
			} catch (error) {
				log.error({ method: method.name, reason: describeError(error) }, "a payment method could not be stopped");
			}
		});
		// Housekeeping ends when its waits have been ended.
		await within(deadlineMs + 2 * STOP_GRACE_MS, [...stopped, this.#keepingHouse, this.#pruning]);
		damage.tell();
	}

	/** Each of the two one at a time: a slow chain must not pile them up, nor keep what has expired in the store. */
	#keepHouse(): void {
		const { methods, store, damage, now } = this.#parts;
		damage.tell();
		this.#keepingHouse ??= this.#attempt(() => methods.map((method) => method.keepHouse())).finally(() => {
			this.#keepingHouse = undefined;
		});
		this.#pruning ??= this.#attempt(() => [store.prune(now())]).finally(() => {
			damage.tell();
			this.#pruning = undefined;
		});
	}

	/** Waits for all of them, whatever fails. Never rejects: methods and stores may be others' own. */
	async #attempt(begin: () => readonly Promise<unknown>[]): Promise<void> {
		try {
			const failed = (await Promise.allSettled(begin())).find((one) => one.status === "rejected");
			if (failed !== undefined) throw failed.reason;
		} catch (error) {
			this.#parts.log.warn({ reason: describeError(error) }, "housekeeping failed");
		}
	}
}

/** What the application had given along with the price comes back to it; the challenge's id vouches for it. */
function withOpaque(admission: Admission, { credential }: Screened): Admission {
	if (admission.kind !== "admitted") return admission;
	const opaque = opaqueData(credential.challenge);
	return opaque === undefined ? admission : { ...admission, payment: { ...admission.payment, opaque } };
}

function assertMethodNames(methods: readonly PaymentMethod[]): void {
	const names = methods.map(({ name }) => name);
	const wrong = names.find((name, at) => !/^[a-z]+$/.test(name) || names.indexOf(name) !== at);
	if (wrong === undefined) return;
	throw new EngineOptionsError(`option methods: "${wrong}" is there twice, or is not lowercase letters alone`);
}
