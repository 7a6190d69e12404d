import type { Address, LocalAccount, PublicClient } from "viem";
import { z } from "zod";
import { type Deployments, type DeploymentsInput, deploymentsSchema, findDeployment } from "../escrow/deployments.ts";
import type { ChallengeSecret } from "../protocol/index.ts";
import type { EngineLog, Limits } from "./context.ts";
import type { ChannelStore } from "./store/store.ts";

/** What a server that wants to be paid has to say, and what it may. Amounts in base units of the token. */
export type EngineOptions = Readonly<{
	/** Protection space of the challenges, for example the API's host name. */
	realm: string;
	/** A client of the chain the escrow is on. */
	client: PublicClient;
	chainId: number;
	/** The ERC-20 token that is used. */
	currency: string;
	/** The `PaymentChannelEscrow` that is used. Default: the one that `deployments` records for the chain. */
	escrow?: string;
	/** Where escrows are, as `sluice deploy` wrote it. Default: what this release records. */
	deployments?: DeploymentsInput;
	/** The payee: receives the money, signs and pays for `open`, `close` and charges. */
	account: LocalAccount;
	/** Secrets for challenge ids, at least 32 bytes each. The first signs, the others still verify. */
	secrets: readonly ChallengeSecret[];
	/** Where channels are kept; see `LevelStore.open`. */
	store: ChannelStore;
	/** Whether the server sends and pays for `open` (default true): the token must have ERC-3009. */
	feePayer?: boolean;
	/** The least a voucher must add (default 0: any). */
	minVoucherDelta?: bigint;
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

const DEFAULT_LIMITS: Limits = {
	challengeTtlSeconds: 300,
	maxChainStateAgeMs: 15_000,
	drainDeadlineMs: 10_000,
	transactionTimeoutMs: 60_000,
	idempotencyTtlMs: 24 * 3_600_000,
	maxReplayBytes: 65_536,
	minSponsoredDeposit: 0n,
	authorizationMarginSeconds: 5,
};

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
});

const addressSchema = z
	.string()
	.regex(/^0x[0-9a-fA-F]{40}$/, "must be an address: 0x and 40 hex digits")
	.transform((text) => text.toLowerCase() as `0x${string}`);

const optionsSchema = z.object({
	// `|` separates the fields that a challenge's id covers.
	realm: z.string().regex(/^[\x20-\x7b\x7d\x7e]+$/, "must be printable ASCII without |, and not empty"),
	chainId: positive,
	escrow: addressSchema.optional(),
	deployments: deploymentsSchema.optional(),
	currency: addressSchema,
	feePayer: z.boolean().default(true),
	minVoucherDelta: z
		.bigint()
		.nonnegative()
		.lt(2n ** 128n, "must be below 2^128")
		.default(0n),
});

/** The checked options, with every default filled in. */
export type Settings = Omit<z.output<typeof optionsSchema>, "escrow" | "deployments"> &
	Readonly<{ escrow: Address; limits: Limits }>;

/** @throws EngineOptionsError naming the option */
export function checkOptions(options: EngineOptions): Settings {
	const limits = check(limitsSchema, { ...DEFAULT_LIMITS, ...options.limits }, "limits.");
	const { escrow, deployments, ...settings } = check(optionsSchema, options, "");
	return { ...settings, escrow: escrow ?? recordedEscrow(settings.chainId, deployments), limits };
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

/** D2: a close request must be noticed long before its grace period is over. */
export function checkAgainstGrace({ maxChainStateAgeMs }: Limits, closeGraceSeconds: number): void {
	const largest = (closeGraceSeconds * 1_000) / 20;
	if (maxChainStateAgeMs <= largest) return;
	throw new EngineOptionsError(
		`option limits.maxChainStateAgeMs must be at most ${largest}: a twentieth of the escrow's grace period`,
	);
}
