import type { OutboxEntry } from "../../escrow/outbox.ts";
import type { EngineContext } from "../context.ts";

/** A restart found a close by the server's own decision on its way: its channels sell nothing until the outcome is known. */
export async function resumeRetire(_context: EngineContext, _entry: OutboxEntry): Promise<void> {
	throw new Error("not written yet");
}
