import { LRUCache } from "lru-cache";
import type { Address, Hex, PublicClient } from "viem";
import { readChannel } from "../../escrow/reads.ts";
import { ChainUnavailableError } from "../chainState.ts";
import type { ChannelIdentity } from "../channel.ts";
import type { RateLimit } from "../rateLimit.ts";

/** How many answers are remembered, the least recently used forgotten first: anyone can ask for any id. */
const REMEMBERED = 10_000;

/** How long an answer is believed. A channel that is not there may be opened in the next block. */
const TTL_MS = 10_000;

export type StrangersOptions = Readonly<{ client: PublicClient; escrow: Address; lookupRate: RateLimit }>;

/** What never changes of a channel on chain; who it pays and in what is for the caller to judge. */
type Stranger = Pick<ChannelIdentity, "payer" | "payee" | "token" | "authorizedSigner">;

/** Asks the escrow who is behind channel ids that this store does not know (D10), within a rate that all share. */
export class Strangers {
	readonly #options: StrangersOptions;
	readonly #answers = new LRUCache<Hex, Stranger | "none">({ max: REMEMBERED, ttl: TTL_MS });
	/** One question per channel at a time, shared by all who wait for it. */
	readonly #asking = new Map<Hex, Promise<Stranger | undefined>>();

	constructor(options: StrangersOptions) {
		this.#options = options;
	}

	/**
	 * Who is behind a channel, `undefined` when the escrow has none of that id.
	 *
	 * @throws LookupsBusyError, ChainUnavailableError
	 */
	async identify(channelId: Hex): Promise<Stranger | undefined> {
		const known = this.#answers.get(channelId);
		if (known !== undefined) return known === "none" ? undefined : known;
		const running = this.#asking.get(channelId);
		if (running !== undefined) return running;
		const asking = this.#ask(channelId).finally(() => this.#asking.delete(channelId));
		this.#asking.set(channelId, asking);
		return asking;
	}

	async #ask(channelId: Hex): Promise<Stranger | undefined> {
		const { client, escrow, lookupRate } = this.#options;
		const waitSeconds = lookupRate.take("");
		if (waitSeconds > 0) throw new LookupsBusyError(waitSeconds);
		const found = await readChannel(client, escrow, channelId).catch((cause: unknown) => {
			throw new ChainUnavailableError("the chain did not answer", { cause });
		});
		this.#answers.set(channelId, found ?? "none");
		return found;
	}
}

/** Too many unknown channels are asked for: nothing is said of this one (I10). */
export class LookupsBusyError extends Error {
	override readonly name = "LookupsBusyError";
	readonly code = "LOOKUPS_BUSY";
	readonly waitSeconds: number;
	constructor(waitSeconds: number) {
		super("too many unknown channels are looked up on chain; try again in a moment");
		this.waitSeconds = waitSeconds;
	}
}
