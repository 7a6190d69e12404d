import { alternate, type Bench, type RunOptions, type Turn } from "../lib/bench.ts";
import { type Figures, figuresOf, ratioOf } from "../lib/figures.ts";
import { startPeer } from "../lib/peers.ts";
import { startSide } from "../lib/side.ts";
import { setStage } from "../lib/stage.ts";
import { figuresTable, times } from "../lib/table.ts";
import type { Info, Order, Start } from "./ours.ts";

export type ClientSignResult = Readonly<{
	/** Requests of one agent that are under way at a time, where it is not one after the other. */
	atOnce: number;
	/** What signs. */
	curve: string;
	/** Headers of one channel, each after its record is on disk with fsync; those that wait at the same moment share it. */
	ours: Figures;
	/** The same one after the other: each waits for the disk by itself. */
	alone: Figures;
	/** One after the other, in memory: as the peer's. */
	inMemory: Figures;
	/** The same with an account of viem's, whose key only JavaScript can use. */
	viem: Figures;
	/** Vouchers signed, and nothing else of their headers. */
	signatures: Figures;
	/** Whole requests in memory, one after the other, but the network: with their receipts. */
	requests: Figures;
	mppx: Figures | null;
	vsMppx: number | null;
	inMemoryVsMppx: number | null;
}>;

/** How much is done in a round of each. */
export type ClientSignPlan = Readonly<{
	atOnce: number;
	count: number;
	/** Where each waits for the disk. */
	aloneCount: number;
	requestCount: number;
	/** Where JavaScript signs. */
	portableCount: number;
}>;

const PLAN: ClientSignPlan = {
	...{ atOnce: 256, count: 20_480, aloneCount: 1_500, requestCount: 4_000, portableCount: 1_000 },
};
const QUICK: ClientSignPlan = {
	...{ atOnce: 256, count: 2_560, aloneCount: 100, requestCount: 400, portableCount: 150 },
};

/** @param peers where the peers are; another folder in tests */
export async function measureClientSign(
	{ rounds, progress, setStage: set = setStage }: RunOptions,
	{ atOnce, count, aloneCount, requestCount, portableCount }: ClientSignPlan,
	peers?: URL,
): Promise<ClientSignResult> {
	const stage = await set({ channels: 1, deposit: 10n ** 12n });
	const { place, folder } = stage;
	const sides: Readonly<{ stop(): Promise<void> }>[] = [stage];
	try {
		const startOurs = async (store: Start["store"], account: Start["account"]) => {
			const start: Start = { place, folder, store, account };
			const side = await startSide<Order, Info>(new URL("./ours.ts", import.meta.url), start);
			sides.unshift(side);
			return side;
		};
		const onDisk = await startOurs("disk", "native");
		const inMemory = await startOurs("memory", "native");
		const viem = await startOurs("memory", "viem");
		const mppx = await startPeer<Order>("mppxSign.mjs", {}, { progress, folder: peers });
		if (mppx !== undefined) sides.unshift(mppx);

		progress(`${rounds} rounds of ${count} headers on one channel, ${atOnce} at once`);
		const oneByOne = (work: Order["work"], times: number): Order => ({ work, count: times, atOnce: 1 });
		const turns: Record<string, Turn<Order>> = {
			ours: { side: onDisk, order: { work: "header", count, atOnce } },
			alone: { side: onDisk, order: oneByOne("header", aloneCount) },
			inMemory: { side: inMemory, order: oneByOne("header", count) },
			viem: { side: viem, order: oneByOne("header", portableCount) },
			signatures: { side: inMemory, order: oneByOne("signature", count) },
			requests: { side: inMemory, order: oneByOne("request", requestCount) },
		};
		if (mppx !== undefined) turns.mppx = { side: mppx, order: oneByOne("header", portableCount) };
		const measured = await alternate(rounds, turns);
		const figures = (name: string) => figuresOf(measured[name] ?? []);
		const ratio = (name: string) => (measured.mppx === undefined ? null : ratioOf(measured[name] ?? [], measured.mppx));
		return {
			atOnce,
			curve: onDisk.info.curve,
			ours: figures("ours"),
			alone: figures("alone"),
			inMemory: figures("inMemory"),
			viem: figures("viem"),
			signatures: figures("signatures"),
			requests: figures("requests"),
			mppx: measured.mppx === undefined ? null : figuresOf(measured.mppx),
			vsMppx: ratio("ours"),
			inMemoryVsMppx: ratio("inMemory"),
		};
	} finally {
		for (const side of sides) await side.stop();
	}
}

export const bench: Bench<ClientSignResult> = {
	name: "client-sign",
	description: "Headers that a payer builds and signs: allowed by its policy, counted, kept, signed, written.",
	run: (options) => measureClientSign(options, options.quick ? QUICK : PLAN),
	table({ atOnce, curve, ours, alone, inMemory, viem, signatures, requests, mppx, vsMppx, inMemoryVsMppx }) {
		return [
			`One payer, one channel; Sluice signs by ${curve}`,
			"",
			figuresTable("headers", [
				{ label: `Sluice, LevelDB with fsync, ${atOnce} at once`, figures: ours },
				{ label: "Sluice, LevelDB with fsync, one after another", figures: alone },
				{ label: "Sluice, in memory, one after another", figures: inMemory },
				{ label: "the same with an account of viem's", figures: viem },
				{ label: "only the signature", figures: signatures },
				{ label: "the whole request, but the network", figures: requests },
				{ label: "mppx, in memory, one after another", figures: mppx ?? undefined },
			]),
			"",
			`Sluice with fsync: ${times(vsMppx)} mppx; in memory, one after another as mppx: ${times(inMemoryVsMppx)}`,
		].join("\n");
	},
};
