/**
 * Sluice's side: channels owe by vouchers that its engine has accepted, and one run of its settlement brings all of it in. The
 * clock runs from the run's beginning until each receipt was seen and what follows from it is on disk.
 */
import { join } from "node:path";
import type { Hex } from "viem";
import { eachAtOnce, paidRequest, pay } from "../lib/pay.ts";
import { measureRound, type Round } from "../lib/round.ts";
import { engineOptions, openShop } from "../lib/shop.ts";
import { serveSide } from "../lib/side.ts";
import type { Place } from "../lib/stage.ts";
import { domainOf, voucherHeader } from "../lib/vouchers.ts";

/** What each channel owes in each round, in base units. */
export const OWED = 100n;

/** No run but the one that is measured. */
const NEVER_MS = 3_600_000;
/** How often the sender looks for a receipt: the chain has it within milliseconds, unlike a public one. */
const RECEIPT_POLL_MS = 20;
const PAYERS_AT_ONCE = 64;

/** `batchSize`: the policy's; absent its default. */
export type Start = Readonly<{ place: Place; folder: string; batchSize?: number }>;
export type Order = Readonly<Record<string, never>>;

/** A round, `count` channels settled, and what it took on chain. */
export type SettledRound = Round & Readonly<{ transactions: number; gasUsed: number }>;

serveSide(async ({ place, folder, batchSize }: Start) => {
	const settled: Hex[] = [];
	const hashes = new Set<Hex>();
	const { engine, store, close } = await openShop(place, {
		folder: join(folder, `settle-${batchSize ?? "default"}`),
		options: {
			settlement: { maxUnsettled: 1n, ...(batchSize !== undefined && { batchSize }) },
			limits: { settleEveryMs: NEVER_MS },
			receiptPollMs: RECEIPT_POLL_MS,
			hooks: {
				onSettled({ channelId, txHash }) {
					settled.push(channelId);
					hashes.add(txHash);
				},
			},
		},
	});
	const { client } = engineOptions(place, store);
	const domain = domainOf(place);
	const offers = engine.offers("GET /settle", { price: OWED, unitType: "request" });
	let owed = 0n;

	/** Each payer buys once. */
	async function owe(): Promise<void> {
		owed += OWED;
		const headers = place.channels.map((channel) => {
			const [challenge] = engine.challenge(offers);
			if (challenge === undefined) throw new Error("no challenge was made");
			return voucherHeader(domain, challenge, channel, owed);
		});
		await eachAtOnce(headers, PAYERS_AT_ONCE, (header) => pay(engine, paidRequest(offers, "/settle", header)));
	}

	return {
		info: {},
		async round(_: Order): Promise<SettledRound> {
			await owe();
			settled.length = 0;
			hashes.clear();
			const round = await measureRound(place.channels.length, () => engine.settle());
			const missing = place.channels.length - new Set(settled).size;
			if (missing > 0) throw new Error(`${missing} channels were not settled`);
			let gasUsed = 0;
			for (const hash of hashes) gasUsed += Number((await client.getTransactionReceipt({ hash })).gasUsed);
			return { ...round, transactions: hashes.size, gasUsed };
		},
		stop: close,
	};
});
