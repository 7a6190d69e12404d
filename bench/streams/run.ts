import { type ChildProcess, fork } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, loadavg, tmpdir } from "node:os";
import { extname, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { type Address, encodeFunctionData } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { type LocalChain, startChain } from "../../src/cli/demo/chain.ts";
import { fundGas, rpc } from "../../src/cli/demo/chainControl.ts";
import { deployContracts } from "../../src/cli/demo/deploy.ts";
import { testUsdcAbi } from "../../src/cli/demo/generated/testUsdc.ts";
import { until } from "../../src/cli/demo/until.ts";
import { readBalance } from "../../src/escrow/reads.ts";
import { ask, type Counts, type Plan, PRICE, type ServerFigures } from "./messages.ts";

/** What a run has found. Sizes in bytes. */
export type StreamsReport = Readonly<{
	machine: string;
	node: string;
	/** Of the machine, when the run began. */
	loadAverage: number;
	plan: Plan;
	secondsToOpen: number;
	/** Pieces that payers have read, and what both sides have in their books for them, in units. */
	delivered: number;
	consumed: number;
	spent: number;
	/** Channels of which the three are not the same. */
	unequal: number;
	piecesPerSecond: number;
	/** Vouchers that a stream waited for, and how long it took from their arrival until it went on. */
	vouchersWaitedFor: number;
	delayMs: Spread;
	loopDelayP99Ms: number;
	server: MemoryFigures;
	load: MemoryFigures;
	listenersAtFirst: number;
	listenersAtMost: number;
	/** What there was before the first connection, and after the last one. */
	before: Counts;
	after: Counts;
}>;

export type Spread = Readonly<{ median: number; p90: number; p99: number; most: number }>;

/** After collections: at the beginning, the middle, the end; and the resident size over the run. */
export type MemoryFigures = Readonly<{
	heap: readonly number[];
	rss: readonly number[];
	rssMost: number;
	cpuShare: number;
}>;

/** How many figures of a run's memory are told. */
const TOLD = 5;

/** Deposited for besides what the time allows. */
const SPARE_PIECES = 1_000;

/** How long what is left behind may take to go: less than a meter waits for a voucher. */
const SETTLE_MS = 10_000;
const LOOK_MS = 200;

/** Runs streams as planned, on a chain, a server and payers of their own. */
export async function runStreams(plan: Plan, progress: (text: string) => void): Promise<StreamsReport> {
	const loadAverage = loadavg()[0] ?? 0;
	const folder = await mkdtemp(join(tmpdir(), "sluice-bench-"));
	const chain = await startChain();
	const server = start("server");
	const load = start("load");
	try {
		progress(`${plan.streams} payers get their tokens`);
		const payers = Array.from({ length: plan.streams }, () => generatePrivateKey());
		const payee = generatePrivateKey();
		const most = plan.pieces > 0 ? plan.pieces : (1_000 * plan.seconds) / Math.max(1, plan.pauseMs) + SPARE_PIECES;
		const deposit = PRICE * BigInt(Math.ceil(most) + plan.ahead + 2);
		const deployer = chain.account(0);
		const { token, escrow } = await deployContracts(chain, deployer, deployer.address, 1n);
		await fundGas(chain.client, privateKeyToAccount(payee).address);
		await fund(
			chain,
			token,
			payers.map((key) => privateKeyToAccount(key).address),
			deposit,
		);

		const place = { rpcUrl: chain.url, chainId: chain.chainId, token, escrow };
		const secret = randomBytes(32).toString("base64url");
		const store = join(folder, "store");
		const { url } = await ask(server, { order: "listen", place, plan, folder: store, privateKey: payee, secret });
		const before = await ask(server, { order: "count" });
		progress("they open their channels");
		const { seconds: secondsToOpen } = await ask(load, { order: "open", place, plan, url, payers, deposit });
		progress(plan.seconds > 0 ? `they stream for ${plan.seconds} s` : `${plan.pieces} pieces are streamed`);
		const { channels, ...taken } = await ask(load, { order: "stream" });
		const figures = await ask(server, { order: "figures" });
		// Their connections go with them.
		await end(load);
		const after = await settledCounts(server, before);
		const spent = await ask(server, { order: "spent" });
		await ask(server, { order: "stop" });

		const sum = (amounts: readonly bigint[]) => Number(amounts.reduce((total, amount) => total + amount, 0n) / PRICE);
		return {
			machine: `${cpus().length} x ${cpus()[0]?.model ?? "unknown"}, ${process.platform} ${process.arch}`,
			node: process.version,
			loadAverage,
			plan,
			secondsToOpen,
			// The request that opened the channel was one unit.
			delivered: channels.reduce((total, { pieces }) => total + pieces + 1, 0),
			consumed: sum(channels.map(({ consumed }) => consumed)),
			spent: sum([...spent.values()]),
			unequal: channels.filter(
				({ channelId, pieces, consumed }) =>
					consumed !== PRICE * BigInt(pieces + 1) || consumed !== spent.get(channelId),
			).length,
			...told(figures),
			load: memoryFigures(taken),
			before,
			after,
		};
	} finally {
		await Promise.all([end(server), end(load)]);
		await chain.stop();
		await rm(folder, { recursive: true, force: true });
	}
}

function told({ delaysMs, ...figures }: ServerFigures) {
	const { piecesPerSecond, loopDelayP99Ms, listenersAtFirst, listenersAtMost } = figures;
	return {
		piecesPerSecond,
		vouchersWaitedFor: delaysMs.length,
		delayMs: spread(delaysMs),
		loopDelayP99Ms,
		server: memoryFigures(figures),
		listenersAtFirst,
		listenersAtMost,
	};
}

function spread(values: readonly number[]): Spread {
	const sorted = [...values].sort((a, b) => a - b);
	const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0;
	return { median: at(0.5), p90: at(0.9), p99: at(0.99), most: sorted.at(-1) ?? 0 };
}

function memoryFigures({ samples, cpuShare }: Pick<ServerFigures, "samples" | "cpuShare">): MemoryFigures {
	const rss = samples.map((sample) => sample.rss);
	const few = Array.from({ length: TOLD }, (_, at) => rss[Math.round((at * (rss.length - 1)) / (TOLD - 1))] ?? 0);
	return { heap: samples.flatMap(({ heap }) => heap ?? []), rss: few, rssMost: Math.max(...rss), cpuShare };
}

function start(name: "server" | "load"): ChildProcess {
	const script = new URL(`./${name}${extname(import.meta.url)}`, import.meta.url);
	const execArgv = ["--expose-gc", "--disable-warning=ExperimentalWarning"];
	return fork(script, { execArgv, serialization: "advanced" });
}

async function end(child: ChildProcess): Promise<void> {
	if (child.exitCode !== null || child.signalCode !== null) return;
	const ended = once(child, "exit");
	child.kill("SIGKILL");
	await ended;
}

/** Connections and what follows from them take a moment to end. A timer of a wait that is over would take longer. */
async function settledCounts(server: ChildProcess, before: Counts): Promise<Counts> {
	const deadline = performance.now() + SETTLE_MS;
	for (;;) {
		const counts = await ask(server, { order: "count" });
		const { sockets, meters, bodies, activeTimers } = counts;
		// Calls of the chain have signals too, and one may be under way.
		const isSettled = sockets + meters + bodies + activeTimers === 0 && counts.abortSignals <= before.abortSignals;
		if (isSettled || performance.now() > deadline) return counts;
		await pause(LOOK_MS);
	}
}

/** By an account whose key the chain itself has; mined as soon as they are sent. */
async function fund(
	{ client, account }: LocalChain,
	token: Address,
	payers: readonly Address[],
	value: bigint,
): Promise<void> {
	const from = account(0).address;
	for (const payer of payers) {
		const data = encodeFunctionData({ abi: testUsdcAbi, functionName: "mint", args: [payer, value] });
		await rpc(client, "eth_sendTransaction", [{ from, to: token, data }]);
	}
	const [last] = payers.slice(-1);
	if (last !== undefined)
		await until("payers have their tokens", async () => (await readBalance(client, token, last)) === value);
}
