import type { Hex, PublicClient, TransactionReceipt } from "viem";
import type { TokenDomain, VoucherDomain, VoucherVerifier } from "../voucher/index.ts";
import type { Refused } from "./admission.ts";
import type { ChainStateReader } from "./chainState.ts";
import type { Effect } from "./ledger.ts";
import type { Terms } from "./offer.ts";
import type { Drains } from "./session/drain.ts";
import type { ChannelStore } from "./store/store.ts";
import type { Transactions } from "./transactions.ts";

/** What an operator may want to see. Values never hold keys, credentials or signatures. */
export type EngineLog = Readonly<{
	info(values: object, message: string): void;
	warn(values: object, message: string): void;
	error(values: object, message: string): void;
}>;

/** Bounds and periods of the engine, all in the unit of their names. */
export type Limits = Readonly<{
	/** How long a challenge can be answered. */
	challengeTtlSeconds: number;
	/** How old a channel's chain state may be when a voucher is accepted on it (D2). */
	maxChainStateAgeMs: number;
	/** How long a close waits for running requests before it abandons them (D6). */
	drainDeadlineMs: number;
	/** How long a request waits for a transaction before it is told to come back. */
	transactionTimeoutMs: number;
	/** How long an answer is kept for retries with the same `Idempotency-Key`. */
	idempotencyTtlMs: number;
	/** The longest response body kept for a retry. */
	maxReplayBytes: number;
	/** The least an `open` that costs us gas must bring (draft-evm-session-00, Denial of Service). Base units. */
	minSponsoredDeposit: bigint;
	/** How much longer than now an authorization must be valid, so that its transaction is mined in time. */
	authorizationMarginSeconds: number;
}>;

/** The parts that the steps of a paid request work with. */
export type EngineContext = Readonly<{
	terms: Terms;
	limits: Limits;
	store: ChannelStore;
	client: PublicClient;
	verifier: VoucherVerifier;
	voucherDomain: VoucherDomain;
	tokenDomain: TokenDomain;
	transactions: Transactions;
	chainState: ChainStateReader;
	drains: Drains;
	/** Closes that this process has begun, by channel. */
	closes: Map<Hex, Promise<TransactionReceipt | Refused>>;
	/** Carries out what the ledger wants done, after its state is stored. */
	onEffects: (channelId: Hex, effects: readonly Effect[]) => void;
	/** Unix milliseconds. */
	now: () => number;
	log: EngineLog;
}>;
