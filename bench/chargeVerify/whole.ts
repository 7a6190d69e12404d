/** Sluice's side of whole charges: as a paid server does it, with the chain mining each transaction at once. */
import { join } from "node:path";
import { readTokenDomain } from "../../src/escrow/index.ts";
import { eachAtOnce, paidRequest, pay } from "../lib/pay.ts";
import { measureRound } from "../lib/round.ts";
import { engineOptions, openShop } from "../lib/shop.ts";
import { serveSide } from "../lib/side.ts";
import type { Place } from "../lib/stage.ts";
import { chargeHeader, type Payer } from "./charges.ts";

/** How often the sender looks for a receipt: the chain has it within milliseconds, unlike a public one. */
const RECEIPT_POLL_MS = 20;

/** `payers` have tokens on chain. */
export type Start = Readonly<{ place: Place; folder: string; payers: readonly Payer[]; price: bigint }>;
export type Order = Readonly<{ count: number; atOnce: number }>;

serveSide(async ({ place, folder, payers, price }: Start) => {
	const options = { receiptPollMs: RECEIPT_POLL_MS };
	const { engine, store, close } = await openShop(place, { folder: join(folder, "whole"), options });
	const { client, account } = engineOptions(place, store);
	const tokenDomain = await readTokenDomain(client, place.token, place.chainId);
	const offers = engine.offers("GET /charge", { price: String(price), intent: "charge" });
	let next = 0;

	function prepare(count: number) {
		return Array.from({ length: count }, () => {
			const payer = payers[next++ % payers.length];
			const [challenge] = engine.challenge(offers);
			if (payer === undefined || challenge === undefined) throw new Error("nobody pays");
			return chargeHeader(tokenDomain, challenge, payer, { to: account.address, value: price });
		});
	}

	return {
		info: {},
		round({ count, atOnce }: Order) {
			const headers = prepare(count);
			const work = (header: string) => pay(engine, paidRequest(offers, "/charge", header));
			return measureRound(count, (latenciesMs) => eachAtOnce(headers, atOnce, work, latenciesMs));
		},
		stop: close,
	};
});
