/** Sluice's side: each voucher is screened, verified, accepted, reserved and captured, and its capture is on disk. */
import { join } from "node:path";
import type { Challenge } from "../../src/protocol/index.ts";
import { eachAtOnce, paidRequest, pay } from "../lib/pay.ts";
import { measureRound } from "../lib/round.ts";
import { openShop } from "../lib/shop.ts";
import { serveSide } from "../lib/side.ts";
import type { Place } from "../lib/stage.ts";
import { domainOf, voucherHeader } from "../lib/vouchers.ts";

/** What one request costs, in base units. */
const PRICE = 100n;

export type Start = Readonly<{
	place: Place;
	folder: string;
	fsync: boolean;
	/** Threads that verify beside the engine's own; as many as the engine has by default. */
	threads?: number | undefined;
}>;

export type Order = Readonly<{
	/** How many vouchers. */
	count: number;
	/** How many requests are under way at a time. */
	atOnce: number;
}>;

serveSide(async ({ place, folder, fsync, threads }: Start) => {
	const books = join(folder, `books-${process.pid}`);
	const options = threads === undefined ? {} : { verifierThreads: threads };
	const shop = await openShop(place, { folder: books, fsync, options });
	const { engine } = shop;
	const domain = domainOf(place);
	const offers = engine.offers("GET /verify", { price: PRICE, unitType: "request" });
	// Each payer has its own challenge, which it answers again and again while it is good (D9).
	const challenges = new Map<string, Challenge>();
	const signed = new Map<string, bigint>();
	let next = 0;

	/** Signed before the clock runs: the payer's work is another bench's. */
	function prepare(count: number): readonly string[] {
		return Array.from({ length: count }, () => {
			const channel = place.channels[next++ % place.channels.length];
			if (channel === undefined) throw new Error("the stage has no channels");
			const { channelId } = channel;
			let challenge = challenges.get(channelId);
			if (challenge === undefined) {
				[challenge] = engine.challenge(offers);
				if (challenge === undefined) throw new Error("no challenge was made");
				challenges.set(channelId, challenge);
			}
			const cumulativeAmount = (signed.get(channelId) ?? 0n) + PRICE;
			signed.set(channelId, cumulativeAmount);
			return voucherHeader(domain, challenge, channel, cumulativeAmount);
		});
	}

	return {
		info: {},
		async round({ count, atOnce }: Order) {
			challenges.clear();
			const headers = prepare(count);
			return measureRound(count, (latenciesMs) =>
				eachAtOnce(headers, atOnce, (header) => pay(engine, paidRequest(offers, "/verify", header)), latenciesMs),
			);
		},
		stop: shop.close,
	};
});
