import type { EngineContext } from "../context.ts";
import type { Conclusions } from "../transactions.ts";

export { retireKey, settleKey } from "./rows.ts";

/** What becomes of the ledger when a settlement was mined, or failed. */
export function settleConclusions(_context: EngineContext): Conclusions {
	throw new Error("not written yet");
}

/** What becomes of the ledger when a close by the server's own decision was mined, or failed. */
export function retireConclusions(_context: EngineContext): Conclusions {
	throw new Error("not written yet");
}
