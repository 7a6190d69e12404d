import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Hex } from "viem";
import { verifyEvidence } from "../../client/recovery/verifyEvidence.ts";
import { readEscrow } from "../../escrow/reads.ts";
import { type Agent, startAgent } from "./agent.ts";
import { figures, readBooks } from "./books.ts";
import { advance, fundGas } from "./chainControl.ts";
import type { DemoOptions } from "./demo.ts";
import { check, type Outcome } from "./report.ts";
import type { ServerVariation } from "./serverSettings.ts";
import { until } from "./until.ts";
import { PRICE, type World } from "./world.ts";

/** The server settles when it is told to, and then it is gone. */
export const FORCED_CLOSE_SERVER: ServerVariation = {
	settlement: { maxUnsettled: "1" },
	limits: { settleEveryMs: 3_600_000 },
};

const POLL_MS = 100;

/**
 * An agent, a process of its own, pays; the server settles half of it, and is gone for good. The agent asks the escrow for the
 * close and is killed, twice: with the request on its way, and while it waits. The third one goes on, and gets back exactly
 * `deposit - settled`, after the grace period, by the chain's clock.
 */
export async function forcedCloseScenario(
	world: World,
	options: Pick<DemoOptions, "requests" | "concurrency">,
	progress: (text: string) => void,
): Promise<Outcome> {
	const wallet = await mkdtemp(join(tmpdir(), "sluice-demo-wallet-"));
	const agents: Agent[] = [];
	const start = async () => {
		const agent = await startAgent(settingsOf(world, wallet));
		agents.push(agent);
		return agent;
	};
	try {
		return await play(world, options, start, progress);
	} finally {
		await Promise.all(agents.map((agent) => agent.kill()));
		await rm(wallet, { recursive: true, force: true });
	}
}

async function play(
	world: World,
	{ requests: wanted, concurrency }: Pick<DemoOptions, "requests" | "concurrency">,
	start: () => Promise<Agent>,
	progress: (text: string) => void,
): Promise<Outcome> {
	const { chain, payer, payee, escrow, server, deposit, funds } = world;
	const { closeGraceSeconds: graceSeconds } = await readEscrow(chain.client, escrow, chain.chainId);
	const requests = Math.max(2, wanted);
	const half = Math.floor(requests / 2);
	await fundGas(chain.client, payer.address);

	const first = await start();
	progress(`the agent (process ${first.process.pid}) pays ${half} requests, and the server settles them`);
	const startedAt = performance.now();
	first.command({ pay: half, concurrency });
	const { paid, channelId } = await first.said("paid");
	await server.command({ settle: true });
	const settled = PRICE * BigInt(half);
	await until("the server has settled", async () => (await world.channelOnChain(channelId)).settled === settled);
	const again = await startAgain(first, start);
	progress(`another one pays ${requests - half} more on the same channel; then the server is killed, for good`);
	again.command({ pay: requests - half, concurrency });
	const more = await again.said("paid");
	const secondsPaid = (performance.now() - startedAt) / 1_000;
	server.process.kill("SIGKILL");
	await until("the server is gone", () => server.process.signalCode !== null);

	progress("the agent asks the escrow for the close, and is killed with its request on its way");
	again.command({ requestClose: channelId });
	await again.said("phase", "mining");
	const second = await startAgain(again, start);
	second.command({ requestClose: channelId });
	const { requested } = await second.said("requested");

	progress(`it waits for the end of the grace period of ${graceSeconds} s, and is killed again`);
	second.command({ withdraw: channelId });
	await second.said("phase", "grace");
	const third = await startAgain(second, start);
	third.command({ withdraw: channelId });
	await third.said("phase", "grace");
	const early = await world.balance(payer.address);

	progress("the chain's clock goes on by the grace period, and the agent withdraws");
	await advance(chain.client, graceSeconds);
	const { withdrawn } = await third.said("withdrawn");
	third.command({ evidence: channelId });
	const { evidence } = await third.said("evidence");

	const onChain = await world.channelOnChain(channelId);
	const late = await world.balance(payer.address);
	const waited = await secondsBetween(world, channelId, "CloseRequested", "Withdrawn");
	const books = await readBooks(world, [channelId]);
	const ok = paid + more.paid;
	const outcome = await figures(world, books, { scenario: "forced-close", requests, ok, secondsPaid });
	const verdict = verifyEvidence(evidence);
	return {
		...outcome,
		graceSeconds,
		withdrawnAfterSeconds: waited,
		signed: more.signed,
		agentProcesses: 4,
		requested: requested.outcome,
		withdrawn,
		evidence: verdict.checks,
		checks: [
			check("every request was served", requests, ok),
			check("both agents paid on one channel", channelId, more.channelId),
			check("the server settled half", settled, onChain.settled),
			check("nothing came back before the grace period was over", funds - deposit, early),
			check("it was withdrawn after the grace period", true, waited >= graceSeconds),
			check("exactly deposit - settled came back", onChain.deposit - onChain.settled, late - early),
			check("as the client says", late - early, withdrawn.refund),
			check("by the payer itself", "withdrawn", withdrawn.outcome),
			check("the payer has all but what was settled", funds - settled, late),
			check("the payee received what was settled", settled, await world.balance(payee.address)),
			check("the escrow keeps nothing", 0n, books.inEscrow),
			check("the channel is closed", true, onChain.finalized),
			check("vouchers were signed for what was served", PRICE * BigInt(requests), more.signed),
			check(
				"the payer sent two transactions, whenever it was killed",
				2,
				await chain.client.getTransactionCount({ address: payer.address }),
			),
			check("payer, payee and escrow have together what the payer had before", books.before, books.after),
			check("a stranger finds the evidence consistent", true, verdict.isConsistent),
		],
	};
}

/** Kills an agent; another one takes its place. */
async function startAgain(agent: Agent, start: () => Promise<Agent>): Promise<Agent> {
	await agent.kill();
	return start();
}

async function secondsBetween(
	{ eventsOf, timestamp }: World,
	channelId: Hex,
	from: string,
	to: string,
): Promise<number> {
	const events = await eventsOf(channelId);
	const secondsOf = async (name: string) => {
		const event = events.find((one) => one.name === name);
		if (event === undefined) throw new Error(`the escrow tells of no ${name}`);
		return timestamp(event.blockNumber);
	};
	return (await secondsOf(to)) - (await secondsOf(from));
}

function settingsOf({ chain, escrow, token, payerKey, server, deposit }: World, wallet: string) {
	return {
		rpcUrl: chain.url,
		chainId: chain.chainId,
		escrow,
		token,
		privateKey: payerKey,
		wallet,
		url: `${server.url}/session`,
		maxDeposit: String(deposit),
		maxPrice: String(PRICE),
		pollMs: POLL_MS,
	};
}
