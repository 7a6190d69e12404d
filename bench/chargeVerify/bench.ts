import { type Address, createPublicClient, encodeFunctionData, http } from "viem";
import { rpc } from "../../src/cli/demo/chainControl.ts";
import { testUsdcAbi } from "../../src/cli/demo/generated/testUsdc.ts";
import { until } from "../../src/cli/demo/until.ts";
import { readBalance } from "../../src/escrow/index.ts";
import { alternate, type Bench, type RunOptions } from "../lib/bench.ts";
import { type Figures, figuresOf, ratioOf } from "../lib/figures.ts";
import { startPeer } from "../lib/peers.ts";
import { type RunningSide, startSide } from "../lib/side.ts";
import { type Place, setStage } from "../lib/stage.ts";
import { figuresTable, times } from "../lib/table.ts";
import { makePayers } from "./charges.ts";
import type { Order, Start } from "./ours.ts";
import type { Start as StartWhole } from "./whole.ts";

export type ChargeVerifyResult = Readonly<{
	payers: number;
	atOnce: number;
	/** Checked, and held on disk with fsync: up to the transaction. */
	ours: Figures;
	/** The same when nothing waits for the disk: for comparison alone. */
	withoutSync: Figures;
	/** Their signatures are checked, by a chain in memory that says yes to everything, and nothing is kept. */
	mppx: Figures | null;
	x402: Figures | null;
	vsMppx: number | null;
	vsX402: number | null;
	/** Whole charges, with the transaction, on a chain that mines each at once. */
	whole: Figures;
}>;

/** How much is done. */
export type ChargeVerifyPlan = Readonly<{
	payers: number;
	/** Charges under way at a time. */
	atOnce: number;
	/** Charges in a round of ours, of the peer's, and of whole ones. */
	count: number;
	peersCount: number;
	wholeCount: number;
}>;

const PLAN: ChargeVerifyPlan = { payers: 200, atOnce: 128, count: 5_000, peersCount: 500, wholeCount: 200 };
const QUICK: ChargeVerifyPlan = { ...PLAN, count: 400, peersCount: 20, wholeCount: 4 };
const PRICE = 100n;
const DEPOSIT = 10n ** 12n;
/** More than a payer needs in any run. */
const FUNDS = 10n ** 9n;

/**
 * @param peers where the peers are; another folder in tests
 */
export async function measureChargeVerify(
	{ rounds, progress, setStage: set = setStage }: RunOptions,
	{ payers: payerCount, atOnce, count, peersCount, wholeCount }: ChargeVerifyPlan,
	peers?: URL,
): Promise<ChargeVerifyResult> {
	const stage = await set({ channels: 1, deposit: DEPOSIT });
	const { place, folder } = stage;
	const sides: Readonly<{ stop(): Promise<void> }>[] = [stage];
	const start = async (script: string, told: Start | StartWhole): Promise<RunningSide<Order, unknown>> => {
		const side = await startSide<Order, unknown>(new URL(script, import.meta.url), told);
		sides.unshift(side);
		return side;
	};
	try {
		const ours = await start("./ours.ts", { place, folder, fsync: true, payers: payerCount });
		const withoutSync = await start("./ours.ts", { place, folder, fsync: false, payers: payerCount });
		const payers = makePayers(Math.min(payerCount, wholeCount));
		await fund(place, payers);
		const whole = await start("./whole.ts", { place, folder, payers, price: PRICE });
		const startTheirs = async (script: string) => {
			const side = await startPeer<Order>(script, {}, { progress, folder: peers });
			if (side !== undefined) sides.unshift(side);
			return side;
		};
		const mppx = await startTheirs("mppxChargeVerify.mjs");
		const x402 = mppx && (await startTheirs("x402ChargeVerify.mjs"));

		progress(`${rounds} rounds of ${count} charges by ${payerCount} payers, and of ${wholeCount} whole ones`);
		const measured = await alternate(rounds, {
			ours: { side: ours, order: { count, atOnce } },
			withoutSync: { side: withoutSync, order: { count, atOnce } },
			mppx: mppx && { side: mppx, order: { count: peersCount, atOnce } },
			x402: x402 && { side: x402, order: { count: peersCount, atOnce } },
			whole: { side: whole, order: { count: wholeCount, atOnce } },
		});
		return {
			payers: payerCount,
			atOnce,
			ours: figuresOf(measured.ours),
			withoutSync: figuresOf(measured.withoutSync),
			mppx: measured.mppx ? figuresOf(measured.mppx) : null,
			x402: measured.x402 ? figuresOf(measured.x402) : null,
			vsMppx: measured.mppx ? ratioOf(measured.ours, measured.mppx) : null,
			vsX402: measured.x402 ? ratioOf(measured.ours, measured.x402) : null,
			whole: figuresOf(measured.whole),
		};
	} finally {
		for (const side of sides) await side.stop();
	}
}

async function fund({ rpcUrl, token, channels }: Place, payers: readonly Readonly<{ address: Address }>[]) {
	const client = createPublicClient({ transport: http(rpcUrl), cacheTime: 0 });
	for (const { address } of payers) {
		const data = encodeFunctionData({ abi: testUsdcAbi, functionName: "mint", args: [address, FUNDS] });
		// The node has the key of whoever has opened the channels: it signs for it.
		await rpc(client, "eth_sendTransaction", [{ from: channels[0]?.payer, to: token, data }]);
	}
	const last = payers.at(-1);
	if (last === undefined) return;
	await until("payers have funds", async () => (await readBalance(client, token, last.address)) === FUNDS);
}

export const bench: Bench<ChargeVerifyResult> = {
	name: "charge-verify",
	description: "Charges of type authorization that are checked and durably held, up to their transaction.",
	run: (options) => measureChargeVerify(options, options.quick ? QUICK : PLAN),
	table({ payers, atOnce, ours, withoutSync, mppx, x402, vsMppx, vsX402, whole }) {
		return [
			`${payers} payers, ${atOnce} charges at once`,
			"",
			figuresTable("charges", [
				{ label: "Sluice up to the transaction, fsync", figures: ours },
				{ label: "the same without fsync", figures: withoutSync },
				{ label: "mppx, verified in memory", figures: mppx ?? undefined },
				{ label: "x402 exact, verified in memory", figures: x402 ?? undefined },
				{ label: "Sluice, whole charges on anvil", figures: whole },
			]),
			"",
			`Sluice with fsync: ${times(vsMppx)} mppx, ${times(vsX402)} x402`,
		].join("\n");
	},
};
