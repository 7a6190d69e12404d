import { farewell } from "./farewell.ts";
import { type Schedule, scheduleOf } from "./plan.ts";
import { type Played, play } from "./play.ts";
import { type Agent, createFaultStage } from "./stage.ts";

/** Which schedules to play: the numbers from `from` to below `to`. */
export type Choice = Readonly<{
	seed: string;
	from: number;
	to: number;
	/** Something that must be found out: no `Idempotency-Key` gets to the server. */
	sabotage?: "dropKeys";
}>;

/** A schedule in which something was wrong. */
export type Failure = Readonly<{
	schedule: Schedule;
	faults: readonly string[];
	/** All that passed and was signed, in order: what it depends on besides the seed is how fast the machine was. */
	trace: readonly string[];
}>;

export type RunReport = Readonly<{
	seed: string;
	schedules: number;
	seconds: number;
	requests: Readonly<Record<"answered" | "refused" | "unknown", number>>;
	/** What happened meanwhile, by how often. */
	happenings: Readonly<Record<string, number>>;
	/** The most that was ever signed for above what was delivered, in base units. */
	mostAhead: string;
	/** How requests and closes have ended, by how often. */
	endings: Readonly<Record<string, number>>;
	failures: readonly Failure[];
}>;

/** So many schedules share their agents at most: to play one of them again is to play those before it in its block. */
const BLOCK = 25;

/** More than that are not looked for. */
const MAX_FAILURES = 20;

/**
 * Plays schedules one after the other. An agent and its channel serve several of them, until one wants a new one or something
 * went wrong: after each schedule its books are in order.
 *
 * @param say - hears of failures, and now and then how far it is
 */
export async function runSchedules(
	{ seed, from, to, sabotage }: Choice,
	say: (text: string) => void = () => undefined,
): Promise<RunReport> {
	const stage = await createFaultStage();
	for (const { proxy } of Object.values(stage.stands)) proxy.dropsKeys = sabotage === "dropKeys";
	const agents = new Map<string, Agent>();
	const requests = { answered: 0, refused: 0, unknown: 0 };
	const endings: Record<string, number> = {};
	const happenings: Record<string, number> = {};
	const failures: Failure[] = [];
	let mostAhead = 0n;
	let index = from;
	const startedAt = performance.now();
	try {
		for (; index < to && failures.length < MAX_FAILURES; index++) {
			const schedule = scheduleOf(seed, index);
			const kind = kindOf(schedule);
			const agent = agents.get(kind) ?? (await stage.agent(schedule));
			agents.set(kind, agent);
			const trace: string[] = [];
			agent.trace = (text) => void trace.push(text);
			const { faults: found, ...played } = await play(stage, agent, schedule).catch(asFault);
			const leaving = leavingAfter(seed, index, to, agents);
			const faults = [...found];
			for (const [name, one] of leaving) {
				agents.delete(name);
				if (found.length === 0 || one !== agent) faults.push(...(await farewell(stage, one).catch(asFaults)));
			}
			for (const ending of ["answered", "refused", "unknown"] as const) requests[ending] += played[ending];
			for (const how of played.endings) count(endings, how.replace(/0x[0-9a-f]+|(?<=\s)\d{3,}/g, "…").slice(0, 80));
			for (const { happening } of schedule.rounds) if (happening !== undefined) count(happenings, happening.what);
			if (agent.tally.ahead > mostAhead) mostAhead = agent.tally.ahead;
			if (faults.length > 0) {
				failures.push({ schedule, faults, trace });
				agents.delete(kind);
				say(failureText(failures.at(-1) as Failure));
			}
			const done = index + 1 - from;
			if (done % 500 === 0) say(`${done} schedules, ${failures.length} of them failed`);
		}
	} finally {
		await stage.stop();
	}
	const seconds = Math.round((performance.now() - startedAt) / 100) / 10;
	return {
		...{ seed, schedules: index - from, seconds, requests, happenings, mostAhead: String(mostAhead) },
		...{ endings, failures },
	};
}

/** What was wrong, how to play it again, and what has passed. */
export function failureText({ schedule, faults, trace }: Failure): string {
	const { seed, index } = schedule;
	return [
		`schedule ${index} failed:`,
		...faults.map((fault) => `  ${fault}`),
		`  npm run test:long -- --seed ${seed} --from ${index - (index % BLOCK)} --to ${index + 1}`,
		`  ${JSON.stringify(schedule)}`,
		...trace.map((line) => `  ${line}`),
	].join("\n");
}

function asFault(error: Error): Played {
	return { answered: 0, refused: 0, unknown: 0, endings: [], faults: [error.stack ?? String(error)] };
}

function count(counts: Record<string, number>, name: string): void {
	counts[name] = (counts[name] ?? 0) + 1;
}

function asFaults(error: Error): readonly string[] {
	return asFault(error).faults;
}

/** Who has played its last schedule: the next one wants a new agent of its kind, or begins another block. */
function leavingAfter(seed: string, index: number, to: number, agents: Map<string, Agent>): readonly [string, Agent][] {
	if ((index + 1) % BLOCK === 0 || index + 1 === to) return [...agents];
	const next = scheduleOf(seed, index + 1);
	return [...agents].filter(([kind]) => next.isNew && kind === kindOf(next));
}

function kindOf({ server, deposit, wallet }: Schedule): string {
	return `${server} ${deposit} ${wallet}`;
}
