import type { Problem, SessionReceipt } from "../protocol/index.ts";
import type { AbilityParts } from "./ability.ts";
import type { PayerChannel } from "./channel.ts";
import type { Channels } from "./channels.ts";
import type { Gate } from "./gate.ts";
import type { Keeper } from "./keeper.ts";
import type { Outgoing } from "./outgoing.ts";
import type { StaleServer } from "./recovery/staleServer.ts";
import type { RetryOptions } from "./retry.ts";
import type { StreamSettings } from "./stream/options.ts";

/** What paying works with. */
export type Parts = AbilityParts &
	Readonly<{
		/** What every signature has to pass. */
		gate: Gate;
		/** What is kept on disk. */
		keeper: Keeper;
		send: (request: Outgoing, credential?: string) => Promise<Response>;
		/** Whether each credential that is sent there has to take a fresh challenge. */
		usesChallengesOnce: (url: string) => boolean;
		/** Unix milliseconds. */
		now: () => number;
	}>;

/** What paying by channel works with. */
export type SessionParts = Parts &
	Readonly<{
		channels: Channels;
		/** Hears of a server that knows less than it has acknowledged before. */
		onStaleServer: ((stale: StaleServer) => void) | undefined;
		/** A channel whose deposit leaves less than this is topped up with the next request; 0: only when it has to be. */
		topUpBelow: bigint;
		/** How long whatever may come right by itself is waited for. */
		retry: RetryOptions;
		/** How metered answers are paid, unless the request says it. */
		stream: StreamSettings;
	}>;

/** What came of one paid request, and whether another try can do better. */
export type Outcome = Readonly<{
	response: Response;
	again: boolean;
	/** The channel that was to pay for it, where its server is closing that. */
	closing?: PayerChannel;
}>;

/** What a server said to one credential. */
export type Tried = Readonly<{
	response: Response;
	receipt: SessionReceipt | undefined;
	refusal: Problem | undefined;
	/** Whether more may be asked for the answer while it is read. */
	goesOn: boolean;
}>;
