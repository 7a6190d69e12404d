import type { Hex } from "viem";
import type { Holders } from "./holders.ts";
import type { Row } from "./records.ts";
import type { Rounds, View } from "./rounds.ts";
import { hold, leftIn, openIds, readRow } from "./rows.ts";
import { type HeldChannel, PayerStoreError } from "./store.ts";

/** How many wait for a channel. */
const MAX_TAKERS = 1_000;

/** What is wanted: one of the channels that pay the same, or a certain one. */
export type Wish = Readonly<{ key: string } | { channelId: Hex }>;

/** How long, at most, one waits. */
export type Patience = Readonly<{ waitMs?: number | undefined; signal?: AbortSignal | undefined }>;

type Taker = {
	readonly holder: string;
	readonly wish: Wish;
	readonly waitMs: number;
	/** The holds that were asked for already, by channel and fence. */
	readonly asked: Set<string>;
	timer?: ReturnType<typeof setTimeout>;
	/** It has its answer, or has gone. */
	isDone: boolean;
	settle(answer: HeldChannel | undefined): void;
	fail(error: unknown): void;
};

type Found = Readonly<{ held: HeldChannel }> | Readonly<{ busy: readonly Row[] }>;

/** Whoever wants a channel, in the order in which they came: a channel that is given back goes to the first of them. */
export class Takers {
	readonly #rounds: Rounds;
	readonly #holders: Holders;
	readonly #release: (holder: string, held: HeldChannel) => void;
	readonly #waiting = new Set<Taker>();
	#serving = false;
	#look: ReturnType<typeof setTimeout> | undefined;

	/** @param release - gives back what came too late for the one who wanted it */
	constructor(rounds: Rounds, holders: Holders, release: (holder: string, held: HeldChannel) => void) {
		this.#rounds = rounds;
		this.#holders = holders;
		this.#release = release;
	}

	take(holder: string, wish: Wish, { waitMs = 0, signal }: Patience): Promise<HeldChannel | undefined> {
		signal?.throwIfAborted();
		if (this.#waiting.size >= MAX_TAKERS) throw new PayerStoreError("too many wait for a channel of this wallet");
		return new Promise((resolve, reject) => {
			const abort = () => taker.fail(signal?.reason);
			const end = () => {
				taker.isDone = true;
				this.#waiting.delete(taker);
				clearTimeout(taker.timer);
				signal?.removeEventListener("abort", abort);
				if (this.#waiting.size === 0) this.#stopLooking();
			};
			const taker: Taker = {
				holder,
				wish,
				waitMs,
				asked: new Set(),
				isDone: false,
				settle: (answer) => {
					if (taker.isDone) {
						if (answer !== undefined) this.#release(holder, answer);
						return;
					}
					end();
					resolve(answer);
				},
				fail: (error) => {
					if (taker.isDone) return;
					end();
					reject(error);
				},
			};
			signal?.addEventListener("abort", abort);
			this.#waiting.add(taker);
			this.serve();
		});
	}

	/** Lets go of everybody who waits for a holder that is gone. */
	leave(holder: string): void {
		const gone = new PayerStoreError("this wallet was closed while it waited for a channel");
		for (const taker of this.#waiting) if (taker.holder === holder) taker.fail(gone);
	}

	/** Looks whether there is a channel for whoever waits. Called when one may have become free. */
	serve(): void {
		if (this.#serving || this.#waiting.size === 0) return;
		this.#serving = true;
		const served: Taker[] = [];
		let lookMs: number | undefined;
		this.#rounds
			.run((view) => {
				this.#serving = false;
				served.push(...this.#waiting);
				// As it is before anybody is found to be there: it may be over when all have been looked for.
				lookMs = this.#holders.lookMs;
				return this.#serveAll(view, served);
			})
			.then(
				() => this.#lookAgain(lookMs),
				(error) => {
					this.#serving = false;
					for (const taker of served.length > 0 ? served : [...this.#waiting]) taker.fail(error);
				},
			);
	}

	async #serveAll(view: View, takers: readonly Taker[]): Promise<void> {
		for (const taker of takers) {
			if (taker.isDone) continue;
			try {
				this.#holders.check(taker.holder);
				const found = await this.#find(view, taker);
				view.afterwards.push(() => this.#answer(taker, found));
			} catch (error) {
				taker.fail(error);
			}
		}
	}

	#answer(taker: Taker, found: Found): void {
		if ("held" in found) {
			taker.settle(found.held);
			return;
		}
		const others = found.busy.filter(({ holder }) => holder !== taker.holder);
		if (others.length === 0 || taker.waitMs <= 0) taker.settle(undefined);
		if (taker.isDone) return;
		taker.timer ??= setTimeout(() => taker.settle(undefined), taker.waitMs);
		for (const { record, fence, holder = "" } of others) {
			const { channelId } = record.state;
			const hold = `${channelId} ${fence}`;
			if (taker.asked.has(hold)) continue;
			taker.asked.add(hold);
			this.#holders.ask(holder, channelId);
		}
	}

	/** Takes what is wanted, if it is free. */
	async #find(view: View, { wish, holder }: Taker): Promise<Found> {
		const rows = "key" in wish ? await this.#openRows(view, wish.key) : await this.#certainRow(view, wish.channelId);
		const free: Row[] = [];
		const busy: Row[] = [];
		for (const row of rows) {
			((await this.#holders.isBusy(row)) ? busy : free).push(row);
		}
		const [first, ...more] = free;
		if (first === undefined) return { busy };
		const most = more.reduce((a, b) => (leftIn(b) > leftIn(a) ? b : a), first);
		return { held: hold(view, most, holder, most) };
	}

	async #openRows(view: View, key: string): Promise<readonly Row[]> {
		const rows: Row[] = [];
		for (const channelId of await openIds(view, key)) {
			try {
				const row = await readRow(view, channelId);
				if (row?.record.status === "open" && row.record.key === key) rows.push(row);
			} catch {
				// A damaged one is no channel to pay with; the others are.
			}
		}
		return rows;
	}

	async #certainRow(view: View, channelId: Hex): Promise<readonly Row[]> {
		const row = await readRow(view, channelId);
		return row === undefined ? [] : [row];
	}

	/** Holders that go without a word are found out by looking again. */
	#lookAgain(lookMs: number | undefined): void {
		if (this.#waiting.size === 0 || lookMs === undefined || this.#look !== undefined) return;
		this.#look = setTimeout(() => {
			this.#look = undefined;
			this.serve();
		}, lookMs);
	}

	#stopLooking(): void {
		clearTimeout(this.#look);
		this.#look = undefined;
	}
}
