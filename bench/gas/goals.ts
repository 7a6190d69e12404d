import type { Operation } from "./measure.ts";

/** What an operation is called in the table, and what it may cost at most: gas, but bytes where the label says so. */
export const GOALS: Readonly<Record<Operation, Readonly<{ label: string; goal: number }>>> = {
	open: { label: "`open`, approved, known route", goal: 95_000 },
	openDelegated: { label: "`open` with a delegated signer", goal: 117_500 },
	openWithAuthorization: { label: "`openWithAuthorization`", goal: 124_000 },
	topUp: { label: "`topUp`", goal: 55_500 },
	topUpWithAuthorization: { label: "`topUpWithAuthorization`", goal: 84_500 },
	settle: { label: "`settle`", goal: 59_000 },
	close: { label: "`close` with payout and refund", goal: 70_000 },
	closeForfeit: { label: "`close`, forfeit", goal: 53_500 },
	requestClose: { label: "`requestClose`", goal: 30_500 },
	withdraw: { label: "`withdraw`", goal: 53_500 },
	settleWithAuthorization: { label: "`settleWithAuthorization`, later nonce", goal: 70_500 },
	closeWithAuthorization: { label: "`closeWithAuthorization`, first nonce", goal: 100_000 },
	settleMany100: { label: "`settleMany` of 100 rows", goal: 1_680_000 },
	settleManyRow: { label: "`settleMany`, each further row", goal: 16_500 },
	settleManyRowBytes: { label: "`settleMany`, bytes a row", goal: 128 },
	closeManyRow: { label: "`closeMany`, each further row", goal: 28_000 },
	life: { label: "a whole life: `openWithAuthorization` + `close`", goal: 194_000 },
};
