/** Settles and closes channels out of a store, without a server: for operators, and for who has only a copy left. */
import type { Address, Hex, LocalAccount, PublicClient } from "viem";
import type { OutboxEntry } from "../../escrow/outbox.ts";
import { createVoucherVerifier } from "../../voucher/index.ts";
import { type Channel, unsettled } from "../channel.ts";
import type { EngineContext, EngineLog, Limits } from "../context.ts";
import { loadCrypto } from "../crypto.ts";
import { describeError } from "../describeError.ts";
import { EvmMethod } from "../evm/method.ts";
import { transactionsOn } from "../evm/sending.ts";
import { chainStateOn, checkedEscrow, type Shared, sharedParts } from "../evm/start.ts";
import { Listeners } from "../hooks.ts";
import { DEFAULT_LIMITS } from "../options.ts";
import { Strangers } from "../session/strangers.ts";
import { Signatures } from "../signatures.ts";
import type { ChannelStore } from "../store/store.ts";
import type { Transactions } from "../transactions.ts";
import { VerifiedCredentials } from "../verifiedCredentials.ts";
import { type SettlementPolicy, settlementSchema } from "./policy.ts";
import { rowsOf } from "./rows.ts";
import { type SettleChannelsOptions, type SettlementRun, type SettlementRunRow, settleChannels } from "./run.ts";

/** What channels have in common that can be settled together. */
export type ChannelGroup = Readonly<{ chainId: number; escrow: Address; token: Address; payee: Address }>;

export type OperatorOptions = Readonly<{
	client: PublicClient;
	chainId: number;
	store: ChannelStore;
	/** The payee. It signs nothing when nothing but dry runs are asked for. */
	account: LocalAccount;
	/** Pays the gas instead of the payee (draft-evm-session-00, Relayed Profile). */
	relayer?: LocalAccount;
	/** What is worth a transaction. */
	policy?: SettlementPolicy;
	limits?: Partial<Limits>;
	log?: EngineLog;
	/** Unix milliseconds; default `Date.now`. */
	now?: () => number;
	/** How often the sender looks for a receipt, in ms (default 1,000). */
	receiptPollMs?: number;
}>;

/** Channels that can't be dealt with, and why. The others can. */
export type GroupFault = Readonly<{ group: ChannelGroup; reason: string }>;

const SILENT: EngineLog = { info: () => undefined, warn: () => undefined, error: () => undefined };

/** How long a stop waits for what is under way: nothing is, unless somebody was not waited for. */
const STOP_DEADLINE_MS = 1_000;

/** Names a group: no two have the same. */
export function groupKey({ chainId, escrow, token, payee }: ChannelGroup): string {
	return `${chainId}:${escrow}:${token}:${payee}`;
}

/**
 * One payee's channels on one chain, whatever their escrows and tokens. It is all that a server would need to settle them, out
 * of the same parts, and nothing that takes requests.
 *
 * @example
 * const operator = await Operator.start({ client, chainId: 8453, store, account }, groups);
 * await operator.takeUp();
 * const run = await operator.settle(await operator.refresh(channels), { force: true });
 * await operator.stop();
 */
export class Operator {
	/** What can't be dealt with here. */
	readonly faults: readonly GroupFault[];
	readonly #store: ChannelStore;
	readonly #chainId: number;
	readonly #contexts: ReadonlyMap<string, EngineContext>;
	readonly #method: EvmMethod;

	private constructor(
		{ store, chainId }: OperatorOptions,
		contexts: ReadonlyMap<string, EngineContext>,
		faults: readonly GroupFault[],
	) {
		this.#store = store;
		this.#chainId = chainId;
		this.#contexts = contexts;
		this.#method = new EvmMethod([...contexts.values()], [], []);
		this.faults = faults;
	}

	/** Checks the escrow of each group. One that can't be used keeps no other from being settled: see `faults`. */
	static async start(options: OperatorOptions, groups: Iterable<ChannelGroup>): Promise<Operator> {
		const { account, relayer, store, client, chainId, log = SILENT, now = Date.now, receiptPollMs } = options;
		const limits: Limits = { ...DEFAULT_LIMITS, ...options.limits };
		const sending = { account, store, now, ...(relayer && { relayer }), ...(receiptPollMs && { receiptPollMs }) };
		const { secp256k1, keccak256 } = await loadCrypto();
		const verifier = createVoucherVerifier({ secp256k1, keccak256 });
		const from = { options: sending, settings: { limits }, listeners: new Listeners(log), log, now };
		const { verifier: _, ...shared } = sharedParts(from, verifier, new Map());
		const contexts = new Map<string, EngineContext>();
		const escrowOf = new Map<Hex, Address>();
		const contextOf = (purpose: OutboxEntry["purpose"]) => contextOfPurpose([...contexts.values()], purpose, escrowOf);
		const transactions = transactionsOn(sending, limits, { client, chainId }, contextOf, log);
		const parts = { ...shared, transactions, signatures: new Signatures({ verifier, client, now }) };
		const faults: GroupFault[] = [];
		const payee = account.address.toLowerCase();
		for (const group of groups) {
			if (group.chainId !== chainId || group.payee !== payee || contexts.has(groupKey(group))) continue;
			try {
				contexts.set(groupKey(group), await contextFor(options, group, parts, [...contexts.values()]));
			} catch (error) {
				faults.push({ group, reason: describeError(error) });
			}
		}
		await addUnknownTokens(options, payee as Address, parts, contexts);
		if (isAmbiguous([...contexts.values()])) {
			for await (const { channelId, escrow } of store.channels()) escrowOf.set(channelId, escrow);
		}
		return new Operator(options, contexts, faults);
	}

	/**
	 * Takes up what whoever had the store before has left on its way, and waits for it as long as for a transaction of its own.
	 * Call it before anything is sent.
	 */
	async takeUp(): Promise<void> {
		await this.#method.resume();
		await this.#method.keepHouse();
	}

	/** How long after a payer's request to close its channel it can withdraw; `undefined` where the escrow can't be used. */
	graceSeconds(channel: Channel): number | undefined {
		return this.#contextOf(channel)?.closeGraceSeconds;
	}

	/** Reads channels now and resolves to what they then are in the ledger, in the same order. */
	async refresh(channels: readonly Channel[]): Promise<readonly Channel[]> {
		const known = channels.filter((channel) => this.#contextOf(channel) !== undefined);
		for (const [context, group] of this.#byContext(known)) {
			await context.chainState.observe(group.map(({ channelId }) => channelId));
		}
		const read: Channel[] = [];
		for (const { channelId } of known) {
			const channel = await this.#store.channel(channelId);
			if (channel !== undefined) read.push(channel);
		}
		return read;
	}

	/**
	 * Settles or closes channels, in the order of their groups. What is on its way already is left to itself, and what belongs to
	 * a group that can't be dealt with fails.
	 */
	async settle(channels: readonly Channel[], options: SettleChannelsOptions = {}): Promise<SettlementRun> {
		const { progress } = options;
		const underWay = await this.#underWay();
		const left = channels.flatMap((channel): SettlementRunRow[] => {
			const row = rowOf(channel);
			const txHash = underWay.get(channel.channelId);
			if (txHash !== undefined) return [{ ...row, outcome: "pending", reason: "on its way already", txHash }];
			if (this.#contextOf(channel) !== undefined) return [];
			return [{ ...row, outcome: "failed", reason: this.#faultOf(channel) }];
		});
		for (const row of left) progress?.(row);
		const done = new Set(left.map(({ channelId }) => channelId));
		const runs: SettlementRun[] = [{ rows: left, transactions: 0, settled: 0, skipped: left.length }];
		const rest = channels.filter(({ channelId }) => !done.has(channelId));
		for (const [context, group] of this.#byContext(rest)) runs.push(await settleChannels(context, group, options));
		return {
			rows: runs.flatMap(({ rows }) => rows),
			transactions: sum(runs.map(({ transactions }) => transactions)),
			settled: sum(runs.map(({ settled }) => settled)),
			skipped: sum(runs.map(({ skipped }) => skipped)),
		};
	}

	/** Lets go of what is on its way: the next run takes it up. */
	stop(): Promise<void> {
		return this.#method.stop(STOP_DEADLINE_MS);
	}

	#contextOf(channel: Channel): EngineContext | undefined {
		return this.#contexts.get(groupKey(channel));
	}

	#byContext(channels: readonly Channel[]): ReadonlyMap<EngineContext, readonly Channel[]> {
		const groups = new Map<EngineContext, Channel[]>();
		for (const channel of channels) {
			const context = this.#contextOf(channel);
			if (context === undefined) continue;
			const group = groups.get(context);
			if (group === undefined) groups.set(context, [channel]);
			else group.push(channel);
		}
		return groups;
	}

	#faultOf(channel: Channel): string {
		const fault = this.faults.find(({ group }) => groupKey(group) === groupKey(channel));
		if (fault !== undefined) return fault.reason;
		return channel.chainId === this.#chainId ? "another payee's channel" : `a channel of chain ${channel.chainId}`;
	}

	/** Channels with a transaction that may still be mined, and which. */
	async #underWay(): Promise<ReadonlyMap<Hex, Hex>> {
		const found = new Map<Hex, Hex>();
		for await (const { hash, purpose, chainId } of this.#store.outbox({ state: "pending" })) {
			if (chainId !== this.#chainId) continue;
			for (const channelId of channelsOf(purpose)) found.set(channelId, hash);
		}
		return found;
	}
}

/** The channels that a recorded transaction settles or closes. */
export function channelsOf(purpose: OutboxEntry["purpose"]): readonly Hex[] {
	if (purpose.kind === "close") return [purpose.channelId as Hex];
	return rowsOf(purpose).map(({ channelId }) => channelId);
}

type Parts = Omit<Shared, "verifier"> & Readonly<{ transactions: Transactions; signatures: Signatures }>;

async function contextFor(
	{ client, chainId, policy = {} }: OperatorOptions,
	{ escrow, token, payee }: ChannelGroup,
	parts: Parts,
	before: readonly EngineContext[],
): Promise<EngineContext> {
	const { facts, voucherDomain } = await checkedEscrow({ client, chainId, escrow }, parts.relayed);
	const sameEscrow = before.find(({ terms }) => terms.escrow === escrow);
	return {
		...parts,
		// Nothing is offered here.
		terms: {
			realm: "",
			chainId,
			escrow,
			currency: token,
			recipient: payee,
			feePayer: false,
			minVoucherDelta: 0n,
			sessionTypes: [],
			chargeTypes: [],
		},
		client,
		closeGraceSeconds: facts.closeGraceSeconds,
		verified: new VerifiedCredentials(),
		voucherDomain,
		settlement: settlementSchema.parse(policy),
		strangers: sameEscrow?.strangers ?? new Strangers({ client, escrow, lookupRate: parts.lookupRate }),
		chainState: sameEscrow?.chainState ?? chainStateOn(parts, { client, chainId, escrow }, facts.closeGraceSeconds),
	};
}

/**
 * Of a token that no channel is in, charges may be on their way all the same: from the same account, whose next nonce depends
 * on them. They need no escrow.
 */
async function addUnknownTokens(
	options: OperatorOptions,
	payee: Address,
	parts: Parts,
	contexts: Map<string, EngineContext>,
): Promise<void> {
	const { store, chainId } = options;
	for await (const { chainId: sentOn, purpose } of store.outbox({ state: "pending" })) {
		const all = [...contexts.values()];
		const [first] = all;
		const token = purpose.currency as Address | undefined;
		if (sentOn !== chainId || first === undefined || token === undefined) continue;
		if (all.some(({ terms }) => terms.currency === token)) continue;
		const group = { chainId, escrow: first.terms.escrow, token, payee };
		contexts.set(groupKey(group), await contextFor(options, group, parts, all));
	}
}

/** Whether a token does not tell the escrow: a server that got another one has left channels on both. */
function isAmbiguous(contexts: readonly EngineContext[]): boolean {
	return new Set(contexts.map(({ terms }) => terms.currency)).size < contexts.length;
}

/** Where a recorded transaction belongs. */
function contextOfPurpose(
	contexts: readonly EngineContext[],
	purpose: OutboxEntry["purpose"],
	escrowOf: ReadonlyMap<Hex, Address>,
): EngineContext | undefined {
	const candidates = contexts.filter(({ terms }) => terms.currency === purpose.currency);
	// A charge has no channel: any of them will do.
	if (candidates.length < 2 || purpose.kind === "charge") return candidates[0];
	const [channelId] = purpose.channelId === undefined ? channelsOf(purpose) : [purpose.channelId as Hex];
	const escrow = channelId && escrowOf.get(channelId);
	return candidates.find(({ terms }) => terms.escrow === escrow);
}

function rowOf(channel: Channel): Pick<SettlementRunRow, "channelId" | "payer" | "unsettled"> {
	return { channelId: channel.channelId, payer: channel.payer, unsettled: unsettled(channel) };
}

function sum(values: readonly number[]): number {
	return values.reduce((total, value) => total + value, 0);
}
