import type { ChargeRequest } from "../protocol/index.ts";
import type { PayerChannel } from "./channel.ts";
import type { Keeper } from "./keeper.ts";
import { orAborted } from "./orAborted.ts";
import type { Outgoing } from "./outgoing.ts";
import {
	type ApprovalRequest,
	type Approve,
	approvalRefused,
	assertNotDryRun,
	needsApproval,
} from "./policy/approval.ts";
import { assertStaticallyAllowed, type Parties } from "./policy/check.ts";
import { amountText } from "./policy/currency.ts";
import { PolicyRefusedError } from "./policy/errors.ts";
import type { Policy } from "./policy/schema.ts";
import { type ChannelCounts, channelCounts, countersFor, raisedBy, refusalOf, type Spend } from "./spending.ts";
import { type Counter, HolderLostError, PausedError } from "./store/store.ts";

/** Who gets what a channel pays, and where. */
type ChannelParties = Omit<Spend, "amount"> & Parties;

function partiesOf({ channelId, parameters, resource }: PayerChannel): ChannelParties {
	const { chainId, token, payee, escrow } = parameters;
	return { chainId, token, payee, escrow, host: new URL(resource.url).host, channelId };
}

export type GateOptions = Readonly<{
	keeper: Keeper;
	policy: () => Policy;
	/** Asked before what is above the policy's `approveAbove`. */
	approve: Approve | undefined;
	now: () => number;
}>;

/** What is about to be signed for a request. */
export type Asked = Pick<
	ApprovalRequest,
	"kind" | "amount" | "chainId" | "token" | "payee" | "channelId" | "description"
>;

type Waiting = Readonly<{ amount: bigint; resolve: () => void; reject: (error: unknown) => void }>;
type Raises = { waiting: Waiting[]; isWriting: boolean };

/**
 * What every signature has to pass (I11): the policy as it is now, its limits, counted for all processes at once, and the
 * record on disk. What it has let through may be signed.
 */
export class Gate {
	readonly #options: GateOptions;
	readonly #raises = new WeakMap<PayerChannel, Raises>();
	readonly #parties = new WeakMap<PayerChannel, ChannelParties>();
	readonly #counts = new WeakMap<PayerChannel, ChannelCounts>();

	constructor(options: GateOptions) {
		this.#options = options;
	}

	/**
	 * Whether a request may be paid for at all, and so much: asked of whoever approves, once for a request, where the policy
	 * wants it.
	 *
	 * @throws PolicyRefusedError (`approval`, `dryRun`)
	 */
	async approve(request: Outgoing, asked: Asked): Promise<void> {
		const policy = this.#options.policy();
		const { url, method, host, signal } = request;
		const full = { ...asked, amountText: amountText(policy, asked, asked.amount), host, url, method };
		assertNotDryRun(policy, full);
		if (!this.isAsking(request, asked)) return;
		const { approve } = this.#options;
		if (approve === undefined)
			throw approvalRefused(full, "nobody is there to ask; give the client an approve function");
		const answer = Promise.resolve(approve(full));
		await orAborted(answer, signal);
		if ((await answer) !== true) throw approvalRefused(full, "it was not given");
		// Whatever moves money by itself is asked for each time.
		if (asked.kind === "request") request.approved(subjectOf(asked), asked.amount);
	}

	/** Whether `approve` has anything to say to it that it has not said before. */
	isAsking(request: Outgoing, asked: Asked): boolean {
		const policy = this.#options.policy();
		return policy.dryRun || (needsApproval(policy, asked) && !request.isApproved(subjectOf(asked), asked.amount));
	}

	/** Whether so much would be asked for. */
	needsApproval(asked: Pick<Asked, "amount" | "chainId" | "token">): boolean {
		return needsApproval(this.#options.policy(), asked);
	}

	/**
	 * A voucher of `amount`. What it raises the highest one by is counted as spent; one that is not higher needs no leave.
	 * Those that wait at the same moment are written at once.
	 *
	 * @throws PolicyRefusedError, PausedError, HolderLostError, PayerStoreError; nothing may be signed then
	 */
	async voucher(channel: PayerChannel, amount: bigint): Promise<void> {
		if (amount <= channel.counted) return this.#options.keeper.confirm(channel);
		const raises = this.#raises.get(channel) ?? { waiting: [], isWriting: false };
		this.#raises.set(channel, raises);
		await new Promise<void>((resolve, reject) => {
			raises.waiting.push({ amount, resolve, reject });
			if (!raises.isWriting) void this.#writeAll(channel, raises);
		});
		// Given back while it was written: who has it now may use what was counted.
		if (channel.isRetired) throw new HolderLostError(channel.channelId);
	}

	/**
	 * A voucher that gives nothing away: what was consumed and signed for before, to close the channel with or to ask what was
	 * spent. Paused or not.
	 *
	 * @throws HolderLostError
	 */
	again(channel: PayerChannel, amount: bigint): void {
		if (amount > channel.counted) throw new Error(`${amount} was never signed for channel ${channel.channelId}`);
		if (channel.held === undefined) throw new HolderLostError(channel.channelId);
	}

	async #writeAll(channel: PayerChannel, raises: Raises): Promise<void> {
		raises.isWriting = true;
		let tell = () => {};
		while (raises.waiting.length > 0) {
			const batch = raises.waiting.splice(0).sort((a, b) => (a.amount < b.amount ? -1 : 1));
			const writing = this.#write(channel, batch);
			// Once they are told, the vouchers of the last batch are signed without a pause: the disk should have this one by then.
			await handedOn();
			tell();
			tell = await writing;
		}
		tell();
		raises.isWriting = false;
	}

	/** @returns tells each of them what became of it */
	async #write(channel: PayerChannel, batch: readonly Waiting[]): Promise<() => void> {
		const highest = batch.at(-1);
		if (highest !== undefined && batch.length > 1) {
			const isAllowed = await this.#raise(channel, highest.amount).then(
				() => true,
				() => false,
			);
			if (isAllowed)
				return () => {
					for (const { resolve } of batch) resolve();
				};
		}
		// Where not all of them are within the limits, each is asked for by itself.
		const told: (() => void)[] = [];
		for (const { amount, resolve, reject } of batch)
			await this.#raise(channel, amount).then(
				() => told.push(resolve),
				(error: unknown) => told.push(() => reject(error)),
			);
		return () => {
			for (const tell of told) tell();
		};
	}

	async #raise(channel: PayerChannel, amount: bigint): Promise<void> {
		const { keeper } = this.#options;
		const raised = amount - channel.counted;
		if (raised <= 0n) return;
		channel.writing = amount;
		try {
			const parties = this.#partiesOf(channel);
			const named = (rules: Policy, nowMs: number) => {
				const counts = channelCounts(this.#counts.get(channel), rules, parties, nowMs);
				this.#counts.set(channel, counts);
				return raisedBy(counts.counts, raised);
			};
			await this.#count(parties, named, (counters) =>
				keeper.write(channel.key, channel, { signed: amount, counters, isSpending: true }),
			);
		} catch (error) {
			// Nothing was signed for it: the next request must not take it for credit.
			if (isRefusal(error)) channel.notSigned();
			// It may be on disk all the same: what is there counts, for whoever takes the channel again.
			else await keeper.drop(channel).catch(() => undefined);
			throw error;
		} finally {
			channel.writing = 0n;
		}
		channel.mayBeSigned(amount);
	}

	/** What is signed, or sent, for a channel's deposit: its record is on disk first. */
	async deposit(channel: PayerChannel): Promise<void> {
		const { keeper, policy } = this.#options;
		const rules = policy();
		assertStaticallyAllowed(rules, this.#partiesOf(channel));
		assertSigning(rules);
		await keeper.write(channel.key, channel, { isSpending: true });
		if (channel.isRetired) throw new HolderLostError(channel.channelId);
	}

	/** A charge: counted each time one is signed, for each may be executed. */
	async charge(host: string, { amount, currency, recipient, methodDetails }: ChargeRequest): Promise<void> {
		const { keeper } = this.#options;
		const spend = { amount, chainId: methodDetails.chainId, token: currency, payee: recipient, host };
		const named = (rules: Policy, nowMs: number) => countersFor(rules, spend, nowMs);
		await this.#count(spend, named, (counters) => keeper.count(counters));
	}

	#partiesOf(channel: PayerChannel): ChannelParties {
		const parties = this.#parties.get(channel) ?? partiesOf(channel);
		this.#parties.set(channel, parties);
		return parties;
	}

	async #count(
		parties: Parties,
		named: (rules: Policy, nowMs: number) => readonly Counter[],
		write: (counters: readonly Counter[]) => ReturnType<Keeper["count"]>,
	) {
		const { policy, now } = this.#options;
		const rules = policy();
		assertStaticallyAllowed(rules, parties);
		assertSigning(rules);
		const counters = named(rules, now());
		const refusal = await write(counters);
		if (refusal !== undefined) throw refusalOf(rules, counters, refusal);
	}
}

/** As many awaits as there are, at most, between a raise and the store's call of its disk. */
const AWAITS_TO_DISK = 32;

/**
 * Resolves when a write that has begun is with the disk, as far as nothing but the processor is in between. To sign sixty vouchers
 * takes three milliseconds, a write one: in turn they would take a quarter longer than at the same time.
 */
async function handedOn(): Promise<void> {
	for (let awaits = 0; awaits < AWAITS_TO_DISK; awaits++) await undefined;
}

/** What an approval is for: it is none for another token, payee or channel. */
function subjectOf({ kind, chainId, token, payee, channelId }: Asked): string {
	return `${kind} ${chainId}:${token} ${payee} ${channelId}`;
}

function assertSigning({ dryRun }: Policy): void {
	if (dryRun) throw new PolicyRefusedError("dryRun", "a dry run signs nothing");
}

/** Whether it is known that nothing was written. */
function isRefusal(error: unknown): boolean {
	return error instanceof PolicyRefusedError || error instanceof PausedError;
}
