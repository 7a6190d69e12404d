/** Sluice's side: what a `PaymentClient` does for each voucher. */
import { join } from "node:path";
import { Level } from "level";
import { privateKeyToAccount } from "viem/accounts";
import { LevelPayerStore, MemoryPayerStore, type PayerStore } from "../../src/client/index.ts";
import { type KeyAccount, keyAccount } from "../../src/client/node/index.ts";
import { parseCredential, parseSessionPayload } from "../../src/protocol/index.ts";
import { measureRound } from "../lib/round.ts";
import { serveSide } from "../lib/side.ts";
import type { Place } from "../lib/stage.ts";
import { domainOf, signQuickly } from "../lib/vouchers.ts";
import { openClient, openPayer } from "./payer.ts";

/** Where records are kept, and what signs: `keyAccount` of `sluice/client/node`, or the account that viem makes. */
export type Start = Readonly<{ place: Place; folder: string; store: "memory" | "disk"; account: "native" | "viem" }>;

export type Info = Readonly<{ curve: KeyAccount["curve"] }>;

export type Order = Readonly<{
	/** Headers; the signatures of vouchers alone; or whole requests that are answered within the process. */
	work: "header" | "signature" | "request";
	count: number;
	/** How many are under way at a time. */
	atOnce: number;
}>;

serveSide<Start, Order, Info>(async ({ place, folder, store: kind, account }) => {
	const [open] = place.channels;
	if (open === undefined) throw new Error("the stage has no channel");
	const stores: PayerStore[] = [];
	const newStore = async () => {
		const db = new Level<string, string>(join(folder, `${kind}-${account}-${stores.length}`));
		const store = kind === "memory" ? new MemoryPayerStore() : await LevelPayerStore.open({ db });
		stores.push(store);
		return store;
	};
	const accountOf = account === "native" ? keyAccount : privateKeyToAccount;
	// Each has books of its own: the channel is the same, and nobody settles it.
	const payer = await openPayer({ place, open, accountOf, store: await newStore() });
	const request = openClient({ place, open, accountOf, store: await newStore() });
	let last = "";
	const works: Record<Order["work"], () => Promise<void>> = {
		async header() {
			last = await payer.header();
		},
		async signature() {
			await payer.signature();
		},
		request,
	};

	/** Those that were under way at a time end in any order; alone, the last header is for all that was signed. */
	function checkLast(atOnce: number): void {
		const payload = parseSessionPayload(parseCredential(last).payload);
		if (payload.action !== "voucher") throw new Error("that is no voucher's header");
		const { cumulativeAmount, signature } = payload;
		if (atOnce === 1 && cumulativeAmount !== payer.signed())
			throw new Error(`the last voucher is for ${cumulativeAmount}, not ${payer.signed()}`);
		if (open === undefined || signature !== signQuickly(domainOf(place), open, cumulativeAmount))
			throw new Error("Sluice has signed something else");
	}

	return {
		info: { curve: account === "native" ? keyAccount(open.signerKey).curve : "portable" },
		async round({ work, count, atOnce }) {
			let left = count;
			const begun = Promise.withResolvers<void>();
			const measured = await measureRound(count, async (latenciesMs) => {
				const worker = async () => {
					while (left-- > 0) {
						const startedAt = performance.now();
						await works[work]();
						latenciesMs.push(performance.now() - startedAt);
						begun.resolve();
					}
				};
				// Half of them come a little later, as requests do not all come at the same moment: while the records of some
				// are on their way to the disk, the vouchers of the others are signed.
				const isLate = (number: number) => number >= atOnce / 2;
				await Promise.all(
					Array.from({ length: atOnce }, (_, number) => (isLate(number) ? begun.promise.then(worker) : worker())),
				);
			});
			if (work === "header") checkLast(atOnce);
			return measured;
		},
		async stop() {
			await Promise.all(stores.map((store) => store.close()));
		},
	};
});
