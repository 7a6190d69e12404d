/** What a settlement costs, and what is worth it. Pure: amounts, gas and prices in, decisions out. */

/** What a transaction does to its channels. */
export type Way = "settle" | "close";

/**
 * Gas of whole transactions and of rows in batches, from contracts/GAS.md, rounded up. The rows' numbers are what one row
 * more costs; what a batch costs by itself is its total less its rows.
 */
export const GAS = {
	settle: 58_200n,
	close: 69_600n,
	batch: 45_000n,
	settleRow: 16_400n,
	closeRow: 27_900n,
	/** The first one of a channel: each later one takes 17,100 less. */
	settleByRelayer: 87_000n,
	closeByRelayer: 100_000n,
	/** What a contract wallet takes to say that a signature is good: an assumption, for a wallet with a few owners. */
	contractSignature: 30_000n,
} as const;

/** How close to the most gas that a transaction may need a batch may come. */
const FULL_PERCENT = 95n;

const WEI_PER_COIN = 10n ** 18n;
const RATIO_UNIT = 1_000n;

/** What gas costs now. */
export type Market = Readonly<{
	/** Wei. */
	feePerGas: bigint;
	/** What one coin (10^18 wei) is worth, in base units of the token. */
	coinPrice: bigint;
}>;

/** What has to be brought in so that a transaction is worth its gas. */
export type Bar =
	/** Nobody waits for it: `minValue` base units, and `minValueToGas` times the gas. */
	| Readonly<{ kind: "routine"; minValue: bigint; minValueToGas: number }>
	/** It may be lost: more than the gas; `minValue` where the price of gas is not known (I9). */
	| Readonly<{ kind: "urgent"; minValue: bigint }>
	/** Whatever it costs. */
	| Readonly<{ kind: "any" }>;

/** One channel that may be settled or closed. */
export type Row = Readonly<{
	/** What it would bring in, in base units. */
	value: bigint;
	/** It can't stand in a batch. */
	single: boolean;
	/** A contract has to say that its voucher is good. */
	byContract: boolean;
}>;

/** What batches may be. */
export type BatchLimits = Readonly<{
	/** The most rows, by the policy. */
	batchSize: number;
	/** The most gas that a transaction may need. */
	maxGas: bigint;
	/** Another account pays the gas: each row by itself, by the payee's authorization. */
	relayed: boolean;
}>;

/**
 * One transaction: its rows, the dearest first, the most that it may bid, in wei per gas, and the gas that this was reckoned
 * with.
 */
export type Step<T extends Row> = Readonly<{ way: Way; rows: readonly T[]; feeLimit?: bigint; plannedGas?: bigint }>;

/** What is to be sent, the highest values first, and what is not worth it. */
export type Steps<T extends Row> = Readonly<{ steps: readonly Step<T>[]; rest: readonly T[] }>;

/**
 * What `gas` costs in base units of the token, rounded up; 0 where nobody knows.
 *
 * @example
 * costOf(58_200n, { feePerGas: 10n ** 9n, coinPrice: 3_000_000_000n }); // 174_600n: 17 cents in USDC
 */
export function costOf(gas: bigint, market: Market | undefined): bigint {
	if (market === undefined) return 0n;
	return worthOfWei(gas * market.feePerGas, market);
}

/** How much wei is worth `value` base units of the token; `undefined` where nobody knows. */
export function worthInWei(value: bigint, market: Market | undefined): bigint | undefined {
	return market && (value * WEI_PER_COIN) / market.coinPrice;
}

/** What `wei` are worth in base units of the token, rounded up; 0 where nobody knows. */
export function worthOfWei(wei: bigint, market: Market | undefined): bigint {
	return market === undefined ? 0n : divideUp(wei * market.coinPrice, WEI_PER_COIN);
}

/** Whether `value` is worth `gas`. */
export function isWorth(value: bigint, gas: bigint, bar: Bar, market: Market | undefined): boolean {
	if (bar.kind === "any") return true;
	const cost = costOf(gas, market);
	if (bar.kind === "urgent") return market === undefined ? value > 0n && value >= bar.minValue : value > cost;
	return value > 0n && value >= bar.minValue && value * RATIO_UNIT >= cost * ratioOf(bar);
}

/** The gas of one row among `rows` in one transaction, its share of what they have in common included. */
export function gasOf(way: Way, row: Pick<Row, "single" | "byContract">, rows: number, relayed: boolean): bigint {
	const signature = row.byContract ? GAS.contractSignature : 0n;
	if (relayed) return (way === "settle" ? GAS.settleByRelayer : GAS.closeByRelayer) + signature;
	if (row.single || rows === 1) return (way === "settle" ? GAS.settle : GAS.close) + signature;
	return (way === "settle" ? GAS.settleRow : GAS.closeRow) + divideUp(GAS.batch, BigInt(rows));
}

/** How many rows a batch may have. */
export function rowsPerBatch(way: Way, { batchSize, maxGas, relayed }: BatchLimits): number {
	if (relayed) return 1;
	const rowGas = way === "settle" ? GAS.settleRow : GAS.closeRow;
	const fitting = ((maxGas * FULL_PERCENT) / 100n - GAS.batch) / rowGas;
	return Math.max(1, Math.min(batchSize, Number(fitting)));
}

/**
 * Whether a row can be worth it at all: in the fullest batch, at `discount` times lower fees. What is worth no transaction
 * even then is dust.
 */
export function mayBeWorth(
	way: Way,
	row: Row,
	bar: Bar,
	market: Market | undefined,
	limits: BatchLimits,
	discount = 1n,
): boolean {
	const cheaper = market && { ...market, feePerGas: market.feePerGas / discount };
	return isWorth(row.value, gasOf(way, row, rowsPerBatch(way, limits), limits.relayed), bar, cheaper);
}

/**
 * Which rows go to the chain, in which transactions. Every row of a step is worth its share of it, and the fee of a step
 * never exceeds what its rows bring in, divided by what the bar asks.
 *
 * @example
 * const { steps, rest } = planSteps("settle", rows, bar, market, limits);
 */
export function planSteps<T extends Row>(
	way: Way,
	rows: readonly T[],
	bar: Bar,
	market: Market | undefined,
	limits: BatchLimits,
): Steps<T> {
	const { relayed } = limits;
	const sorted = [...rows].sort((a, b) => (a.value === b.value ? 0 : a.value > b.value ? -1 : 1));
	const isSingle = (row: T) => row.single || relayed;
	const batches = evenly(
		sorted.filter((row) => !isSingle(row) && mayBeWorth(way, row, bar, market, limits)),
		rowsPerBatch(way, limits),
	).map((batch) => worthTogether(way, batch, bar, market));
	const singles = sorted.filter((row) => isSingle(row) && isWorth(row.value, gasOf(way, row, 1, relayed), bar, market));
	const steps = [...batches.filter(({ length }) => length > 0), ...singles.map((row) => [row])].map((chosen) => {
		const gas = chosen.reduce((sum, row) => sum + gasOf(way, row, chosen.length, relayed), 0n);
		const limit = feeLimitOf(brings(chosen), gas, bar, market);
		return { way, rows: chosen, ...(limit !== undefined && { feeLimit: limit, plannedGas: gas }) };
	});
	const chosen = new Set(steps.flatMap((step) => step.rows));
	return {
		steps: steps.sort((a, b) => (brings(a.rows) > brings(b.rows) ? -1 : 1)),
		rest: sorted.filter((row) => !chosen.has(row)),
	};
}

/** The most that may be bid, in wei per gas, so that the bar is still met; `undefined` where the price of gas is not known. */
function feeLimitOf(value: bigint, gas: bigint, bar: Bar, market: Market | undefined): bigint | undefined {
	if (market === undefined || bar.kind === "any") return undefined;
	const ratio = bar.kind === "urgent" ? RATIO_UNIT : ratioOf(bar);
	return (value * RATIO_UNIT * WEI_PER_COIN) / (gas * market.coinPrice * ratio);
}

/** Of rows with the highest first, those that are worth it when these, and no others, share a transaction. */
function worthTogether<T extends Row>(
	way: Way,
	rows: readonly T[],
	bar: Bar,
	market: Market | undefined,
): readonly T[] {
	const kept = rows.filter((row) => isWorth(row.value, gasOf(way, row, rows.length, false), bar, market));
	return kept.length === rows.length ? kept : worthTogether(way, kept, bar, market);
}

/** Slices of at most `most`, none much smaller than another: a last row alone would cost several times as much. */
function evenly<T>(rows: readonly T[], most: number): readonly (readonly T[])[] {
	const count = Math.ceil(rows.length / most);
	const size = Math.ceil(rows.length / count);
	return Array.from({ length: count }, (_, at) => rows.slice(at * size, (at + 1) * size)).filter(
		({ length }) => length > 0,
	);
}

function brings(rows: readonly Row[]): bigint {
	return rows.reduce((sum, { value }) => sum + value, 0n);
}

function ratioOf({ minValueToGas }: Extract<Bar, { kind: "routine" }>): bigint {
	return BigInt(Math.ceil(minValueToGas * Number(RATIO_UNIT)));
}

function divideUp(value: bigint, by: bigint): bigint {
	return (value + by - 1n) / by;
}
