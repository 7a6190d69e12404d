/** Whether a channel is written with nothing changed but its amounts, which is what every voucher does. */
import { UINT128_MAX } from "../../voucher/index.ts";
import type { Row } from "./records.ts";

const AMOUNTS = new Set(["deposit", "signed", "consumed", "uncertain"] as const);
const RECORD: ReadonlySet<string> = new Set(["record"]);
const NONE: ReadonlySet<string> = new Set();
const STATE: ReadonlySet<string> = new Set(["state"]);
const DECIMAL = /^(0|[1-9]\d{0,38})$/;

/**
 * The row that was there, with the amounts of another one; `undefined` where anything else differs, or an amount is none. It has no
 * object of the other one: whoever keeps that can't change it.
 */
export function withOtherAmounts(before: Row, row: Row): Row | undefined {
	const { state: stateBefore } = before.record;
	const { state } = row.record;
	if (!isSame(row, before, RECORD) || !isSame(row.record, before.record, STATE)) return undefined;
	if (!isSame(state, stateBefore, AMOUNTS)) return undefined;
	for (const name of AMOUNTS) if (state[name] !== stateBefore[name] && !isAmount(state[name])) return undefined;
	const { deposit, signed, consumed, uncertain } = state;
	const amounts = { deposit, signed, consumed, uncertain };
	return { ...before, record: { ...before.record, state: { ...stateBefore, ...amounts } } };
}

/** As `amountShape` has it. */
function isAmount(text: unknown): boolean {
	return typeof text === "string" && DECIMAL.test(text) && BigInt(text) <= UINT128_MAX;
}

/** Whether both are the same plain JSON, whatever the order of their members; but for those `others` of which both have some value. */
function isSame(a: unknown, b: unknown, others: ReadonlySet<string> = NONE): boolean {
	if (a === b) return true;
	if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
	if (Array.isArray(a) !== Array.isArray(b)) return false;
	const [one, other] = [a as Readonly<Record<string, unknown>>, b as Readonly<Record<string, unknown>>];
	const names = Object.keys(one);
	if (names.length !== Object.keys(other).length) return false;
	for (const name of names) {
		if (!Object.hasOwn(other, name)) return false;
		if (!others.has(name) && !isSame(one[name], other[name])) return false;
	}
	return true;
}
