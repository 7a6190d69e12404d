import type { EngineContext } from "../context.ts";
import { describeError } from "../describeError.ts";
import type { Market } from "./economics.ts";
import type { SettlementSettings } from "./policy.ts";

/** How long the application may take to say what a coin is worth. */
const PRICE_TIMEOUT_MS = 10_000;

/** How often it is logged that it does not. */
const LOG_EVERY_MS = 600_000;

/**
 * What gas costs, as far as it is known: `market` is absent without a `coinPrice`, and `isUnknown` where there is one that
 * has never been told.
 */
export type Prices = Readonly<{ market?: Market; isUnknown: boolean }>;

/** Asks chain and application what gas costs now. */
export class PriceReader {
	readonly #context: EngineContext;
	readonly #coinPrice: SettlementSettings["coinPrice"];
	#last: bigint | undefined;
	#loggedAt = Number.NEGATIVE_INFINITY;

	constructor(context: EngineContext, { coinPrice }: Pick<SettlementSettings, "coinPrice">) {
		this.#context = context;
		this.#coinPrice = coinPrice;
	}

	/** Rejects when the node does not say. */
	async read(): Promise<Prices> {
		const coinPrice = await this.#readCoinPrice();
		if (coinPrice === undefined) return { isUnknown: this.#coinPrice !== undefined };
		const { maxFeePerGas } = await this.#context.client.estimateFeesPerGas();
		return { market: { feePerGas: maxFeePerGas, coinPrice }, isUnknown: false };
	}

	/** The application's word; its last one while it has none. */
	async #readCoinPrice(): Promise<bigint | undefined> {
		const ask = this.#coinPrice;
		if (typeof ask !== "function") return ask;
		try {
			const price = await withinTime(async () => ask(), PRICE_TIMEOUT_MS);
			if (typeof price !== "bigint" || price <= 0n) throw new RangeError("it is no positive bigint");
			this.#last = price;
		} catch (error) {
			const { log, now } = this.#context;
			if (now() - this.#loggedAt >= LOG_EVERY_MS) {
				this.#loggedAt = now();
				const values = { reason: describeError(error), last: this.#last?.toString() };
				log.error(values, "option settlement.coinPrice does not say what a coin is worth");
			}
		}
		return this.#last;
	}
}

async function withinTime<T>(work: () => Promise<T>, timeoutMs: number): Promise<T> {
	const { promise: late, reject } = Promise.withResolvers<never>();
	const timer = setTimeout(() => reject(new Error(`no answer for ${timeoutMs} ms`)), timeoutMs).unref();
	try {
		return await Promise.race([work(), late]);
	} finally {
		clearTimeout(timer);
	}
}
