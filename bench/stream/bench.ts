/** `stream`: metered units a second, over many streams at once. */
import { alternate, type Bench, type RunOptions, type Turn } from "../lib/bench.ts";
import { type Figures, figuresOf } from "../lib/figures.ts";
import type { Round } from "../lib/round.ts";
import { type RunningSide, startSide } from "../lib/side.ts";
import { setStage } from "../lib/stage.ts";
import { figuresTable } from "../lib/table.ts";
import {
	type Left,
	type LoadOrder,
	type LoadStart,
	MODES,
	type Mode,
	type Plan,
	PRICE,
	type Read,
	type Sample,
	type Served,
	type ServerInfo,
	type ServerOrder,
	type ServerStart,
} from "./messages.ts";

export type StreamResult = Readonly<{
	streams: number;
	/** One unit an event. */
	unitsPerSecond: number;
	/** The most that the server had resident at any round's end. MB are millions. */
	rssMb: number;
	/** The server's heap after collections, all streams open: at the beginning and the end of each round of `unit`. */
	heapMb: readonly number[];
	/** What was not measured is absent. */
	figures: Readonly<Partial<Record<Mode, Figures>> & { unit: Figures }>;
	/** What was delivered, of which both books say that it was paid for. */
	units: number;
	/** What the engine holds on to when all streams have ended. */
	left: Pick<Left, "meters" | "bodies" | "waiting" | "streams">;
}>;

/** How much work there is. */
export type Size = Readonly<{
	streams: number;
	/** Of each stream in a round; what has none is not measured. */
	events: Readonly<Partial<Record<Mode, number>> & { unit: number }>;
	/** Before each event of one that is paced, which takes as long as it takes, in ms. */
	pauseMs: number;
}>;

/** The pace is that of a model which gives 20 tokens a second to each reader. */
const FULL: Size = {
	streams: 1_000,
	events: { unit: 300, four: 100, byte: 150, free: 300, paced: 60, freePaced: 60 },
	pauseMs: 50,
};
/** Each stream has a cost of its own: a thousand of them, for so few events, would be all that a quick look measures. */
const QUICK: Size = { streams: 100, events: { unit: 150, free: 150, paced: 10 }, pauseMs: 50 };

export const bench: Bench<StreamResult> = {
	name: "stream",
	description: "Metered units a second over many streams at once.",
	run: ({ quick, ...options }) => runStream(options, quick ? QUICK : FULL),
	table({ streams, figures, heapMb, left }) {
		const modes = Object.keys(MODES) as Mode[];
		const measured = modes.filter((mode) => figures[mode] !== undefined);
		const rows = measured.map((mode) => ({ label: MODES[mode].label, figures: figures[mode] }));
		const memory = `heap after collections, MB: ${heapMb.map((mb) => mb.toFixed(1)).join("  ")}`;
		const all = Object.values(left).reduce((sum, one) => sum + one, 0);
		return `${streams} streams at once\n\n${figuresTable("units", rows)}\n\n${memory}; left behind: ${all}`;
	},
};

/** @throws where a unit was delivered and not paid for, or paid for and not delivered */
export async function runStream(
	{ rounds, progress, setStage: set = setStage }: Pick<RunOptions, "rounds" | "progress" | "setStage">,
	{ streams, events, pauseMs }: Size,
): Promise<StreamResult> {
	progress(`opening ${streams} channels`);
	const stage = await set({ channels: streams, deposit: 10n ** 12n });
	const sides: Pick<RunningSide<unknown, unknown>, "stop">[] = [];
	try {
		const { place, folder } = stage;
		const start: ServerStart = { place, folder };
		const server = await startSide<ServerOrder, ServerInfo>(new URL("./server.ts", import.meta.url), start);
		sides.push(server);
		const { port } = server.info;
		const load = await startSide<LoadOrder, null>(new URL("./load.ts", import.meta.url), {
			place,
			port,
		} satisfies LoadStart);
		sides.push(load);
		const books = new Books();
		const side = { round: (plan: Plan) => streamRound(server, load, plan, books) };
		const measure = (modes: readonly Mode[]) => {
			const turn = (mode: Mode): Turn<Plan> => ({ side, order: { mode, streams, events: events[mode] ?? 0, pauseMs } });
			return alternate(rounds, Object.fromEntries(modes.map((mode) => [mode, turn(mode)])) as Turns);
		};
		progress(`${rounds} rounds of ${streams} streams`);
		// By itself, so that what memory it takes is its own.
		const { unit } = await measure(["unit"]);
		const others = (Object.keys(MODES) as Mode[]).filter((mode) => mode !== "unit" && events[mode] !== undefined);
		const measured = { ...(await measure(others)), unit };
		const left = (await server.round("left")) as Left;
		return { streams, ...resultOf(measured, books, left) };
	} finally {
		for (const side of sides.reverse()) await side.stop();
		await stage.stop();
	}
}

type Turns = Record<Mode, Turn<Plan>>;

type Asked<Order> = Readonly<{ round(order: Order): Promise<Round> }>;

async function streamRound(
	server: Asked<ServerOrder>,
	load: Asked<LoadOrder>,
	plan: Plan,
	books: Books,
): Promise<Served> {
	await load.round({ prepare: plan });
	await server.round({ begin: plan });
	const { streams } = (await load.round("read")) as Read;
	const served = (await server.round("end")) as Served;
	books.check(plan, streams, served);
	return served;
}

/** What has to be the same on both sides after each round, channel by channel. */
class Books {
	units = 0;
	readonly #paid = new Map<string, bigint>();

	check({ mode, events }: Plan, streams: Read["streams"], { spent }: Served): void {
		const { unitsPerEvent, metered } = MODES[mode];
		for (const one of streams) {
			const units = metered === undefined ? 0 : events * unitsPerEvent;
			const paid = (this.#paid.get(one.channelId) ?? 0n) + PRICE * BigInt(units);
			this.#paid.set(one.channelId, paid);
			this.units += units;
			const isPaid =
				one.signed === paid &&
				(units === 0 || (one.spent === paid && one.units === units)) &&
				spent.get(one.channelId) === paid;
			if (one.events !== events || !isPaid)
				throw new Error(
					`stream: ${one.events} of ${events} events came; ${one.signed} was signed, ${spent.get(one.channelId)} is spent, the receipt says ${one.spent} for ${one.units} units, and ${paid} is due`,
				);
		}
	}
}

function resultOf(
	measured: Readonly<Partial<Record<Mode, readonly Round[]>> & { unit: readonly Round[] }>,
	{ units }: Books,
	left: Left,
): Omit<StreamResult, "streams"> {
	const figures = Object.fromEntries(
		Object.entries(measured).map(([mode, rounds]) => [mode, figuresOf(rounds)]),
	) as StreamResult["figures"];
	const samples = (measured.unit as readonly Served[]).flatMap(({ before, after }) => [before, after]);
	const { meters, bodies, waiting, streams } = left;
	return {
		unitsPerSecond: figures.unit.perSecond,
		rssMb: figures.unit.rssBytes / 1e6,
		heapMb: samples.map(({ heap }: Sample) => heap / 1e6),
		figures,
		units,
		left: { meters, bodies, waiting, streams },
	};
}
