import type { Hex } from "viem";
import type { RecoveryKind } from "./calls.ts";

/** What is going on while a deposit is got back, for people who wait. Amounts in base units. */
export type RecoveryProgress = Readonly<{ channelId: Hex }> &
	Readonly<
		| { phase: "sending"; kind: RecoveryKind }
		/** It is on its way: from now on a restart finds it again. */
		| { phase: "mining"; kind: RecoveryKind; hash: Hex }
		/** The grace period runs, by the chain's clock; `withdrawableAt` in Unix seconds of it. */
		| { phase: "grace"; untilSeconds: number; withdrawableAt: number; settled: bigint }
		/** The payee has redeemed a voucher meanwhile. */
		| { phase: "settled"; settled: bigint; delta: bigint }
		/** The node does not answer; told once, until it does again. The wait goes on. */
		| { phase: "node-failing"; reason: string }
		| { phase: "node-back" }
	>;
