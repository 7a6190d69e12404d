import { randomBytes } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import { type Address, type PublicClient, toHex } from "viem";
import type { OutboxEntry } from "../escrow/outbox.ts";
import { EscrowUnusableError, readEscrow, readTokenDomain, TokenUnusableError } from "../escrow/reads.ts";
import { TransactionSender } from "../escrow/sender.ts";
import { type Challenge, problem } from "../protocol/index.ts";
import { createVoucherDomain, createVoucherVerifier, type TokenDomain } from "../voucher/index.ts";
import { type Admission, type PaidRequest, type Refused, refused } from "./admission.ts";
import { ChainStateReader } from "./chainState.ts";
import { ChallengeBook } from "./challenges.ts";
import { admitCharge, chargeKey } from "./charge/charge.ts";
import { chargeConclusions } from "./charge/conclusions.ts";
import type { EngineContext, EngineLog, Limits } from "./context.ts";
import { loadCrypto } from "./crypto.ts";
import { describeError } from "./describeError.ts";
import type { Offer, Terms } from "./offer.ts";
import { checkAgainstGrace, checkOptions, type EngineOptions, EngineOptionsError } from "./options.ts";
import { type Screened, screen } from "./screen.ts";
import { closeConclusions, closeKey, resumeClose } from "./session/close.ts";
import { openConclusions, openKey } from "./session/credit.ts";
import { Drains } from "./session/drain.ts";
import { admitSession } from "./session/session.ts";
import { type Conclusions, recordEntry, Transactions } from "./transactions.ts";

/** How often unfinished transactions are looked at again and expired records are deleted. */
const HOUSEKEEPING_MS = 15_000;

/** How long a start waits for the transactions of an earlier run before it takes requests. */
const START_WAIT_MS = 5_000;

const UNAVAILABLE_RETRY_SECONDS = 5;

const SILENT: EngineLog = { info: () => undefined, warn: () => undefined, error: () => undefined };

/**
 * The server's engine: takes requests of any face (Fastify, a fetch handler), answers who may be served and for what.
 * Make it with `PaymentEngine.start`, let go of it with `stop`.
 *
 * @example
 * const store = await LevelStore.open({ folder: "./channels" });
 * const engine = await PaymentEngine.start({ realm: "api.example.com", client, chainId: 8453, escrow, currency, account, secrets, store });
 */
export class PaymentEngine {
	readonly terms: Terms;
	readonly limits: Limits;
	readonly #context: EngineContext;
	readonly #challenges: ChallengeBook;
	readonly #housekeeping: NodeJS.Timeout;

	private constructor(context: EngineContext, challenges: ChallengeBook) {
		this.terms = context.terms;
		this.limits = context.limits;
		this.#context = context;
		this.#challenges = challenges;
		this.#housekeeping = setInterval(() => void this.#keepHouse(), HOUSEKEEPING_MS).unref();
	}

	/**
	 * Checks options and escrow (D17), takes up what an earlier run left unfinished, and is then ready for requests.
	 *
	 * @throws EngineOptionsError, WeakSecretError, EscrowUnusableError: what is wrong and what to change
	 */
	static async start(options: EngineOptions): Promise<PaymentEngine> {
		const { client, account, store, log = SILENT, now = Date.now, random = () => randomBytes(16) } = options;
		const { limits, ...settings } = checkOptions(options);
		const terms: Terms = { ...settings, recipient: account.address.toLowerCase() as Address };
		const challenges = new ChallengeBook({
			secrets: options.secrets,
			terms,
			ttlSeconds: limits.challengeTtlSeconds,
			random,
		});
		const escrow = await readEscrow(client, terms.escrow, terms.chainId);
		checkAgainstGrace(limits, escrow.closeGraceSeconds);
		const voucherDomain = createVoucherDomain(terms.chainId, terms.escrow);
		if (toHex(voucherDomain.separator) !== escrow.domainSeparator) {
			throw new EscrowUnusableError(
				`the escrow at ${terms.escrow} takes no vouchers of this release: its EIP-712 domain is another one`,
			);
		}

		const { curve, secp256k1, keccak256 } = await loadCrypto();
		const drains = new Drains();
		const onEffects: EngineContext["onEffects"] = (channelId, effects) => {
			if (effects.includes("drained")) drains.drained(channelId);
			if (effects.includes("close-requested"))
				log.warn({ channelId }, "the payer asked the chain to close this channel");
		};
		const chainState = new ChainStateReader({
			client,
			escrow: terms.escrow,
			store,
			maxAgeMs: limits.maxChainStateAgeMs,
			now,
			onEffects,
		});
		const context: EngineContext = {
			terms,
			limits,
			store,
			client,
			verifier: createVoucherVerifier({ secp256k1, keccak256 }),
			voucherDomain,
			tokenDomain: await tokenDomain(client, terms),
			transactions: new Transactions(sender(options, limits), (purpose) => conclusionsOf(context, purpose), keyOf, log),
			chainState,
			drains,
			closes: new Map(),
			onEffects,
			now,
			log,
		};
		log.info(
			{ curve, chainId: terms.chainId, escrow: terms.escrow, recipient: terms.recipient },
			"payment engine starts",
		);
		const engine = new PaymentEngine(context, challenges);
		await engine.#resume();
		return engine;
	}

	/** The cheap first steps, without I/O: for before a request's body is read. */
	screen(request: Pick<PaidRequest, "offers" | "authorization" | "idempotencyKey">): Screened | Refused {
		return screen(request, this.terms, this.#challenges, this.#context.now());
	}

	/** Everything else: signature, chain state, ledger, money. Never rejects for a fault of chain or store: it refuses (I10). */
	async admit(request: PaidRequest, screened: Screened): Promise<Admission> {
		try {
			return screened.intent === "session"
				? await admitSession(this.#context, request, screened)
				: await admitCharge(this.#context, request, screened);
		} catch (error) {
			return this.refusalFor(error);
		}
	}

	/** A fresh challenge for each offer, for a 402. */
	challenge(offers: readonly Offer[]): readonly Challenge[] {
		const now = this.#context.now();
		return offers.map((offer) => this.#challenges.issue(offer, now));
	}

	/** The refusal for a fault while a request was admitted or captured: nothing is given away, nothing is said of the cause. */
	refusalFor(error: unknown): Refused {
		this.#context.log.error({ reason: describeError(error) }, "a paid request could not be admitted");
		return refused(
			problem("service-unavailable", "Payments can't be checked right now; nothing was charged."),
			UNAVAILABLE_RETRY_SECONDS,
		);
	}

	/** Stops the housekeeping. The store is the caller's to close, after the last request. */
	stop(): void {
		clearInterval(this.#housekeeping);
	}

	async #resume(): Promise<void> {
		const { store, transactions, log } = this.#context;
		const pending: OutboxEntry[] = [];
		for await (const entry of store.outbox({ state: "pending" })) {
			if (entry.chainId === this.terms.chainId) pending.push(entry);
			else
				log.error(
					{ txHash: entry.hash, chainId: entry.chainId },
					"a transaction of another chain is pending in this store",
				);
		}
		for (const { key, reason } of store.quarantined())
			log.error({ key, reason }, "a stored record is damaged; restore it from a backup");
		for (const entry of pending) {
			if (entry.purpose.kind !== "close") continue;
			// A damaged channel is out of use as it is; the others go on.
			await resumeClose(this.#context, entry).catch((error: unknown) => {
				log.error(
					{ channelId: entry.purpose.channelId, reason: describeError(error) },
					"a close can't be taken up again",
				);
			});
		}
		// A stuck transaction is followed in the background; only what it is about waits for it.
		const resumed = transactions.resume(pending);
		await Promise.race([resumed, setTimeout(START_WAIT_MS, undefined, { ref: false })]);
	}

	async #keepHouse(): Promise<void> {
		const { store, transactions, now, log } = this.#context;
		try {
			await transactions.resume([]);
			await store.prune(now());
		} catch (error) {
			log.warn({ reason: describeError(error) }, "housekeeping failed");
		}
	}
}

function conclusionsOf(context: EngineContext, { kind }: OutboxEntry["purpose"]): Conclusions {
	switch (kind) {
		case "open":
			return openConclusions(context);
		case "close":
			return closeConclusions(context);
		case "charge":
			return chargeConclusions(context);
		default:
			throw new Error(`the outbox holds a transaction of unknown kind ${kind}`);
	}
}

function keyOf(purpose: OutboxEntry["purpose"]): string {
	switch (purpose.kind) {
		case "open":
			return openKey(purpose);
		case "close":
			return closeKey(purpose);
		default:
			return chargeKey(purpose.proof);
	}
}

function sender(
	{ client, account, chainId, store, now, receiptPollMs }: EngineOptions,
	limits: Limits,
): TransactionSender {
	return new TransactionSender({
		client,
		account,
		chainId,
		outbox: { put: (entry) => recordEntry(store, entry) },
		timeoutMs: limits.transactionTimeoutMs,
		...(now && { now }),
		...(receiptPollMs !== undefined && { pollMs: receiptPollMs }),
	});
}

async function tokenDomain(client: PublicClient, { currency, chainId }: Terms): Promise<TokenDomain> {
	try {
		return await readTokenDomain(client, currency, chainId);
	} catch (cause) {
		if (!(cause instanceof TokenUnusableError)) throw cause;
		throw new EngineOptionsError(`option currency: ${cause.message}`, { cause });
	}
}
