import { availableParallelism } from "node:os";
import type { Address, LocalAccount, PublicClient } from "viem";
import { z } from "zod";
import { type Deployments, type DeploymentsInput, deploymentsSchema, findDeployment } from "../escrow/deployments.ts";
import type { ChallengeSecret } from "../protocol/index.ts";
import type { EngineLog, Limits } from "./context.ts";
import type { PaymentHooks } from "./hooks.ts";
import type { PaymentMethod } from "./method.ts";
import { type SettlementPolicy, type SettlementSettings, settlementSchema } from "./settlement/policy.ts";
import type { ChannelStore } from "./store/store.ts";

/** One token on one chain that a server takes. Amounts in base units of the token. */
export type TokenOptions = Readonly<{
	/** A client of the chain the escrow is on. */
	client: PublicClient;
	chainId: number;
	/** The ERC-20 token that is used. */
	currency: string;
	/** The `PaymentChannelEscrow` that is used. Default: the one that `deployments` records for the chain. */
	escrow?: string;
	/** Whether the server sends and pays for deposits (default true, where token or chain allow it). */
	feePayer?: boolean;
	/** The least a voucher must add (default 0: any). */
	minVoucherDelta?: bigint;
	/**
	 * The token's EIP-712 name and version, where it does not tell them itself. Either way they are checked against its
	 * `DOMAIN_SEPARATOR()`.
	 */
	token?: Readonly<{ name: string; version: string }>;
	/**
	 * When channels in this token are settled and closed without being asked; see `SettlementPolicy` for the defaults.
	 * `false`: never, also not where a payer has asked the chain to close its channel and may withdraw what it owes (I9). Then
	 * it is all up to the operator: `sluice channels settle`.
	 */
	settlement?: SettlementPolicy | false;
}>;

/** What a server that wants to be paid has to say, and what it may. */
export type EngineOptions = TokenOptions &
	Readonly<{
		/** Protection space of the challenges, for example the API's host name. */
		realm: string;
		/** Further tokens, of the same chain or of others, with the same payee. A price names the one it means. */
		also?: readonly TokenOptions[];
		/** Where escrows are, as `sluice deploy` wrote it. Default: what this release records. */
		deployments?: DeploymentsInput;
		/** The payee: receives the money; signs deposits, settlements, closes and charges, and pays their gas unless there is a `relayer`. */
		account: LocalAccount;
		/**
		 * Pays the gas of all transactions instead of the payee, who then needs none and only signs (draft-evm-session-00,
		 * Relayed Profile). One transaction for each settled channel: only the payee itself can send batches. Charges by
		 * `permit2` are not offered then: the challenge names the payee as the one who submits them.
		 */
		relayer?: LocalAccount;
		/**
		 * How the escrow's events are followed: asked for every `pollMs` (default 4,000), and with each new block where `client`
		 * has a WebSocket. `false`: not at all. Channels are then read when they are needed, so that the close request of a payer
		 * who sends nothing more stays unnoticed (I9).
		 */
		watch?: Readonly<{ pollMs?: number }> | false;
		/**
		 * How many threads recover the keys of vouchers' signatures beside the server's own. Default: one where there is a second
		 * processor for it, else none. They start when vouchers come many at a time, and hold about 10 MB each. See
		 * docs/performance.md.
		 */
		verifierThreads?: number;
		/** Secrets for challenge ids, at least 32 bytes each. The first signs, the others still verify. */
		secrets: readonly ChallengeSecret[];
		/** Where channels are kept; see `LevelStore.open`. */
		store: ChannelStore;
		/** Payment methods besides `evm`. */
		methods?: readonly PaymentMethod[];
		/** What the application wants to be told; see `PaymentEngine.observe` for later. */
		hooks?: PaymentHooks;
		/**
		 * Whether payments are also taken over plain HTTP from other machines (default false). Behind a proxy that ends TLS let
		 * the framework know of it (Fastify: `trustProxy`) instead.
		 */
		allowPlainHttp?: boolean;
		limits?: Partial<Limits>;
		log?: EngineLog;
		/** Unix milliseconds; default `Date.now`. */
		now?: () => number;
		/** 16 fresh random bytes; default the platform's generator. */
		random?: () => Uint8Array;
		/** How often the sender looks for a receipt, in ms (default 1,000). */
		receiptPollMs?: number;
	}>;

/** An option is missing or wrong; the message says which and what to change. */
export class EngineOptionsError extends Error {
	override readonly name = "EngineOptionsError";
	readonly code = "ENGINE_OPTIONS";
}

export const DEFAULT_LIMITS: Limits = {
	challengeTtlSeconds: 300,
	maxChainStateAgeMs: 15_000,
	drainDeadlineMs: 10_000,
	transactionTimeoutMs: 60_000,
	idempotencyTtlMs: 24 * 3_600_000,
	maxReplayBytes: 65_536,
	minSponsoredDeposit: 0n,
	authorizationMarginSeconds: 5,
	maxTransactionGas: 2_000_000,
	confirmations: 1,
	maxVouchersPerSecond: 0,
	maxLookupsPerSecond: 20,
	settleEveryMs: 15_000,
	stuckAfterMs: 30_000,
	finalityBlocks: 64,
};

/** How often the escrow is asked for news, in ms. */
const WATCH_POLL_MS = 4_000;

const positive = z.number().int().positive();
const limitsSchema = z.strictObject({
	challengeTtlSeconds: positive.max(86_400),
	maxChainStateAgeMs: positive,
	drainDeadlineMs: z.number().int().nonnegative().max(600_000),
	transactionTimeoutMs: positive.max(3_600_000),
	idempotencyTtlMs: positive,
	maxReplayBytes: z.number().int().nonnegative().max(16_777_216),
	minSponsoredDeposit: z.bigint().nonnegative(),
	authorizationMarginSeconds: z.number().int().nonnegative(),
	maxTransactionGas: positive,
	confirmations: positive.max(1_000),
	maxVouchersPerSecond: z.number().nonnegative(),
	maxLookupsPerSecond: z.number().positive(),
	maxHeadAgeSeconds: z.number().int().nonnegative().optional(),
	settleEveryMs: positive.max(3_600_000),
	stuckAfterMs: positive.max(3_600_000),
	maxFeePerGas: z.bigint().positive().optional(),
	finalityBlocks: positive.max(100_000),
});

const addressSchema = z
	.string()
	.regex(/^0x[0-9a-fA-F]{40}$/, "must be an address: 0x and 40 hex digits")
	.transform((text) => text.toLowerCase() as `0x${string}`);

const tokenShape = {
	chainId: positive,
	currency: addressSchema,
	escrow: addressSchema.optional(),
	feePayer: z.boolean().default(true),
	minVoucherDelta: z
		.bigint()
		.nonnegative()
		.lt(2n ** 128n, "must be below 2^128")
		.default(0n),
	token: z.strictObject({ name: z.string(), version: z.string() }).optional(),
	settlement: z.union([z.literal(false), settlementSchema]).optional(),
};

const optionsSchema = z.object({
	...tokenShape,
	// `|` separates the fields that a challenge's id covers.
	realm: z.string().regex(/^[\x20-\x7b\x7d\x7e]+$/, "must be printable ASCII without |, and not empty"),
	deployments: deploymentsSchema.optional(),
	also: z.array(z.object(tokenShape)).max(64, "must be at most 64 tokens").default([]),
	allowPlainHttp: z.boolean().default(false),
	verifierThreads: z
		.int()
		.nonnegative()
		.max(64)
		.default(() => (availableParallelism() > 1 ? 1 : 0)),
	watch: z
		.union([z.literal(false), z.strictObject({ pollMs: positive.max(60_000).default(WATCH_POLL_MS) })])
		.optional(),
});

/** One token, checked, with every default filled in. */
export type TokenSettings = Readonly<{
	client: PublicClient;
	chainId: number;
	currency: Address;
	escrow: Address;
	feePayer: boolean;
	minVoucherDelta: bigint;
	token?: Readonly<{ name: string; version: string }>;
	/** Absent: nothing is settled by itself. */
	settlement?: SettlementSettings;
}>;

/** The checked options. */
export type Settings = Readonly<{
	realm: string;
	allowPlainHttp: boolean;
	verifierThreads: number;
	limits: Limits;
	/** Absent: the escrow's events are not followed. */
	watch?: Readonly<{ pollMs: number }>;
	/** The first one is what a price means that names none. */
	tokens: readonly TokenSettings[];
}>;

/** @throws EngineOptionsError naming the option */
export function checkOptions(options: EngineOptions): Settings {
	const limits = exact(check(limitsSchema, { ...DEFAULT_LIMITS, ...options.limits }, "limits."));
	const { realm, allowPlainHttp, verifierThreads, watch, deployments, also, ...first } = check(
		optionsSchema,
		options,
		"",
	);
	const clients = [options.client, ...(options.also ?? []).map(({ client }) => client)];
	const tokens = [first, ...also].map(({ escrow, token, settlement = settlementSchema.parse({}), ...rest }, at) => ({
		...rest,
		...(token && { token }),
		...(settlement !== false && { settlement }),
		client: clients[at] ?? options.client,
		escrow: escrow ?? recordedEscrow(rest.chainId, deployments),
	}));
	const seen = new Set<string>();
	for (const { chainId, currency } of tokens) {
		const key = `${chainId}:${currency}`;
		if (seen.has(key))
			throw new EngineOptionsError(`option also: token ${currency} on chain ${chainId} is there twice`);
		seen.add(key);
	}
	const watched = watch !== false && { watch: watch ?? { pollMs: WATCH_POLL_MS } };
	return { realm, allowPlainHttp, verifierThreads, limits, tokens, ...watched };
}

/** Without the members that are there and undefined. */
function exact(limits: z.output<typeof limitsSchema>): Limits {
	return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined)) as Limits;
}

function recordedEscrow(chainId: number, deployments: Deployments | undefined): Address {
	const deployment = findDeployment(chainId, deployments);
	if (deployment !== undefined) return deployment.escrow;
	throw new EngineOptionsError(
		`no escrow is recorded for chain ${chainId}: deploy one by \`sluice deploy --rpc …\` and give its record as option deployments, or give option escrow`,
	);
}

function check<Schema extends z.ZodType>(schema: Schema, value: unknown, prefix: string): z.output<Schema> {
	const parsed = schema.safeParse(value);
	if (parsed.success) return parsed.data;
	const [issue] = parsed.error.issues;
	throw new EngineOptionsError(`option ${prefix}${issue?.path.join(".") ?? ""} ${issue?.message ?? "is invalid"}`);
}

/** Which part of the escrow's grace period each of these may take: a close request has to be noticed and answered well within it (D2, I9). */
const PART_OF_GRACE = {
	maxChainStateAgeMs: [20, "a twentieth"],
	stuckAfterMs: [20, "a twentieth"],
	transactionTimeoutMs: [10, "a tenth"],
	drainDeadlineMs: [4, "a quarter"],
} as const satisfies Partial<Record<keyof Limits, readonly [part: number, words: string]>>;

/** @throws EngineOptionsError naming the limit that leaves too little of the grace period */
export function checkAgainstGrace(limits: Limits, closeGraceSeconds: number): void {
	for (const [name, [part, words]] of Object.entries(PART_OF_GRACE)) {
		const largest = (closeGraceSeconds * 1_000) / part;
		if (limits[name as keyof typeof PART_OF_GRACE] <= largest) continue;
		throw new EngineOptionsError(
			`option limits.${name} must be at most ${largest}: ${words} of the escrow's grace period`,
		);
	}
	const { maxHeadAgeSeconds = 0, maxChainStateAgeMs } = limits;
	const largest = Math.floor((mostUnnoticedMs(closeGraceSeconds) - maxChainStateAgeMs) / 1_000);
	if (maxHeadAgeSeconds <= largest) return;
	throw new EngineOptionsError(
		`option limits.maxHeadAgeSeconds must be at most ${largest}, or 0: with limits.maxChainStateAgeMs a tenth of the escrow's grace period`,
	);
}

/** The part of the grace period after which a close request has to be known where vouchers are taken, in ms (I9). */
export function mostUnnoticedMs(closeGraceSeconds: number): number {
	return (closeGraceSeconds * 1_000) / 10;
}
