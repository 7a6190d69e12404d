/**
 * Agents die (SIGKILL) at every write of their wallet, at every request and every transaction, and the next process goes on
 * with the same wallet (I11). Each test is one moment of a scenario. `npm test` takes every moment of paying by a channel from
 * its opening to its close, and of the other scenarios those that are about something else; `SLUICE_CRASH_POINTS=all` takes all
 * of all, and more of the random ones.
 */
import { afterAll, describe, expect, it } from "vitest";
import { LIMIT_REACHED, Lives } from "./clientCrashChecks.ts";
import { type Agent, type AgentOptions, CrashStage, type Life, PRICE } from "./clientCrashStage.ts";
import type { Moment, Step } from "./payingProcess.ts";
import { random, seedOfThisRun } from "./random.ts";

const TAKES_ALL = process.env.SLUICE_CRASH_POINTS === "all";
const RANDOM_LIVES = { runs: TAKES_ALL ? 40 : 2, kills: 4 };
/** What changes something: the state between two of the others is the one after the last of these. */
const CHANGES = /^(add|write|release|note|fetch|broadcast|\w+Payment) /;

type Scenario = Readonly<{
	name: string;
	options: AgentOptions;
	/** Until it is killed. */
	steps: readonly Step[];
	/** What the next process does. */
	goOn: readonly Step[];
	/** Which step it is about: those before it are the first scenario's. */
	about?: number;
	kinds?: RegExp;
}>;

const SCENARIOS: readonly Scenario[] = [
	{
		name: "a channel opened and topped up by authorization, and closed",
		options: { server: "plain" },
		steps: ["pay", "pay", "pay", "pay", "pay", "close"],
		goOn: ["pay", "pay", "close"],
	},
	{
		name: "a channel opened and topped up by the payer's own transactions",
		options: { server: "own", gas: true },
		steps: ["pay", "pay"],
		goOn: ["pay", "pay", "close"],
		kinds: /^(write|broadcast) /,
	},
	{
		name: "requests at once, where vouchers have to rise by a least step",
		options: { server: "stepped" },
		steps: ["pay", "pay 3"],
		goOn: ["pay", "pay", "close"],
		about: 1,
		kinds: /^(write|fetch) /,
	},
	{
		name: "a channel handed back, a charge, and the channel taken again",
		options: { server: "plain" },
		steps: ["pay", "release", "charge", "pay"],
		goOn: ["charge", "pay", "close"],
		about: 1,
		kinds: /^(write|release) /,
	},
	...["hash", "transaction"].map(
		(type): Scenario => ({
			name: `a charge paid by the payer's own transfer, as type ${type}`,
			options: { server: "plain", gas: true, types: [type] },
			steps: ["charge"],
			goOn: ["charge", "charge"],
			kinds: /^(write|broadcast|keepPayment|dropPayment) /,
		}),
	),
	{
		name: "a channel that its server forgets, and its close requested from the escrow",
		options: { server: "plain", gas: true },
		steps: ["pay", "forget", "pay", "requestClose"],
		goOn: ["pay", "requestClose", "close"],
		about: 1,
		kinds: /^(add|write|broadcast) /,
	},
	{
		name: "a limit that is reached",
		options: { server: "plain", limit: 3n * PRICE },
		steps: ["pay", "pay", "pay", "pay"],
		goOn: ["pay", "pay", "pay", "close"],
		about: 2,
		kinds: /^write /,
	},
];

// Before the tests are declared: each is a moment of what a process does that nobody kills.
const stage = await CrashStage.create();
afterAll(() => stage.stop());
const undisturbed = await Promise.all(SCENARIOS.map(momentsOf)).catch(async (error: unknown) => {
	await stage.stop();
	throw error;
});

async function momentsOf({ options, steps }: Scenario): Promise<Life["moments"]> {
	const life = await (await stage.agent(options)).live(steps).ended;
	const isPaid = [...life.ended.values()].every(({ status, error }) => status === 200 || error === LIMIT_REACHED);
	if (!life.isDone || !isPaid)
		throw new Error(`a process that nobody killed has failed: ${life.failed ?? "a request of it was refused"}`);
	return life.moments;
}

function pointsOf({ steps, about = 0, kinds = CHANGES }: Scenario, moments: Life["moments"]): readonly string[] {
	return moments.flatMap(({ moment, step }) => {
		if (!TAKES_ALL && (step < about || step >= steps.length || !kinds.test(moment))) return [];
		// Nobody waits for a note: before it is when the answer has come.
		const isNote = !TAKES_ALL && moment.startsWith("note ");
		return isNote ? [`after ${moment}`] : [`before ${moment}`, `after ${moment}`];
	});
}

function parsePoint(point: string): Moment {
	const [when, what = "", nth] = point.split(" ");
	return { when: when === "before" ? "before" : "after", what, nth: Number(nth) };
}

/** The next process on the same wallet: it opens no channel where there is one to use. */
async function goOn(lives: Lives, agent: Agent, steps: readonly Step[]): Promise<void> {
	const kept = await lives.checkStanding();
	const [usable, before] = await Promise.all([lives.usable(kept), lives.funded(kept)]);
	const next = await agent.live(steps).ended;
	lives.add(next);
	const after = await lives.funded(await lives.checkEnd(next));
	expect(usable.length, "channels to use").toBeLessThanOrEqual(1);
	const opened = steps.includes("pay") ? 1 - usable.length : 0;
	expect(after - before, "channels opened, where there may be one to use").toBe(opened);
}

describe("an agent's process that is killed (SIGKILL), and the next one on its wallet (I11):", {
	timeout: 120_000,
}, () => {
	for (const [index, scenario] of SCENARIOS.entries())
		describe.concurrent(scenario.name, () => {
			it.each(pointsOf(scenario, undisturbed[index] ?? []))("%s", async (point) => {
				const agent = await stage.agent(scenario.options);
				const lives = new Lives(stage, agent);
				const first = await agent.live(scenario.steps, parsePoint(point)).ended;
				expect(first).toMatchObject({ died: point, failed: undefined });
				lives.add(first);
				await goOn(lives, agent, scenario.goOn);
			});
		});

	const seed = seedOfThisRun();
	describe.concurrent(`at ${RANDOM_LIVES.kills} random moments, one life after the other`, () => {
		it.each(Array.from({ length: RANDOM_LIVES.runs }, (_, run) => seed + run))("SLUICE_SEED=%i", async (which) => {
			const next = random(which);
			const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)] as T;
			const chosen = Math.floor(next() * SCENARIOS.length);
			const { options, steps, goOn: last } = SCENARIOS[chosen] as Scenario;
			const agent = await stage.agent(options);
			const lives = new Lives(stage, agent);
			const points: string[] = [];
			for (let kill = 0; kill < RANDOM_LIVES.kills; kill++) {
				const point = `${pick(["before", "after"])} ${pick(undisturbed[chosen] ?? []).moment}`;
				points.push(point);
				// What is left of a scenario may not come to this moment any more: then the process ends by itself.
				const life = await agent.live(steps, parsePoint(point)).ended;
				lives.add(life);
				expect({ points, died: life.died ?? point, failed: life.failed }).toEqual({ points, died: point });
				await lives.checkStanding();
			}
			const end = await agent.live(last).ended;
			lives.add(end);
			await lives.checkEnd(end);
		});
	});

	it("while its request is being served: the next one neither pays it again nor takes its price for its own", async () => {
		const agent = await stage.agent({ server: "plain" });
		const lives = new Lives(stage, agent);
		const held = agent.server.hold("/held");
		const first = agent.live(["pay", "pay held"]);
		await held.entered;
		first.kill();
		lives.add(await first.ended);
		await lives.checkStanding();
		const second = await agent.live(["pay", "pay"]).ended;
		lives.add(second);
		expect(second).toMatchObject({ isDone: true, failed: undefined });
		held.release();
		await goOn(lives, agent, ["pay", "pay", "close"]);
	});
});
