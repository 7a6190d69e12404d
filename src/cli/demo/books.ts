/** Who has what at the end, and what the ledger says of it. */
import type { Hex } from "viem";
import { type Check, check } from "./report.ts";
import { PRICE, type World } from "./world.ts";

/** One channel in the ledger and on chain, in base units. */
export type Book = Readonly<{
	channelId: Hex;
	deposit: bigint;
	acceptedCumulative: bigint;
	spent: bigint;
	/** By the escrow, and as the ledger knows it. */
	settledOnChain: bigint;
	knownSettled: bigint;
	/** Closed for ever: by the escrow, and as the ledger knows it. */
	finalized: boolean;
	knownFinalized: boolean;
}>;

/** All channels of a scenario, and all who hold tokens. */
export type Books = Readonly<{
	channels: readonly Book[];
	payeeReceived: bigint;
	/** What payers got back of their deposits. */
	payerRefunded: bigint;
	inEscrow: bigint;
	/** What payers had before, and what payers, payee and escrow have together now. */
	before: bigint;
	after: bigint;
}>;

/** Reads ledger and chain. Stops the server, which lets go of the store. */
export async function readBooks(world: World, channelIds: readonly Hex[]): Promise<Books> {
	const { payers, payee, escrow, funds } = world;
	const channels: Book[] = [];
	const store = await world.openStore();
	try {
		for (const channelId of channelIds) {
			const ledger = await store.channel(channelId);
			if (ledger === undefined) throw new Error(`the store has no channel ${channelId}`);
			const { deposit, settled, finalized } = await world.channelOnChain(channelId);
			const { acceptedCumulative, spent, settledOnChain: knownSettled, finalized: knownFinalized } = ledger;
			const known = { acceptedCumulative, spent, knownSettled, knownFinalized };
			channels.push({ channelId, deposit, settledOnChain: settled, finalized, ...known });
		}
	} finally {
		await store.close();
	}
	const payeeReceived = await world.balance(payee.address);
	const inEscrow = await world.balance(escrow);
	const held = total(await Promise.all(payers.map(({ address }) => world.balance(address))));
	const before = funds * BigInt(payers.length);
	const payerRefunded = held - (before - total(channels.map(({ deposit }) => deposit)));
	return { channels, payeeReceived, payerRefunded, inEscrow, before, after: held + payeeReceived + inEscrow };
}

/** What a scenario did with its channels. */
export type Played = Readonly<{ scenario: string; requests: number; ok: number; secondsPaid: number }>;

/** The figures that every scenario with channels tells; sums where there are several. */
export async function figures(world: World, books: Books, { scenario, requests, ok, secondsPaid }: Played) {
	const { chain, escrow, storePath, server } = world;
	const sum = (of: (book: Book) => bigint) => String(total(books.channels.map(of)));
	return {
		scenario,
		requests,
		ok,
		failed: requests - ok,
		price: String(PRICE),
		deposit: sum(({ deposit }) => deposit),
		acceptedCumulative: sum(({ acceptedCumulative }) => acceptedCumulative),
		spent: sum(({ spent }) => spent),
		settledOnChain: sum(({ settledOnChain }) => settledOnChain),
		payeeReceived: String(books.payeeReceived),
		payerRefunded: String(books.payerRefunded),
		sessionTransactions: await world.transactionsTo(escrow),
		secondsPaid: Number(secondsPaid.toFixed(3)),
		requestsPerSecond: Math.round(requests / secondsPaid),
		channelId: books.channels[0]?.channelId,
		chainId: chain.chainId,
		storePath,
		maxVouchersPerSecond: server.maxVouchersPerSecond === 0 ? "unlimited" : server.maxVouchersPerSecond,
	} as const;
}

/**
 * Whether the books balance.
 *
 * @param unpaid channels whose money is not on chain, because they were made to fail
 */
export function bookChecks(
	books: Books,
	{ unpaid = [] }: Readonly<{ unpaid?: readonly Hex[] }> = {},
): readonly Check[] {
	const { channels, before, after, payeeReceived, inEscrow } = books;
	const sum = (of: (book: Book) => bigint) => total(channels.map(of));
	const count = (wrong: (book: Book) => boolean) => channels.filter(wrong).length;
	const open = channels.filter(({ finalized }) => !finalized);
	return [
		check("payers, payee and escrow have together what payers had before", before, after),
		check(
			"the payee received what was settled",
			sum(({ settledOnChain }) => settledOnChain),
			payeeReceived,
		),
		check(
			"the escrow keeps what open channels have left",
			total(open.map(({ deposit, settledOnChain }) => deposit - settledOnChain)),
			inEscrow,
		),
		check(
			"channels that spent more than was captured",
			unpaid.length,
			count(({ spent, settledOnChain }) => spent > settledOnChain),
		),
		check(
			"channels of which more was captured than accepted or deposited",
			0,
			count(
				({ settledOnChain, acceptedCumulative, deposit }) =>
					settledOnChain > acceptedCumulative || settledOnChain > deposit,
			),
		),
		check(
			"channels that the ledger and the chain do not agree on",
			0,
			count((book) => book.knownSettled !== book.settledOnChain || book.knownFinalized !== book.finalized),
		),
	];
}

function total(amounts: readonly bigint[]): bigint {
	return amounts.reduce((sum, amount) => sum + amount, 0n);
}
