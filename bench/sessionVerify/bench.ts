import { alternate, type Bench, type RunOptions } from "../lib/bench.ts";
import { type Figures, figuresOf, ratioOf } from "../lib/figures.ts";
import { startPeer } from "../lib/peers.ts";
import { type Stoppable, startSide, together } from "../lib/side.ts";
import { setStage } from "../lib/stage.ts";
import { figuresTable, times } from "../lib/table.ts";
import type { Order, Start } from "./ours.ts";

export type SessionVerifyResult = Readonly<{
	channels: number;
	atOnce: number;
	/** With fsync, as for every user, and with the engine's own defaults. */
	ours: Figures;
	/** The same without a thread that verifies beside it. */
	alone: Figures;
	aloneVsMppx: number | null;
	aloneVsX402: number | null;
	/** The same when nothing waits for the disk: for comparison alone. */
	withoutSync: Figures;
	/** In memory, both of them. */
	mppx: Figures | null;
	x402: Figures | null;
	vsMppx: number | null;
	vsX402: number | null;
}>;

/** How much is done. */
export type SessionVerifyPlan = Readonly<{
	channels: number;
	/** Requests under way at a time. */
	atOnce: number;
	/** Vouchers in a round of ours, and of a peer: about as long as each other. */
	count: number;
	peersCount: number;
}>;

const PLAN: SessionVerifyPlan = { channels: 200, atOnce: 128, count: 20_000, peersCount: 600 };
const QUICK: SessionVerifyPlan = { ...PLAN, channels: 50, count: 1_000, peersCount: 20 };
const DEPOSIT = 10n ** 12n;

/** @param peers where the peers are; another folder in tests */
export async function measureSessionVerify(
	{ rounds, progress, setStage: set = setStage }: RunOptions,
	{ channels, atOnce, count, peersCount }: SessionVerifyPlan,
	peers?: URL,
): Promise<SessionVerifyResult> {
	const stage = await set({ channels, deposit: DEPOSIT });
	const { place, folder } = stage;
	const sides: Stoppable[] = [];
	try {
		const startOurs = (fsync: boolean, threads?: number) => {
			const start: Start = { place, folder, fsync, threads };
			return startSide<Order, unknown>(new URL("./ours.ts", import.meta.url), start);
		};
		const startTheirs = (script: string) => startPeer<Order>(script, { channels }, { progress, folder: peers });
		const [ours, alone, withoutSync, mppx] = await together(
			startOurs(true),
			startOurs(true, 0),
			startOurs(false),
			startTheirs("mppxVerify.mjs"),
		);
		sides.push(ours, alone, withoutSync, ...(mppx === undefined ? [] : [mppx]));
		const x402 = mppx && (await startTheirs("x402Verify.mjs"));
		if (x402 !== undefined) sides.push(x402);

		progress(`${rounds} rounds of ${count} vouchers, ${atOnce} at once on ${channels} channels`);
		const order: Order = { count, atOnce };
		const peersOrder: Order = { count: peersCount, atOnce };
		const measured = await alternate(rounds, {
			ours: { side: ours, order },
			alone: { side: alone, order },
			withoutSync: { side: withoutSync, order },
			mppx: mppx && { side: mppx, order: peersOrder },
			x402: x402 && { side: x402, order: peersOrder },
		});
		return {
			channels,
			atOnce,
			ours: figuresOf(measured.ours),
			alone: figuresOf(measured.alone),
			aloneVsMppx: measured.mppx ? ratioOf(measured.alone, measured.mppx) : null,
			aloneVsX402: measured.x402 ? ratioOf(measured.alone, measured.x402) : null,
			withoutSync: figuresOf(measured.withoutSync),
			mppx: measured.mppx ? figuresOf(measured.mppx) : null,
			x402: measured.x402 ? figuresOf(measured.x402) : null,
			vsMppx: measured.mppx ? ratioOf(measured.ours, measured.mppx) : null,
			vsX402: measured.x402 ? ratioOf(measured.ours, measured.x402) : null,
		};
	} finally {
		await Promise.all(sides.map((side) => side.stop()));
		await stage.stop();
	}
}

export const bench: Bench<SessionVerifyResult> = {
	name: "session-verify",
	description: "Session vouchers that are verified and durably accounted, without HTTP.",
	run: (options) => measureSessionVerify(options, options.quick ? QUICK : PLAN),
	table({ channels, atOnce, ours, alone, withoutSync, mppx, x402, vsMppx, vsX402, aloneVsMppx, aloneVsX402 }) {
		return [
			`${channels} channels, ${atOnce} requests at once`,
			"",
			figuresTable("vouchers", [
				{ label: "Sluice, LevelDB with fsync", figures: ours },
				{ label: "the same, verifying on its own thread alone", figures: alone },
				{ label: "Sluice, LevelDB without fsync", figures: withoutSync },
				{ label: "mppx, in memory", figures: mppx ?? undefined },
				{ label: "x402, in memory", figures: x402 ?? undefined },
			]),
			"",
			`Sluice with fsync: ${times(vsMppx)} mppx, ${times(vsX402)} x402`,
			`on its own thread alone: ${times(aloneVsMppx)} mppx, ${times(aloneVsX402)} x402`,
		].join("\n");
	},
};
