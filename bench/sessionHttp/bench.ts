/** `session-http`: whole paid requests over sockets, against the same route unpaid and against x402 on Hono. */
import { alternate, type Bench, type RunOptions, type Turn } from "../lib/bench.ts";
import { type Figures, figuresOf, ratioOf } from "../lib/figures.ts";
import { startPeer } from "../lib/peers.ts";
import { type Stoppable, startSide, together } from "../lib/side.ts";
import { setStage } from "../lib/stage.ts";
import { figuresTable, times } from "../lib/table.ts";
import {
	AHEAD,
	type LoadOrder,
	type LoadStart,
	PRICE,
	type ServerInfo,
	type ServerOrder,
	type ServerStart,
} from "./messages.ts";
import { type HttpOrder, turnOf } from "./turn.ts";

export type SessionHttpResult = Readonly<{
	channels: number;
	connections: number;
	/** A voucher for each request. */
	ours: Figures;
	/** Vouchers signed ahead. */
	ahead: Figures;
	/** The same route in a server without Sluice. */
	unpaid: Figures;
	/** As `ours`, without the native library: by WebAssembly. */
	fallback: Figures;
	/** As `ours`, by JavaScript. */
	portable: Figures;
	/** In memory. */
	x402: Figures | null;
	/** Requests a second of one by those of the other, in the same round. */
	vsX402: number | null;
	aheadVsX402: number | null;
	fallbackVsX402: number | null;
	portableVsX402: number | null;
	paidOverUnpaid: number;
	/** The server's processor time that being paid adds to a request, in microseconds. */
	addedMicros: number;
}>;

/** How much is done. */
export type SessionHttpPlan = Readonly<{
	channels: number;
	/** How many requests are under way at a time, each on a connection of its own. Divides `channels`. */
	connections: number;
	/** Requests in a round. */
	count: number;
	unpaidCount: number;
	/** Of the sides that verify in JavaScript. A multiple of `channels`: x402 needs each channel on one connection. */
	slowCount: number;
}>;

const PLAN: SessionHttpPlan = {
	channels: 200,
	connections: 100,
	count: 16_000,
	unpaidCount: 40_000,
	slowCount: 800,
};
const QUICK: SessionHttpPlan = { channels: 50, connections: 50, count: 1_000, unpaidCount: 3_000, slowCount: 50 };
const DEPOSIT = 10n ** 12n;

/**
 * @param peers where the peers are; another folder in tests
 * @throws where an answer was not 200, or the books don't say that each was paid for once
 */
export async function measureSessionHttp(
	{ rounds, progress, setStage: set = setStage }: RunOptions,
	{ channels, connections, count, unpaidCount, slowCount }: SessionHttpPlan,
	peers?: URL,
): Promise<SessionHttpResult> {
	const stage = await set({ channels, deposit: DEPOSIT });
	const { place, folder } = stage;
	const parts: Stoppable[] = [];
	const serve = (start: ServerStart, execArgv: readonly string[] = []) =>
		startSide<ServerOrder, ServerInfo>(new URL("./server.ts", import.meta.url), start, { execArgv });
	try {
		const selling: ServerStart = { shop: { place, folder } };
		const without = (packages: string) =>
			serve(selling, ["--import", new URL(`../lib/without.ts?${packages}`, import.meta.url).href]);
		const [bare, ours, fallback, portable, x402, payers] = await together(
			serve({}),
			serve(selling),
			without("secp256k1"),
			without("secp256k1&tiny-secp256k1"),
			startPeer<ServerOrder, ServerInfo>("x402Http.mjs", { channels }, { progress, folder: peers }),
			startSide<LoadOrder, null>(new URL("./load.ts", import.meta.url), { place } satisfies LoadStart),
		);
		parts.push(bare, ours, fallback, portable, payers, ...(x402 === undefined ? [] : [x402]));
		checkWarning(ours.info, undefined);
		checkWarning(fallback.info, "by WebAssembly");
		checkWarning(portable.info, "by JavaScript");
		progress(`${rounds} rounds of ${count} requests over ${connections} connections on ${channels} channels`);
		const turns: Record<string, Turn<HttpOrder>> = {
			ours: turnOf(ours, payers, "paid", { count, connections }),
			unpaid: turnOf(bare, payers, "unpaid", { count: unpaidCount, connections }),
			ahead: turnOf(ours, payers, "ahead", { count, connections }),
			fallback: turnOf(fallback, payers, "paid", { count: slowCount, connections }),
			portable: turnOf(portable, payers, "paid", { count: slowCount, connections }),
		};
		if (x402 !== undefined) turns.x402 = turnOf(x402, payers, "x402", { count: slowCount, connections });
		const measured = await alternate(rounds, turns);
		const figures = (name: string) => figuresOf(measured[name] ?? []);
		const against = (name: string) =>
			measured.x402 === undefined ? null : ratioOf(measured[name] ?? [], measured.x402);
		return {
			channels,
			connections,
			ours: figures("ours"),
			ahead: figures("ahead"),
			unpaid: figures("unpaid"),
			fallback: figures("fallback"),
			portable: figures("portable"),
			x402: measured.x402 === undefined ? null : figures("x402"),
			vsX402: against("ours"),
			aheadVsX402: against("ahead"),
			fallbackVsX402: against("fallback"),
			portableVsX402: against("portable"),
			paidOverUnpaid: ratioOf(measured.ours ?? [], measured.unpaid ?? []),
			addedMicros: figures("ours").cpuMicros - figures("unpaid").cpuMicros,
		};
	} finally {
		await Promise.all(parts.map((part) => part.stop()));
		await stage.stop();
	}
}

/** @throws where a server verifies by something else than it should here, or does not say so */
function checkWarning({ warnings }: ServerInfo, by: string | undefined): void {
	const told = warnings.filter((warning) => warning.includes("native library"));
	if (by === undefined ? told.length === 0 : told.length === 1 && told[0]?.includes(by)) return;
	throw new Error(`a server has to warn where it verifies without the native library, and only there: ${told}`);
}

export const bench: Bench<SessionHttpResult> = {
	name: "session-http",
	description: "Whole paid requests over sockets from another process; CPU and memory are the server's.",
	run: (options) => measureSessionHttp(options, options.quick ? QUICK : PLAN),
	table({ channels, connections, ours, ahead, unpaid, fallback, portable, x402, ...result }) {
		const { vsX402, aheadVsX402, fallbackVsX402, portableVsX402, paidOverUnpaid, addedMicros } = result;
		return [
			`${channels} channels, ${connections} connections; Sluice on Fastify, LevelDB with fsync, ${PRICE} base units a request`,
			"",
			figuresTable("requests", [
				{ label: "Sluice, a voucher each", figures: ours },
				{ label: `Sluice, vouchers signed ${AHEAD} ahead`, figures: ahead },
				{ label: "Sluice without the native library: WebAssembly", figures: fallback },
				{ label: "Sluice without either: JavaScript", figures: portable },
				{ label: "x402 on Hono, in memory", figures: x402 ?? undefined },
				{ label: "the same Fastify route, unpaid", figures: unpaid },
			]),
			"",
			`Sluice: ${times(vsX402)} x402, ${times(aheadVsX402)} with vouchers signed ahead, ${times(fallbackVsX402)} without the native library, ${times(portableVsX402)} by JavaScript alone`,
			`Paid and unpaid: ${paidOverUnpaid.toFixed(2)} times as many requests, ${addedMicros.toFixed(1)} µs of CPU more for each`,
		].join("\n");
	},
};
