/** Whether more may be paid out of what was signed before: asked before every such payment, so from memory where that is safe. */
import type { Hex } from "viem";
import type { Kv } from "./kv.ts";
import { readPause } from "./pause.ts";
import { type Hold, type Told, View } from "./rounds.ts";
import { readRow } from "./rows.ts";
import { HolderLostError, PausedError } from "./store.ts";

export type ConfirmationsOptions = Readonly<{
	kv: Kv;
	/** Whether others write into the same database, who tell nobody here. */
	isShared: boolean;
}>;

/**
 * Who has which channel, and the pause, as they were written last. What this memory does not know is read: it knows only what
 * went to the disk through it, so it is never behind what anybody was told.
 */
export class Confirmations {
	readonly #kv: Kv;
	readonly #isShared: boolean;
	/** As many as there are channels that somebody has. */
	readonly #holds = new Map<Hex, Hold>();
	#pause: Readonly<{ reason: string | undefined }> | undefined;

	constructor({ kv, isShared }: ConfirmationsOptions) {
		this.#kv = kv;
		this.#isShared = isShared;
	}

	/** Takes what a turn has written, or, where it is not known whether it was, forgets what that concerns. */
	written({ holds, pause }: Told, isWritten: boolean): void {
		if (this.#isShared) return;
		for (const [channelId, hold] of holds) {
			if (isWritten && hold !== undefined) this.#holds.set(channelId, hold);
			else this.#holds.delete(channelId);
		}
		if (pause !== undefined) this.#pause = isWritten ? pause : undefined;
	}

	/**
	 * @throws HolderLostError
	 * @throws PausedError
	 * @throws PayerStoreError when either can't be read
	 */
	async confirm(holder: string, channelId: Hex, fence: number): Promise<void> {
		const hold = this.#holds.get(channelId) ?? (await readRow(new View(this.#kv), channelId));
		if (hold?.holder !== holder || hold.fence !== fence) throw new HolderLostError(channelId);
		const { reason } = this.#pause ?? { reason: await readPause(new View(this.#kv)) };
		if (reason !== undefined) throw new PausedError(reason);
	}
}
