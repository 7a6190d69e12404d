import type { LocalAccount } from "viem";
import { requestCloseCall } from "../../escrow/calls.ts";
import { bookChecks, figures, readBooks } from "./books.ts";
import { mineAtBaseFee } from "./chainControl.ts";
import { payAll } from "./channelOutcome.ts";
import type { DemoOptions } from "./demo.ts";
import { check, type Outcome } from "./report.ts";
import { until } from "./until.ts";
import { PRICE, type World } from "./world.ts";

const GWEI = 10n ** 9n;
const CALM_WEI = GWEI;
const SPIKE_WEI = 200n * GWEI;

/** About what one channel of a batch of two takes. */
const GAS_PER_CHANNEL = 40_000n;

/** How many times its gas a settlement has to be worth that nobody waits for. */
const VALUE_TO_GAS = 10;

const POLL_MS = 500;

/**
 * Gas gets two hundred times dearer while channels owe. What can wait does wait; what a payer's close request puts at risk is brought in if
 * it is worth its gas, and reported if it is not. When gas is cheap again the rest follows.
 */
export async function gasSpikeScenario(
	world: World,
	{ requests: wanted, concurrency }: Pick<DemoOptions, "requests" | "concurrency">,
	progress: (text: string) => void,
): Promise<Outcome> {
	const { chain, escrow } = world;
	const each = Math.max(8, Math.floor(wanted / 6.125));
	// Four times as much is worth the gas of a close, and not ten times that; an eighth is worth it when gas is cheap.
	const counts = { waiting: each, "waiting as well": each, urgent: 4 * each, tiny: Math.floor(each / 8) };
	const payers = await world.addPayers(Object.keys(counts).length, { gas: true });
	const startedAt = performance.now();
	let ok = 0;
	const players = [];
	for (const [at, [name, count]] of Object.entries(counts).entries()) {
		const account = payers[at] as LocalAccount;
		const agent = world.agent({ account });
		progress(`a payer (${name}) pays ${count} requests`);
		ok += await payAll(() => agent.fetch(`${world.server.url}/session`), count, concurrency);
		const [channel] = agent.channels;
		if (channel === undefined) throw new Error("the payer has no channel");
		players.push({ account, channelId: channel.channelId });
	}
	const requests = Object.values(counts).reduce((sum, count) => sum + count, 0);
	const secondsPaid = (performance.now() - startedAt) / 1_000;
	const [, , urgent, tiny] = players as [Player, Player, Player, Player];

	progress(`gas costs ${SPIKE_WEI / GWEI} gwei; two of the payers ask the chain to close`);
	await mineAtBaseFee(chain.client, SPIKE_WEI);
	const firstBlock = (await world.head()) + 1n;
	const server = await world.restartServer({
		settlement: { maxUnsettled: "1", minValueToGas: VALUE_TO_GAS, coinPrice: String(coinPrice(PRICE * BigInt(each))) },
		watch: { pollMs: POLL_MS },
		limits: { settleEveryMs: POLL_MS },
		tell: ["onSettled", "onAtRisk"],
	});
	for (const { account, channelId } of [urgent, tiny]) await world.send(account, requestCloseCall(escrow, channelId));
	const settled = () => new Set(server.events.filter(({ event }) => event === "onSettled").map((one) => one.channelId));
	await until("the urgent one was settled", () => settled().has(urgent.channelId));
	await until("the tiny one was reported", () =>
		server.events.some((one) => one.event === "onAtRisk" && one.channelId === tiny.channelId),
	);
	// Some runs more, which have to leave the others where they are.
	await new Promise((resolve) => setTimeout(resolve, 4 * POLL_MS));
	const urgentSent = settled().has(urgent.channelId) ? 1 : 0;
	const sentDuringSpike = settled().size - urgentSent;
	const spikeTransactions = (await world.transactionsTo(escrow, firstBlock)) - 2;

	progress(`gas costs ${CALM_WEI / GWEI} gwei again`);
	await mineAtBaseFee(chain.client, CALM_WEI);
	await until("the rest was settled", () => settled().size === players.length);
	const settledAfter = settled().size - urgentSent - sentDuringSpike;

	const books = await readBooks(
		world,
		players.map(({ channelId }) => channelId),
	);
	const outcome = await figures(world, books, { scenario: "gas-spike", requests, ok, secondsPaid });
	return {
		...outcome,
		sentDuringSpike,
		urgentSent,
		settledAfter,
		checks: [
			check("every request was served", requests, ok),
			check("settlements that were not worth their gas and were sent", 0, sentDuringSpike),
			check("the one at risk was brought in, by one transaction", "1 1", `${urgentSent} ${spikeTransactions}`),
			check("the rest followed when gas was cheap again", players.length - 1, settledAfter),
			check("and its channel was closed", true, books.channels[players.indexOf(urgent)]?.finalized),
			...bookChecks(books),
		],
	};
}

type Player = Readonly<{ account: LocalAccount; channelId: `0x${string}` }>;

/** What a coin is worth so that all that a waiting channel owes, `value`, just pays for its gas during the spike. */
function coinPrice(value: bigint): bigint {
	return (value * 10n ** 18n) / (GAS_PER_CHANNEL * SPIKE_WEI);
}
