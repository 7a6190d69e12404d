import type { Channel } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import type { SettlementSettings } from "./policy.ts";
import type { SettlementRun } from "./run.ts";

/** Settles and closes the channels of one token when they are due. */
export class Settler {
	constructor(_context: EngineContext, _settings: SettlementSettings) {}

	/** Looks at once, and then every `limits.settleEveryMs`. */
	start(): void {}

	/** The payer asked the chain to close: settles and closes at once. Never throws. */
	urgent(_channel: Channel): void {}

	/** One look at everything that is due; joins the one under way. */
	async run(): Promise<SettlementRun> {
		return { rows: [], transactions: 0, settled: 0, skipped: 0 };
	}

	/** Begins nothing new; resolves when what runs has ended, or at the deadline. */
	async stop(_deadlineMs: number): Promise<void> {}
}
