import type { Hex } from "viem";
import { bookChecks, figures, readBooks } from "./books.ts";
import { payAll } from "./channelOutcome.ts";
import type { DemoOptions } from "./demo.ts";
import { check, type Outcome } from "./report.ts";
import { until } from "./until.ts";
import { PRICE, type World } from "./world.ts";

/** No second run within the scenario. */
const HOUR_MS = 3_600_000;

/** The most transactions for 200 channels. */
const transactionsFor = (channels: number) => Math.ceil(channels / 100) + 1;

/**
 * Many channels owe. One run of the policy settles them all, a hundred in a transaction; one whose stored voucher was damaged
 * while the server was down is skipped and reported, and holds up none of the others.
 */
export async function settleManyScenario(
	world: World,
	{ requests: wanted, concurrency, channels: count }: Pick<DemoOptions, "requests" | "concurrency" | "channels">,
	progress: (text: string) => void,
): Promise<Outcome> {
	const { escrow } = world;
	const each = Math.max(1, Math.floor(wanted / count));
	progress(`${count} payers open a channel each and pay ${each} requests`);
	const payers = [world.payer, ...(await world.addPayers(count - 1))];
	const channelIds: Hex[] = [];
	const startedAt = performance.now();
	let ok = 0;
	let next = 0;
	const play = async () => {
		for (let account = payers[next++]; account !== undefined; account = payers[next++]) {
			const agent = world.agent({ account });
			const paid = await payAll(() => agent.fetch(`${world.server.url}/session`), each, 1);
			ok += paid;
			channelIds.push(...agent.channels.map(({ channelId }) => channelId));
			if (channelIds.length % 50 === 0) progress(`  ${channelIds.length} channels`);
		}
	};
	await Promise.all(Array.from({ length: Math.min(concurrency, count) }, play));
	const secondsPaid = (performance.now() - startedAt) / 1_000;
	const requests = each * count;

	progress("the server stops; one channel's stored voucher gets the signature of another channel's");
	const [sabotaged, other] = channelIds as [Hex, ...Hex[]];
	await sabotage(world, sabotaged, other);

	progress("the server starts with a policy that settles whatever is owed");
	const firstBlock = (await world.head()) + 1n;
	const server = await world.restartServer({
		settlement: { maxUnsettled: "1" },
		limits: { settleEveryMs: HOUR_MS },
		tell: ["onSettled", "onSettlementFailed"],
	});
	const told = (name: string) =>
		new Set(server.events.filter(({ event }) => event === name).map((one) => one.channelId));
	await until(
		"every channel was settled or skipped",
		() => told("onSettled").size + told("onSettlementFailed").size >= count,
	);
	const settled = told("onSettled").size;
	const failures = [...told("onSettlementFailed")];
	const transactions = await world.transactionsTo(escrow, firstBlock);

	const books = await readBooks(world, channelIds);
	const outcome = await figures(world, books, { scenario: "settle-many", requests, ok, secondsPaid });
	const paid = books.channels.filter(({ spent, settledOnChain }) => spent > 0n && settledOnChain === spent);
	return {
		...outcome,
		owed: count,
		settled,
		skipped: failures.length,
		transactions,
		checks: [
			check("every request was served", requests, ok),
			check("every channel owed", count, books.channels.filter(({ spent }) => spent === PRICE * BigInt(each)).length),
			check("all but the sabotaged one were settled in full", count - 1, paid.length),
			check("and reported as settled", count - 1, settled),
			check("the sabotaged one was skipped, and reported", sabotaged, failures.join()),
			check(`at most ${transactionsFor(count)} transactions`, true, transactions <= transactionsFor(count)),
			...bookChecks(books, { unpaid: [sabotaged] }),
		],
	};
}

/** Stops the server, and writes over one signature in its store. */
async function sabotage(world: World, channelId: Hex, other: Hex | undefined): Promise<void> {
	const store = await world.openStore();
	try {
		const signature = other === undefined ? undefined : (await store.channel(other))?.voucherSignature;
		const { durable } = await store.transact({ channel: channelId }, ({ channel }) => {
			if (channel === undefined) throw new Error(`the store has no channel ${channelId}`);
			const voucherSignature = signature ?? flipped(channel.voucherSignature);
			return { value: undefined, writes: { channel: { ...channel, voucherSignature } } };
		});
		await durable;
	} finally {
		await store.close();
	}
}

function flipped(signature: Hex): Hex {
	return signature.replace(/^0x./, (start) => (start === "0x1" ? "0x2" : "0x1")) as Hex;
}
