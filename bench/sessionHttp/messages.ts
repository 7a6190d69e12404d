/** What the processes of this bench tell each other. */
import type { Round } from "../lib/round.ts";
import type { Place } from "../lib/stage.ts";

/** What one request costs, in base units. */
export const PRICE = 100n;

/** For how many requests a voucher is signed ahead. */
export const AHEAD = 10;

export const PATH = "/quote";

export type ServerStart = Readonly<{
	/** Absent: nothing is sold, and Sluice has no part in it. */
	shop?: Readonly<{ place: Place; folder: string; fsync?: boolean }>;
}>;

export type ServerInfo = Readonly<{
	port: number;
	/** What the engine has warned of at its start. */
	warnings: readonly string[];
}>;

/** A round is what is between two orders: what it has taken of the server is told to the second one. */
export type ServerOrder = "begin" | Readonly<{ count: number }>;

/** What a round has taken of the server, and what all rounds together have earned, in base units. */
export type Served = Round & Readonly<{ spent: bigint }>;

export type LoadStart = Readonly<{ place: Place }>;

/**
 * `paid`: a voucher for each request. `ahead`: one for `AHEAD` of them, which are told apart by their `Idempotency-Key`.
 * `x402`: as `paid`, of a server of x402's.
 */
export type Mode = "paid" | "ahead" | "unpaid" | "x402";

/** Requests are made before the clock runs. */
export type LoadOrder =
	| Readonly<{ prepare: Mode; port: number; count: number }>
	| Readonly<{ send: number; connections: number }>;
