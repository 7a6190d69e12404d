/** What the demo and its agent, a process of its own, say to each other: JSON, one object a line. Amounts as decimal strings. */
import type { Hex } from "viem";

/** What the agent is started with: its first line of input. */
export type AgentSettings = Readonly<{
	rpcUrl: string;
	chainId: number;
	escrow: string;
	token: string;
	privateKey: Hex;
	/** Its wallet's folder. */
	wallet: string;
	/** What it pays for. */
	url: string;
	maxDeposit: string;
	maxPrice: string;
	/** How often it asks the chain while it waits for its money, in ms. */
	pollMs: number;
}>;

/** What the agent can be told. */
export type AgentCommand =
	| Readonly<{ pay: number; concurrency: number }>
	| Readonly<{ requestClose: Hex }>
	| Readonly<{ withdraw: Hex }>
	| Readonly<{ evidence: Hex }>;

/** What the agent tells. */
export type AgentSaid =
	| Readonly<{ ready: true }>
	| Readonly<{ paid: number; channelId: Hex; signed: string }>
	| Readonly<{ phase: string } & Record<string, unknown>>
	| Readonly<{ requested: Readonly<{ outcome: string } & Record<string, unknown>> }>
	| Readonly<{ withdrawn: Readonly<{ outcome: string; refund: string; settled: string } & Record<string, unknown>> }>
	| Readonly<{ evidence: unknown }>
	| Readonly<{ failed: string }>;
