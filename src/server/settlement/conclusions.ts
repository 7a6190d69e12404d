import type { OutboxEntry } from "../../escrow/outbox.ts";
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

/** A restart found a close by the server's own decision on its way: its channels sell nothing until the outcome is known. */
export async function resumeRetire(_context: EngineContext, _entry: OutboxEntry): Promise<void> {
	throw new Error("not written yet");
}
