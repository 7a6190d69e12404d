import type { Address, Hex } from "viem";
import { lowerLimit } from "./fees.ts";
import { type OutboxEntry, versionsOf } from "./outbox.ts";

/** What this process has seen of one transaction on its way. */
export type Progress = {
	readonly from: Address;
	readonly nonce: number;
	/** Wei per gas; `undefined` is none. */
	feeLimit: bigint | undefined;
	/** How often in a row another transaction was seen to have its nonce. */
	looksPassed: number;
	/** How often in a row a replacement was refused as too low. */
	underpriced: number;
	/** When the last bid was signed by this process, Unix ms. */
	bidAt?: number;
	/** Since when (Unix ms), and at which block, its newest version was next in the account's line. */
	inLine?: Readonly<{ version: Hex; since: number; head: bigint }>;
};

/** Transactions on their way. All that is known here may be lost: a restart only begins to count again. */
export class InFlight {
	readonly #progress = new Map<Hex, Progress>();

	of({ hash, from, nonce, feeLimit }: OutboxEntry): Progress {
		const known = this.#progress.get(hash);
		if (known !== undefined) return known;
		const limit = feeLimit === undefined ? undefined : BigInt(feeLimit);
		const progress = { from, nonce, feeLimit: limit, looksPassed: 0, underpriced: 0 };
		this.#progress.set(hash, progress);
		return progress;
	}

	/** Lets a transaction bid more, in wei per gas (`undefined`: any); never less. */
	raise(entry: OutboxEntry, feeLimit: bigint | undefined): void {
		const progress = this.of(entry);
		if (progress.feeLimit === undefined || (feeLimit !== undefined && feeLimit <= progress.feeLimit)) return;
		progress.feeLimit = feeLimit;
	}

	remove({ hash }: OutboxEntry): void {
		this.#progress.delete(hash);
	}

	/**
	 * The most that may be bid for a transaction, wei per gas. What waits behind it can't be mined before it, so the highest
	 * limit from its nonce on counts.
	 */
	limitFor({ from, nonce }: OutboxEntry, ceiling: bigint | undefined): bigint | undefined {
		let highest = 0n;
		for (const one of this.#progress.values()) {
			if (one.from !== from || one.nonce < nonce) continue;
			if (one.feeLimit === undefined) return ceiling;
			if (one.feeLimit > highest) highest = one.feeLimit;
		}
		return lowerLimit(highest, ceiling);
	}

	/** Since when, and at which block, the newest version was seen to be next in line: now, if it is the first time. */
	async inLineSince(entry: OutboxEntry, now: number, readHead: () => Promise<bigint>) {
		const progress = this.of(entry);
		const version = versionsOf(entry)[0]?.hash ?? entry.hash;
		if (progress.inLine?.version === version) return progress.inLine;
		const inLine = { version, since: now, head: await readHead() };
		progress.inLine = inLine;
		return inLine;
	}
}
