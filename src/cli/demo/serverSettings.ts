/** What the demo and its paid server, a process of its own, say to each other: JSON, one object a line. */
import type { Hex } from "viem";
import type { Limits, PaymentHooks, SettlementPolicy } from "../../server/index.ts";
import type { Order } from "./crash.ts";

/** A settlement policy as JSON carries it: amounts as decimal strings. */
export type JsonPolicy = Readonly<
	Partial<Record<"maxUnsettled" | "minValue" | "coinPrice", string>> &
		Pick<SettlementPolicy, "maxAgeSeconds" | "idleSeconds" | "onIdle" | "minValueToGas" | "batchSize">
>;

/** What the server is started with: its first line of input. */
export type ServerSettings = Readonly<{
	rpcUrl: string;
	chainId: number;
	escrow: string;
	token: string;
	privateKey: Hex;
	secret: string;
	folder: string;
	price: string;
	suggestedDeposit: string;
	/** What `/permit2` suggests: less than what all requests cost, so that the channel is topped up. */
	smallDeposit: string;
	splits: readonly Readonly<{ recipient: string; amount: string; memo: string }>[];
	/** 0: a free one. */
	port: number;
}> &
	ServerVariation;

/** What a scenario may want otherwise. */
export type ServerVariation = Readonly<{
	settlement?: JsonPolicy | false;
	watch?: Readonly<{ pollMs: number }> | false;
	limits?: Pick<Partial<Limits>, "settleEveryMs" | "maxChainStateAgeMs">;
	/** Of which hooks the parent process wants to hear. */
	tell?: readonly (keyof PaymentHooks)[];
	/** Whose pages may pay here besides its own: an origin. */
	allowOrigin?: string;
}>;

/** What it says when it listens. */
export type Listening = Readonly<{
	url: string;
	/** 0: any number of one channel. */
	maxVouchersPerSecond: number;
}>;

/** A hook was called in the server. Amounts as decimal strings. */
export type ServerEvent = Readonly<{ event: keyof PaymentHooks; at: number } & Record<string, unknown>>;

/** What the server can be told while it runs: to die at a point, to settle now, how far its clock is ahead. */
export type ServerCommand = Readonly<{ arm: Order } | { settle: true } | { aheadMs: number }>;

/** The policy that a server is started with. */
export function policyOf(json: JsonPolicy | false | undefined): SettlementPolicy | false | undefined {
	if (json === undefined || json === false) return json;
	const { maxUnsettled, minValue, coinPrice, ...rest } = json;
	return {
		...rest,
		...(maxUnsettled !== undefined && { maxUnsettled: BigInt(maxUnsettled) }),
		...(minValue !== undefined && { minValue: BigInt(minValue) }),
		...(coinPrice !== undefined && { coinPrice: BigInt(coinPrice) }),
	};
}
