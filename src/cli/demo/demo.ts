import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { chargeScenario } from "./charge.ts";
import { CRASH_SERVER, crashScenario } from "./crashInSettlement.ts";
import { FORCED_CLOSE_SERVER, forcedCloseScenario } from "./forcedClose.ts";
import { gasSpikeScenario } from "./gasSpike.ts";
import { IDLE_CLOSE_SERVER, idleCloseScenario } from "./idleClose.ts";
import { oneOwnerScenario } from "./oneOwner.ts";
import { permit2Scenario } from "./permit2.ts";
import { POLICY_REQUESTS, POLICY_SERVER, policyScenario } from "./policy.ts";
import { REORGANIZATION_SERVER, reorganizationScenario } from "./reorganization.ts";
import { type Outcome, printJson, printTable } from "./report.ts";
import { REQUEST_CLOSE_SERVER, requestCloseScenario } from "./requestClose.ts";
import { resumeScenario } from "./resume.ts";
import type { ServerVariation } from "./serverSettings.ts";
import { sessionScenario } from "./session.ts";
import { settleManyScenario } from "./settleMany.ts";
import { splitsScenario } from "./splits.ts";
import { streamScenario } from "./stream.ts";
import { createWorld, type World } from "./world.ts";

/** What `sluice demo` can run. Each plays one story and reads its outcome from the chain and the store. */
export const SCENARIOS = {
	session: sessionScenario,
	charge: chargeScenario,
	permit2: permit2Scenario,
	resume: resumeScenario,
	splits: splitsScenario,
	stream: streamScenario,
	"idle-close": idleCloseScenario,
	"request-close": requestCloseScenario,
	"forced-close": forcedCloseScenario,
	policy: policyScenario,
	"settle-many": settleManyScenario,
	"crash-in-settlement": crashScenario,
	reorganization: reorganizationScenario,
	"gas-spike": gasSpikeScenario,
	"one-owner": oneOwnerScenario,
} as const;

/** What servers of some scenarios are started with; the others run with what the product does by default. */
const SERVERS: Partial<Record<keyof typeof SCENARIOS, ServerVariation>> = {
	"idle-close": IDLE_CLOSE_SERVER,
	"request-close": REQUEST_CLOSE_SERVER,
	"forced-close": FORCED_CLOSE_SERVER,
	policy: POLICY_SERVER,
	"crash-in-settlement": CRASH_SERVER,
	reorganization: REORGANIZATION_SERVER,
};

export type DemoOptions = Readonly<{
	scenario: keyof typeof SCENARIOS;
	requests: number;
	concurrency: number;
	/** `settle-many`: how many channels owe. */
	channels: number;
	/** `stream`: how many tokens are read. */
	tokens: number;
	data?: string;
	keep?: boolean;
	json?: boolean;
}>;

/** A scenario: plays on a world, tells what came of it. */
export type Scenario = (world: World, options: DemoOptions, progress: (text: string) => void) => Promise<Outcome>;

/** Runs one scenario and prints its outcome; resolves to whether all checks passed. */
export async function runDemo(options: DemoOptions): Promise<boolean> {
	const progress = (text: string) => void process.stderr.write(`${text}\n`);
	const folder = await storeFolder(options);
	try {
		progress("starting a chain, deploying token and escrow");
		const units = unitsOf(options);
		const world = await createWorld(folder, units, SERVERS[options.scenario]);
		try {
			const scenario: Scenario = SCENARIOS[options.scenario];
			const outcome = await scenario(world, options, progress);
			if (options.json) printJson(outcome);
			else printTable(outcome);
			return outcome.checks.every(({ pass }) => pass);
		} finally {
			await world.stop();
		}
	} finally {
		if (!options.keep && options.data === undefined) await rm(folder, { recursive: true, force: true });
		else progress(`the store is kept in ${folder}`);
	}
}

/** How much one channel has to be able to pay. */
function unitsOf({ scenario, tokens, requests }: DemoOptions): number {
	if (scenario === "policy") return POLICY_REQUESTS;
	return scenario === "stream" ? tokens : requests;
}

async function storeFolder({ data }: DemoOptions): Promise<string> {
	if (data === undefined) return mkdtemp(join(tmpdir(), "sluice-demo-"));
	const folder = resolve(data);
	await mkdir(folder, { recursive: true, mode: 0o700 });
	return folder;
}
