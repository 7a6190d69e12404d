import type { Address, Hex, PublicClient, TransactionReceipt } from "viem";
import type { Permit2Domain, TokenDomain, TypedDataSigner, VoucherDomain } from "../voucher/index.ts";
import type { Refused } from "./admission.ts";
import type { ChainStateReader } from "./chainState.ts";
import type { Channel } from "./channel.ts";
import type { Terms } from "./evm/terms.ts";
import type { Listeners } from "./hooks.ts";
import type { Effect } from "./ledger.ts";
import type { RateLimit } from "./rateLimit.ts";
import type { Drains } from "./session/drain.ts";
import type { Strangers } from "./session/strangers.ts";
import type { SettlementSettings } from "./settlement/policy.ts";
import type { Signatures } from "./signatures.ts";
import type { ChannelStore } from "./store/store.ts";
import type { RunningStreams } from "./stream/running.ts";
import type { Wakes } from "./stream/wakes.ts";
import type { Transactions } from "./transactions.ts";
import type { VerifiedCredentials } from "./verifiedCredentials.ts";

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
	/**
	 * How long ago a channel's chain state may have been read, or the chain followed, when a voucher is accepted on it (D2).
	 * What was read may be as old as the node's head by then: a close request stops vouchers after `maxChainStateAgeMs` and
	 * `maxHeadAgeSeconds` together at the latest (I9). Default 15,000; at most a twentieth of the escrow's grace period.
	 */
	maxChainStateAgeMs: number;
	/** How long a close waits for running requests before it abandons them (D6). */
	drainDeadlineMs: number;
	/** How long a request waits for a transaction before it is told to come back. */
	transactionTimeoutMs: number;
	/** How long an answer is kept for retries with the same `Idempotency-Key`. */
	idempotencyTtlMs: number;
	/** The longest response body kept for a retry. */
	maxReplayBytes: number;
	/** The least that an `open` or a top-up that costs us gas must bring (draft-evm-session-00, Denial of Service). Base units. */
	minSponsoredDeposit: bigint;
	/** How much longer than now an authorization must be valid, so that its transaction is mined in time. */
	authorizationMarginSeconds: number;
	/**
	 * The most gas that a transaction of ours may need; a deposit, charge or close that needs more is refused. A contract
	 * wallet decides what its signature takes to check, and we pay for it.
	 */
	maxTransactionGas: number;
	/** How deep a deposit or a charge must be in the chain before it counts (draft-evm-session-00, Chain Reorganization). */
	confirmations: number;
	/**
	 * How many vouchers of one channel are taken in a second; 0: any number. The draft says SHOULD limit to 10, which a
	 * channel that pays for every token can't live with.
	 */
	maxVouchersPerSecond: number;
	/** How often in a second the chain is asked for channels that this store does not know (D10). */
	maxLookupsPerSecond: number;
	/**
	 * By a node whose latest block is older than this, or as far ahead of this machine's clock, nothing is sold: it has stopped
	 * following the chain, or the clock is wrong. 0: any age, so that a close request may stay unnoticed as long as a node
	 * stands still. With `maxChainStateAgeMs` at most a tenth of the escrow's grace period. Default 60, or what is left of
	 * that tenth, and 0 on development chains.
	 */
	maxHeadAgeSeconds?: number;
	/**
	 * How often channels are looked for that are due for settlement or close. Default 15,000. Those whose payers have asked the
	 * chain to close are looked for every twentieth of the grace period at least.
	 */
	settleEveryMs: number;
	/** How long blocks may pass a transaction of ours over before it bids more for its gas. Default 30,000. */
	stuckAfterMs: number;
	/** The most that any transaction of ours ever bids, in wei per gas: while gas is dearer none is sent. Absent: what the chain asks. */
	maxFeePerGas?: bigint;
	/**
	 * Until how many blocks deep a transaction of ours is followed after its outcome is known: a reorganization may take it out
	 * of the chain, and then it is sent again. Default 64.
	 */
	finalityBlocks: number;
}>;

/** Carries out what the ledger wants done of a channel, after that is stored. */
export type OnEffects = (channel: Channel, effects: readonly Effect[]) => void;

/** The parts that the steps of a paid request in one token work with. */
export type EngineContext = Readonly<{
	terms: Terms;
	limits: Limits;
	store: ChannelStore;
	client: PublicClient;
	/** Sends transactions and pays their gas; the spender of a charge's permit. */
	sender: Address;
	/** Signs what the payee authorizes others to send. */
	payee: TypedDataSigner;
	/** Another account than the payee pays the gas: then settlements and closes go by the payee's authorization. */
	relayed: boolean;
	/** How long after a close request the payer can take the rest back, in seconds. */
	closeGraceSeconds: number;
	/** When channels in this token are settled without being asked; absent: never. */
	settlement?: SettlementSettings;
	signatures: Signatures;
	/** Credentials that need no second look at their signature. */
	verified: VerifiedCredentials;
	voucherDomain: VoucherDomain;
	/** Where the token's own signatures are good; absent where it has no ERC-3009. */
	tokenDomain?: TokenDomain;
	/** Absent where the chain has no Permit2. */
	permit2Domain?: Permit2Domain;
	transactions: Transactions;
	chainState: ChainStateReader;
	drains: Drains;
	/** Vouchers by channel. */
	voucherRate?: RateLimit;
	/** Look-ups of unknown channels, all together. */
	lookupRate: RateLimit;
	/** What the chain said of channels that this store does not know. */
	strangers: Strangers;
	/** Closes that this process has begun, by channel. */
	closes: Map<Hex, Promise<TransactionReceipt | Refused>>;
	/** What this process has begun to settle or close by its own decision, by channel: one such transaction at a time. */
	settling: Map<Hex, Promise<unknown>>;
	/** Channels whose close a relayer was given and did not get through: they stay closing, and are closed again. */
	recloses: Set<Hex>;
	onEffects: OnEffects;
	/** Who waits for a channel's next voucher. */
	wakes: Wakes;
	/** The stream that runs on each channel. */
	streams: RunningStreams;
	listeners: Listeners;
	/** Unix milliseconds. */
	now: () => number;
	log: EngineLog;
}>;
