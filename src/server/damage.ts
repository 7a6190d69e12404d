import type { EngineLog } from "./context.ts";
import type { ChannelStore } from "./store/store.ts";

/** Tells of each damaged record that the store has come upon, once: some are found long after the start. */
export class DamageReport {
	readonly #store: Pick<ChannelStore, "quarantined">;
	readonly #log: EngineLog;
	readonly #told = new Set<string>();

	constructor(store: Pick<ChannelStore, "quarantined">, log: EngineLog) {
		this.#store = store;
		this.#log = log;
	}

	tell(): void {
		for (const { key, reason } of this.#store.quarantined()) {
			if (this.#told.has(key)) continue;
			this.#told.add(key);
			this.#log.error({ key, reason }, "a stored record is damaged; restore it from a backup");
		}
	}
}
