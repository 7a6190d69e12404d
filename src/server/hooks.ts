import type { Address, Hex } from "viem";
import type { EngineLog } from "./context.ts";
import { describeError } from "./describeError.ts";

/** A voucher raised what a channel may be charged. Amounts in base units. */
export type VoucherEvent = Readonly<{ channelId: Hex; payer: Address; acceptedCumulative: bigint; delta: bigint }>;

/** A request was paid for: out of a channel, or by a charge. Amounts in base units. */
export type ChargedEvent = Readonly<{
	intent: "session" | "charge";
	amount: bigint;
	payer: Address;
	/** Sessions only. */
	channelId?: Hex;
	/** Charges only: the transaction that moved the money. */
	txHash?: Hex;
	method: string;
	url: string;
}>;

/** A channel is open here: just opened, or adopted. `txHash` is the transaction that opened it, where it is known. */
export type ChannelOpenedEvent = Readonly<{ channelId: Hex; payer: Address; deposit: bigint; txHash?: Hex }>;

/** A channel is finalized on chain. */
export type ChannelClosedEvent = Readonly<{ channelId: Hex; payer: Address; settledOnChain: bigint; txHash?: Hex }>;

/**
 * A settlement or close of the server's own has brought in money. Base units; `delta` is what this transaction brought. What
 * a client closes is told by `onChannelClosed` alone, and what is closed here by both.
 */
export type SettledEvent = Readonly<{ channelId: Hex; payer: Address; settled: bigint; delta: bigint; txHash: Hex }>;

/** The payer has asked the chain to close a channel; `unsettled` of it, in base units, is still owed there. */
export type CloseRequestedEvent = Readonly<{
	channelId: Hex;
	payer: Address;
	/** Unix seconds. */
	closeRequestedAt: number;
	unsettled: bigint;
}>;

/** Money that may be lost if nothing changes. */
export type AtRiskEvent = Readonly<{
	channelId: Hex;
	payer: Address;
	/** Base units. */
	unsettled: bigint;
	/**
	 * `uneconomic`: a close was requested, and bringing the money in costs more than it is worth, or than
	 * `limits.maxFeePerGas` allows. `late`: a quarter of the grace
	 * period after a close request it is not on chain yet. `frozen`: a reorganization took back what was relied on. `lost`: the channel
	 * was closed on chain with less than was delivered on it.
	 */
	reason: "uneconomic" | "late" | "frozen" | "lost";
}>;

/** A settlement or close of the server's own that did not bring in what a channel owes; it is tried again, less and less often. */
export type SettlementFailedEvent = Readonly<{
	channelId: Hex;
	payer: Address;
	/** Base units. */
	unsettled: bigint;
	/** The contract's error by its name, or what else went wrong. For logs. */
	reason: string;
	txHash?: Hex;
}>;

/**
 * What an application may want to know of its payments. Each is called after what it tells is on disk, and nothing waits for
 * it. A hook that throws or rejects is logged and changes nothing.
 *
 * @example
 * const hooks: PaymentHooks = {
 *   onCharged: ({ amount, payer, url }) => console.log(`${payer} paid ${amount} for ${url}`),
 *   onChannelClosed: async ({ channelId, settledOnChain }) => books.settle(channelId, settledOnChain),
 * };
 * await PaymentEngine.start({ ...options, hooks });        // for good
 * await app.register(sluice, { engine, hooks });           // as long as this Fastify instance lives
 * const stop = engine.observe(hooks);                      // until it is stopped
 */
export type PaymentHooks = Readonly<{
	onVoucher?(event: VoucherEvent): void | Promise<void>;
	onCharged?(event: ChargedEvent): void | Promise<void>;
	onChannelOpened?(event: ChannelOpenedEvent): void | Promise<void>;
	onChannelClosed?(event: ChannelClosedEvent): void | Promise<void>;
	onSettled?(event: SettledEvent): void | Promise<void>;
	onCloseRequested?(event: CloseRequestedEvent): void | Promise<void>;
	onAtRisk?(event: AtRiskEvent): void | Promise<void>;
	onSettlementFailed?(event: SettlementFailedEvent): void | Promise<void>;
}>;

/** Tells those who listen. What a listener throws is logged and changes nothing: the money has moved already. */
export class Listeners {
	readonly #hooks = new Set<PaymentHooks>();
	readonly #log: EngineLog;

	constructor(log: EngineLog) {
		this.#log = log;
	}

	/** @returns stops it */
	add(hooks: PaymentHooks): () => void {
		this.#hooks.add(hooks);
		return () => void this.#hooks.delete(hooks);
	}

	/** Whether anybody listens. */
	get any(): boolean {
		return this.#hooks.size > 0;
	}

	tell<Name extends keyof PaymentHooks>(name: Name, event: Parameters<NonNullable<PaymentHooks[Name]>>[0]): void {
		for (const hooks of this.#hooks) {
			const hook = hooks[name] as ((event: unknown) => void | Promise<void>) | undefined;
			if (hook === undefined) continue;
			void (async () => hook.call(hooks, event))().catch((error: unknown) => {
				this.#log.error({ hook: name, reason: describeError(error) }, "a payment hook failed");
			});
		}
	}
}
