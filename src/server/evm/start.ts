import { type Address, BaseError, type Hex, isAddressEqual, toHex } from "viem";
import { isNodeFault } from "../../escrow/nodeFault.ts";
import { EscrowUnusableError, hasCode, readDecimals, readEscrow } from "../../escrow/reads.ts";
import {
	createPermit2Domain,
	createVoucherDomain,
	createVoucherVerifier,
	type VoucherVerifier,
} from "../../voucher/index.ts";
import { ChainStateReader, ChainUnavailableError } from "../chainState.ts";
import type { Channel } from "../channel.ts";
import type { EngineContext, EngineLog, Limits } from "../context.ts";
import { type Crypto, loadCrypto } from "../crypto.ts";
import { slowCurve } from "../curves.ts";
import { describeError } from "../describeError.ts";
import type { Listeners } from "../hooks.ts";
import {
	checkAgainstGrace,
	type EngineOptions,
	EngineOptionsError,
	mostUnnoticedMs,
	type Settings,
	type TokenSettings,
} from "../options.ts";
import { RateLimit } from "../rateLimit.ts";
import { RecoveryThreads } from "../recovery/threads.ts";
import { Drains } from "../session/drain.ts";
import { Strangers } from "../session/strangers.ts";
import { Settler } from "../settlement/settler.ts";
import { Signatures } from "../signatures.ts";
import { RunningStreams } from "../stream/running.ts";
import { Wakes } from "../stream/wakes.ts";
import { VerifiedCredentials } from "../verifiedCredentials.ts";
import { ChannelWatch } from "../watch.ts";
import { effectsOf } from "./effects.ts";
import { contextFor, EvmMethod } from "./method.ts";
import { transactionsOn } from "./sending.ts";
import { chargeTypes, sessionTypes, type Terms } from "./terms.ts";
import { tokenDomainOf } from "./tokenFacts.ts";

/** Channels whose voucher rate is remembered. */
const RATED_CHANNELS = 10_000;

export type EvmParts = Readonly<{
	options: EngineOptions;
	settings: Settings;
	listeners: Listeners;
	log: EngineLog;
	now: () => number;
}>;

/**
 * Checks each token's escrow, chain and domain (D17) and makes the `evm` method.
 *
 * @throws EngineOptionsError, EscrowUnusableError: what is wrong and what to change
 * @throws ChainUnavailableError: the node does not answer
 */
export async function startEvm(parts: EvmParts): Promise<EvmMethod> {
	const settlers: Settlers = new Map();
	const crypto = await loadCrypto();
	const { log, settings } = parts;
	const { verifierThreads } = settings;
	const threads =
		verifierThreads > 0
			? new RecoveryThreads({ threads: verifierThreads, secp256k1: crypto.secp256k1, curve: crypto.curve, log })
			: undefined;
	const contexts = await createContexts(parts, settlers, crypto, threads).catch(async (error: unknown) => {
		await threads?.stop();
		throw error;
	});
	if (parts.settings.limits.minSponsoredDeposit === 0n && contexts.some(({ terms }) => terms.feePayer)) {
		const hint = "anyone can make this server pay gas for deposits of one base unit; set limits.minSponsoredDeposit";
		parts.log.warn({ minSponsoredDeposit: "0" }, hint);
	}
	for (const context of contexts) {
		if (context.settlement !== undefined)
			settlers.set(tokenKey(context.terms), new Settler(context, context.settlement));
	}
	return new EvmMethod(contexts, [...settlers.values()], watchesOf(parts, contexts), threads);
}

/**
 * What the steps of a paid request in each token work with: nothing of it runs yet.
 *
 * @param settlers are told of what can't wait; added afterwards
 */
export async function createContexts(
	parts: EvmParts,
	settlers: Settlers = new Map(),
	crypto?: Crypto,
	threads?: RecoveryThreads,
): Promise<readonly EngineContext[]> {
	const { curve, passedOver, secp256k1, keccak256 } = crypto ?? (await loadCrypto());
	const verifier = createVoucherVerifier({ secp256k1, keccak256 });
	const shared = sharedParts(parts, verifier, settlers);
	const contexts: EngineContext[] = [];
	for (const token of parts.settings.tokens)
		contexts.push(await askingTheChain(token, () => createContext(parts, { ...shared, threads }, token, contexts)));
	for (const { terms } of contexts) {
		const { chainId, escrow, currency, recipient } = terms;
		parts.log.info({ curve, chainId, escrow, currency, recipient }, "payment engine starts");
	}
	const slow = slowCurve({ curve, passedOver });
	if (slow !== undefined) parts.log.warn({ curve, passedOver }, `${slow.detail}; ${slow.hint}`);
	return contexts;
}

/** Who settles channels without being asked, by chain and token. */
type Settlers = Map<string, Settler>;

function tokenKey({ chainId, currency }: Pick<Terms, "chainId" | "currency">): string {
	return `${chainId}:${currency}`;
}

/** One for each escrow, whatever the tokens. */
function watchesOf(
	{ settings: { watch, limits }, log, now }: EvmParts,
	contexts: readonly EngineContext[],
): readonly ChannelWatch[] {
	if (watch === undefined) return [];
	const { confirmations } = limits;
	const byEscrow = new Map(contexts.map((context) => [context.chainState, context]));
	return [...byEscrow.values()].map(({ client, terms, store, chainState, closeGraceSeconds, transactions }) => {
		const { chainId, escrow } = terms;
		// Also while some are on their way again: what they are about is not settled anew before they have been found.
		const onStep = (reorganized: boolean) => {
			if (!reorganized && transactions.resending().length === 0) return;
			transactions.followUp(store).catch((error: unknown) => {
				log.warn({ chainId, reason: describeError(error) }, "transactions can't be followed right now");
			});
		};
		const parts = { client, chainId, escrow, store, chainState, closeGraceSeconds, confirmations, onStep, now, log };
		return new ChannelWatch({ ...parts, ...watch });
	});
}

/** A node's fault in words for whoever starts the server; without its cause, which may hold the endpoint's URL. */
async function askingTheChain<T>({ chainId }: TokenSettings, work: () => Promise<T>): Promise<T> {
	try {
		return await work();
	} catch (error) {
		if (!(error instanceof BaseError) || !isNodeFault(error)) throw error;
		throw new ChainUnavailableError(
			`chain ${chainId} does not answer (${describeError(error)}); check the RPC endpoint of option client and start again`,
		);
	}
}

export type Shared = ReturnType<typeof sharedParts>;

type SharedFrom = Pick<EvmParts, "listeners" | "log" | "now"> &
	Readonly<{ options: Pick<EngineOptions, "store" | "account" | "relayer">; settings: Pick<Settings, "limits"> }>;

/** What all tokens have in common, with or without a server around it. */
export function sharedParts(
	{ options, settings: { limits }, listeners, log, now }: SharedFrom,
	verifier: VoucherVerifier,
	settlers: Settlers,
) {
	const drains = new Drains();
	const wakes = new Wakes();
	const urgent = (channel: Channel) =>
		settlers.get(tokenKey({ chainId: channel.chainId, currency: channel.token }))?.urgent(channel);
	const { maxVouchersPerSecond, maxLookupsPerSecond } = limits;
	return {
		verifier,
		limits,
		store: options.store,
		sender: (options.relayer ?? options.account).address.toLowerCase() as Address,
		payee: options.account,
		relayed: options.relayer !== undefined && !isAddressEqual(options.relayer.address, options.account.address),
		drains,
		closes: new Map(),
		wakes,
		streams: new RunningStreams(),
		settling: new Map<Hex, Promise<unknown>>(),
		recloses: new Set<Hex>(),
		onEffects: effectsOf({ drains, wakes, listeners, urgent, log }),
		listeners,
		now,
		log,
		lookupRate: new RateLimit({ perSecond: maxLookupsPerSecond, keys: 1, now }),
		...(maxVouchersPerSecond > 0 && {
			voucherRate: new RateLimit({ perSecond: maxVouchersPerSecond, keys: RATED_CHANNELS, now }),
		}),
	};
}

async function createContext(
	{ options, settings }: EvmParts,
	{ verifier, threads, ...shared }: Shared & Readonly<{ threads: RecoveryThreads | undefined }>,
	token: TokenSettings,
	before: EngineContext[],
): Promise<EngineContext> {
	const { client, chainId, escrow, currency, minVoucherDelta } = token;
	const { limits, now, relayed: isRelayed } = shared;
	const recipient = options.account.address.toLowerCase() as Address;
	const { facts, voucherDomain } = await checkedEscrow(token, isRelayed);
	checkAgainstGrace(limits, facts.closeGraceSeconds);
	const tokenDomain = await tokenDomainOf(client, token, recipient);
	const hasPermit2 = await hasCode(client, facts.permit2);
	const decimals = await readDecimals(client, currency);
	const { relayed } = facts;
	const capabilities = { hasErc3009: tokenDomain !== undefined, hasPermit2, relayed, feePayer: token.feePayer };
	const sessions = sessionTypes(capabilities);
	const terms: Terms = {
		realm: settings.realm,
		chainId,
		escrow,
		currency,
		recipient,
		feePayer: token.feePayer && sessions.length > 1,
		minVoucherDelta,
		...(hasPermit2 && { permit2: facts.permit2 }),
		...(decimals !== undefined && { decimals }),
		sessionTypes: sessions,
		chargeTypes: chargeTypes({ ...capabilities, hasPermit2: hasPermit2 && !isRelayed }),
	};
	const sameChain = before.find((one) => one.terms.chainId === chainId);
	const sameEscrow = before.find((one) => one.terms.chainId === chainId && one.terms.escrow === escrow);
	return {
		...shared,
		terms,
		client,
		signatures: sameChain?.signatures ?? new Signatures({ verifier, threads, client, now }),
		verified: new VerifiedCredentials(),
		voucherDomain,
		closeGraceSeconds: facts.closeGraceSeconds,
		...(token.settlement && { settlement: token.settlement }),
		...(tokenDomain && { tokenDomain }),
		...(hasPermit2 && { permit2Domain: createPermit2Domain(chainId, facts.permit2) }),
		strangers: sameEscrow?.strangers ?? new Strangers({ client, escrow, lookupRate: shared.lookupRate }),
		// One account has one nonce sequence on a chain, whatever the token.
		transactions:
			sameChain?.transactions ??
			transactionsOn(options, limits, token, (purpose) => contextFor(before, chainId, purpose), shared.log),
		chainState: sameEscrow?.chainState ?? chainStateOn(shared, token, facts.closeGraceSeconds),
	};
}

/**
 * What an escrow says of itself, and the domain of its vouchers (D17).
 *
 * @throws EscrowUnusableError, EngineOptionsError: what is wrong and what to change
 */
export async function checkedEscrow({ client, chainId, escrow }: OnEscrow, isRelayed: boolean) {
	const facts = await readEscrow(client, escrow, chainId);
	if (isRelayed && !facts.relayedPayee) {
		throw new EngineOptionsError(
			`option relayer: the escrow at ${escrow} takes no settlements by the payee's signature; leave it out, and let the payee pay the gas`,
		);
	}
	const voucherDomain = createVoucherDomain(chainId, escrow);
	if (toHex(voucherDomain.separator) !== facts.domainSeparator) {
		throw new EscrowUnusableError(
			`the escrow at ${escrow} takes no vouchers of this release: its EIP-712 domain is another one`,
		);
	}
	return { facts, voucherDomain };
}

type OnEscrow = Pick<TokenSettings, "client" | "chainId" | "escrow">;

/** Keeps fresh what the ledger knows of one escrow's channels. */
export function chainStateOn(
	{ limits, store, now, onEffects }: Pick<Shared, "limits" | "store" | "now" | "onEffects">,
	{ client, chainId, escrow }: OnEscrow,
	closeGraceSeconds: number,
): ChainStateReader {
	return new ChainStateReader({
		client,
		escrow,
		store,
		maxAgeMs: limits.maxChainStateAgeMs,
		maxHeadAgeMs: maxHeadAgeMs(limits, chainId, closeGraceSeconds),
		confirmations: limits.confirmations,
		now,
		onEffects,
	});
}

const DEFAULT_HEAD_AGE_MS = 60_000;

/** Development chains make a block when there is a transaction, or none for hours. */
const DEVELOPMENT_CHAINS: readonly number[] = [31_337, 1_337];

/** Unless it is given: a minute, or what is left of the part of the grace period in which a close request has to be known (I9). */
export function maxHeadAgeMs(
	{ maxHeadAgeSeconds, maxChainStateAgeMs }: Pick<Limits, "maxHeadAgeSeconds" | "maxChainStateAgeMs">,
	chainId: number,
	closeGraceSeconds: number,
): number {
	if (maxHeadAgeSeconds !== undefined) return maxHeadAgeSeconds * 1_000;
	if (DEVELOPMENT_CHAINS.includes(chainId)) return 0;
	return Math.min(DEFAULT_HEAD_AGE_MS, mostUnnoticedMs(closeGraceSeconds) - maxChainStateAgeMs);
}
