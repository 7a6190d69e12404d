/** The engine over its books: vouchers on channels that are drawn by chance, each as likely as any other. */
import { setImmediate } from "node:timers/promises";
import type { Challenge } from "../../src/protocol/index.ts";
import { eachAtOnce, paidRequest, pay } from "../lib/pay.ts";
import { measureRound } from "../lib/round.ts";
import { openShop } from "../lib/shop.ts";
import { serveSide } from "../lib/side.ts";
import type { Place } from "../lib/stage.ts";
import { domainOf, voucherHeader } from "../lib/vouchers.ts";
import { numberedChannels, paidBefore } from "./books.ts";

/** What one request costs, in base units. */
export const PRICE = 100n;

/** How many channels are looked at after each round. */
const CHECKED = 500;

export type Start = Readonly<{ place: Place; folder: string; channels: number }>;
export type Info = Readonly<{ startSeconds: number }>;

export type Order = Readonly<{
	/** How many vouchers. */
	count: number;
	/** How many requests are under way at a time. */
	atOnce: number;
	/** Each payer answers the same challenge all round; otherwise each of its vouchers a new one. */
	keepsChallenges: boolean;
}>;

serveSide(async ({ place, folder, channels: count }: Start) => {
	const startedAt = performance.now();
	const shop = await openShop({ ...place, channels: [] }, { folder });
	const info: Info = { startSeconds: (performance.now() - startedAt) / 1_000 };
	const { engine } = shop;
	const domain = domainOf(place);
	const channels = numberedChannels(place);
	const offers = engine.offers("GET /verify", { price: PRICE, unitType: "request" });
	// How often each was drawn: four bytes for each channel, so that the payers take no room from what is measured.
	const draws = new Uint32Array(count);

	/** Signed before the clock runs; what each payer has paid before is in the books. */
	async function prepare({ count: many, keepsChallenges }: Order): Promise<string[]> {
		const kept = new Map<number, Challenge>();
		const headers: string[] = [];
		while (headers.length < many) {
			// The engine follows its chain meanwhile.
			if (headers.length % 100 === 0) await setImmediate();
			const number = Math.floor(Math.random() * count);
			const drawn = (draws[number] ?? 0) + 1;
			draws[number] = drawn;
			const challenge = kept.get(number) ?? engine.challenge(offers)[0];
			if (challenge === undefined) throw new Error("no challenge was made");
			if (keepsChallenges) kept.set(number, challenge);
			const amount = paidBefore(number) + PRICE * BigInt(drawn);
			headers.push(voucherHeader(domain, challenge, channels(number), amount));
		}
		return headers;
	}

	/** What was paid is in the books, and nothing else is. */
	async function checkBooks(): Promise<void> {
		const drawn: number[] = [];
		for (let number = 0; number < count && drawn.length < CHECKED; number++)
			if (draws[number] !== 0) drawn.push(number);
		for (const number of drawn) {
			const { channelId } = channels(number);
			const spent = paidBefore(number) + PRICE * BigInt(draws[number] ?? 0);
			const channel = await shop.store.channel(channelId);
			if (channel?.spent !== spent || channel.acceptedCumulative !== spent)
				throw new Error(`channel ${channelId} has paid ${spent}, and its books say ${channel?.spent}`);
		}
	}

	return {
		info,
		async round(order: Order) {
			const { count: many, atOnce } = order;
			const headers = await prepare(order);
			globalThis.gc?.();
			const round = await measureRound(many, (latenciesMs) =>
				eachAtOnce(headers, atOnce, (header) => pay(engine, paidRequest(offers, "/verify", header)), latenciesMs),
			);
			await checkBooks();
			return round;
		},
		stop: shop.close,
	};
});
