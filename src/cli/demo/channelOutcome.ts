import type { Hex } from "viem";
import { check, type Outcome } from "./report.ts";
import { PRICE, type World } from "./world.ts";

/** What a scenario did with its channel. */
export type ChannelRun = Readonly<{
	scenario: string;
	channelId: Hex;
	requests: number;
	ok: number;
	secondsPaid: number;
	/** How many transactions it should have taken in the escrow. */
	transactions: number;
}>;

/** The ledger's figures beside the chain's, after the channel was closed. Stops the server, which lets go of the store. */
export async function channelOutcome(
	world: World,
	{ scenario, channelId, requests, ok, secondsPaid, transactions }: ChannelRun,
): Promise<Outcome> {
	const { chain, escrow, payer, payee, funds, storePath, server } = world;
	const store = await world.openStore();
	const ledger = await store.channel(channelId).finally(() => store.close());
	if (ledger === undefined) throw new Error(`the store has no channel ${channelId}`);
	const onChain = await world.channelOnChain(channelId);
	const payeeReceived = await world.balance(payee.address);
	const payerRefunded = (await world.balance(payer.address)) - (funds - onChain.deposit);
	const sessionTransactions = await world.transactionsTo(escrow);
	const paid = PRICE * BigInt(requests);
	return {
		scenario,
		requests,
		ok,
		failed: requests - ok,
		price: String(PRICE),
		deposit: String(onChain.deposit),
		acceptedCumulative: String(ledger.acceptedCumulative),
		spent: String(ledger.spent),
		settledOnChain: String(onChain.settled),
		payeeReceived: String(payeeReceived),
		payerRefunded: String(payerRefunded),
		sessionTransactions,
		secondsPaid: Number(secondsPaid.toFixed(3)),
		requestsPerSecond: Math.round(requests / secondsPaid),
		channelId,
		chainId: chain.chainId,
		storePath,
		maxVouchersPerSecond: server.maxVouchersPerSecond === 0 ? "unlimited" : server.maxVouchersPerSecond,
		checks: [
			check("every request was served", requests, ok),
			check("the ledger accepted what was asked for", paid, ledger.acceptedCumulative),
			check("the ledger spent what was served", paid, ledger.spent),
			check("the escrow settled what was spent", ledger.spent, onChain.settled),
			check("the ledger knows what was settled", onChain.settled, ledger.settledOnChain),
			check("the payee received what was settled", onChain.settled, payeeReceived),
			check("the payer got the rest back", onChain.deposit - onChain.settled, payerRefunded),
			check("the escrow keeps nothing", 0n, await world.balance(escrow)),
			check("the channel is closed", true, onChain.finalized && ledger.finalized),
			check(`${NUMBERS[transactions] ?? transactions} transactions in all`, transactions, sessionTransactions),
		],
	};
}

const NUMBERS: Readonly<Record<number, string>> = { 2: "two", 3: "three" };

/** Sends `count` requests, `concurrency` at a time; resolves to how many were answered with success. */
export async function payAll(
	pay: () => Promise<Response>,
	count: number,
	concurrency: number,
	progress: (text: string) => void,
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
