import type { Hex } from "viem";
import { figures, type Played, readBooks } from "./books.ts";
import { check, type Outcome } from "./report.ts";
import { PRICE, type World } from "./world.ts";

/** What a scenario did with its channel. */
export type ChannelRun = Played &
	Readonly<{
		channelId: Hex;
		/** How many transactions it should have taken in the escrow. */
		transactions: number;
	}>;

/** The ledger's figures beside the chain's, after the channel was closed. Stops the server, which lets go of the store. */
export async function channelOutcome(world: World, run: ChannelRun): Promise<Outcome> {
	const { channelId, requests, ok, transactions } = run;
	const books = await readBooks(world, [channelId]);
	const [book] = books.channels;
	if (book === undefined) throw new Error("there are no books of the channel");
	const { deposit, acceptedCumulative, spent, settledOnChain } = book;
	const outcome = await figures(world, books, run);
	const paid = PRICE * BigInt(requests);
	return {
		...outcome,
		checks: [
			check("every request was served", requests, ok),
			check("the ledger accepted what was asked for", paid, acceptedCumulative),
			check("the ledger spent what was served", paid, spent),
			check("the escrow settled what was spent", spent, settledOnChain),
			check("the ledger knows what was settled", settledOnChain, book.knownSettled),
			check("the payee received what was settled", settledOnChain, books.payeeReceived),
			check("the payer got the rest back", deposit - settledOnChain, books.payerRefunded),
			check("the escrow keeps nothing", 0n, books.inEscrow),
			check("the channel is closed", true, book.finalized && book.knownFinalized),
			check(`${NUMBERS[transactions] ?? transactions} transactions in all`, transactions, outcome.sessionTransactions),
		],
	};
}

const NUMBERS: Readonly<Record<number, string>> = { 2: "two", 3: "three" };

/** Sends `count` requests, `concurrency` at a time; resolves to how many were answered with success. */
export async function payAll(
	pay: () => Promise<Response>,
	count: number,
	concurrency: number,
	progress: (text: string) => void = () => undefined,
): Promise<number> {
	const step = Math.max(1, Math.floor(count / 4));
	let started = 0;
	let ok = 0;
	const worker = async () => {
		while (started < count) {
			started++;
			const response = await pay();
			await response.arrayBuffer();
			if (response.ok) ok++;
			if (ok % step === 0) progress(`  ${ok} paid`);
		}
	};
	await Promise.all(Array.from({ length: Math.min(concurrency, count) }, worker));
	return ok;
}
