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
	figures: Readonly<Record<Mode, Figures>>;
	/** What was delivered, of which both books say that it was paid for. */
	units: number;
	/** What the engine holds on to when all streams have ended. */
	left: Pick<Left, "meters" | "bodies" | "waiting" | "streams">;
}>;

/** How much work there is. */
export type Size = Readonly<{
	streams: number;
	/** Of each stream in a round. */
	events: number;
	/** Of a paced one, which takes as long as it takes. */
	pacedEvents: number;
	pauseMs: number;
}>;

/** The pace is that of a model which gives 20 tokens a second to each reader. */
const FULL: Size = { streams: 1_000, events: 300, pacedEvents: 100, pauseMs: 50 };
/** Each stream has a cost of its own: a thousand of them, for so few events, would be all that a quick look measures. */
const QUICK: Size = { streams: 200, events: 50, pacedEvents: 5, pauseMs: 50 };

export const bench: Bench<StreamResult> = {
	name: "stream",
	description: "Metered units a second over many streams at once.",
	run: ({ quick, ...options }) => runStream(options, quick ? QUICK : FULL),
	table({ streams, figures, heapMb, left }) {
		const modes = Object.keys(MODES) as Mode[];
		const rows = modes.map((mode) => ({ label: MODES[mode].label, figures: figures[mode] }));
		const memory = `heap after collections, MB: ${heapMb.map((mb) => mb.toFixed(1)).join("  ")}`;
		const all = Object.values(left).reduce((sum, one) => sum + one, 0);
		return `${streams} streams at once\n\n${figuresTable("units", rows)}\n\n${memory}; left behind: ${all}`;
	},
};

/** @throws where a unit was delivered and not paid for, or paid for and not delivered */
export async function runStream(
	{ rounds, progress, setStage: set = setStage }: Pick<RunOptions, "rounds" | "progress" | "setStage">,
	{ streams, events, pacedEvents, pauseMs }: Size,
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
		const ledger = new Books();
		const turn = (mode: Mode): Turn<Plan> => ({
			side: { round: (plan) => streamRound(server, load, plan, ledger) },
			order: { mode, streams, events: MODES[mode].isPaced ? pacedEvents : events, pauseMs },
		});
		progress(`${rounds} rounds of ${streams} streams`);
		const measured = await alternate(rounds, {
			unit: turn("unit"),
			four: turn("four"),
			byte: turn("byte"),
			free: turn("free"),
			paced: turn("paced"),
			freePaced: turn("freePaced"),
		});
		const left = (await server.round("left")) as Left;
		return { streams, ...resultOf(measured, ledger, left) };
	} finally {
		for (const side of sides.reverse()) await side.stop();
		await stage.stop();
	}
}

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
	measured: Readonly<Record<Mode, readonly Round[]>>,
	{ units }: Books,
	left: Left,
): Omit<StreamResult, "streams"> {
	const figures = Object.fromEntries(
		Object.entries(measured).map(([mode, rounds]) => [mode, figuresOf(rounds)]),
	) as Record<Mode, Figures>;
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
