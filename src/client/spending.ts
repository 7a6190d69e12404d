import type { Hex } from "viem";
import type { Policy } from "./policy.ts";
import type { Counter } from "./store/store.ts";

/** Value that is about to be signed away. */
export type Spend = Readonly<{
	/** Base units. */
	amount: bigint;
	chainId: number;
	token: string;
	payee: string;
	/** `name` or `name:port` of who is paid. */
	host: string;
	/** Where it is paid by channel. */
	channelId?: Hex;
}>;

/** What a spend counts into, with the limits that the policy sets. */
export function countersFor(_policy: Policy, _spend: Spend, _nowMs: number): readonly Counter[] {
	return [];
}
