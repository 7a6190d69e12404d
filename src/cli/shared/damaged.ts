import type { ChannelStore, QuarantinedRecord } from "../../server/store/store.ts";
import type { Run } from "./command.ts";

/** Says which records can't be read. What they hold is not known: they keep nothing else from being done. */
export function tellDamaged(run: Run, store: ChannelStore): readonly QuarantinedRecord[] {
	const damaged = store.quarantined();
	for (const { reason } of damaged) run.say(`warning: ${reason}`);
	return damaged;
}
