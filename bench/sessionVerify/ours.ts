/** Sluice's side: each voucher is screened, verified, accepted, reserved and captured, and its capture is on disk. */
import { join } from "node:path";
import type { Challenge } from "../../src/protocol/index.ts";
import { measureRound } from "../lib/round.ts";
import { openShop } from "../lib/shop.ts";
import { serveSide } from "../lib/side.ts";
import type { Place } from "../lib/stage.ts";
import { domainOf, voucherHeader } from "../lib/vouchers.ts";

/** What one request costs, in base units. */
const PRICE = 100n;

export type Start = Readonly<{ place: Place; folder: string; fsync: boolean }>;

export type Order = Readonly<{
	/** How many vouchers. */
	count: number;
	/** How many requests are under way at a time, each on a channel of its own. */
	atOnce: number;
}>;

serveSide(async ({ place, folder, fsync }: Start) => {
	const shop = await openShop(place, { folder: join(folder, fsync ? "synced" : "unsynced"), fsync });
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

	async function pay(authorization: string): Promise<void> {
		const request = { method: "GET", url: "/verify", authorization: [authorization], idempotencyKey: undefined };
		const screened = engine.screen({ ...request, offers });
		if (screened.kind === "refused") throw new Error(screened.problem.detail);
		const admission = await engine.admit({ ...request, bodyDigest: "", offers }, screened);
		if (admission.kind !== "admitted") throw new Error(`a voucher was ${admission.kind}`);
		const captured = await admission.capture(() => ({ status: 200, headers: {}, body: null }));
		if (captured.kind !== "captured") throw new Error(captured.problem.detail);
	}

	return {
		info: {},
		async round({ count, atOnce }: Order) {
			challenges.clear();
			const headers = prepare(count);
			let at = 0;
			return measureRound(count, async (latenciesMs) => {
				const worker = async () => {
					for (let header = headers[at++]; header !== undefined; header = headers[at++]) {
						const startedAt = performance.now();
						await pay(header);
						latenciesMs.push(performance.now() - startedAt);
					}
				};
				await Promise.all(Array.from({ length: atOnce }, worker));
			});
		},
		stop: shop.close,
	};
});
