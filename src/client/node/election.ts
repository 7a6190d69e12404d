/**
 * Finds the owner of a wallet, or becomes it. LevelDB's lock decides: it is free as soon as the process that had it is gone.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { isMainThread } from "node:worker_threads";
import { Level } from "level";
import { LevelKv } from "../store/levelKv.ts";
import { PayerBook } from "../store/payerBook.ts";
import { type PayerStore, PayerStoreError } from "../store/store.ts";
import type { WalletFolder } from "./folder.ts";
import { WalletOwner } from "./owner.ts";
import { claimDatabase, isKnownGone } from "./processes.ts";
import { OwnerGoneError, RemoteStore } from "./remote.ts";
import { describeOwner, readWhereabouts } from "./whereabouts.ts";
import type { Announced } from "./wire.ts";

/** How a holder reaches the wallet's book, until it doesn't any more. */
export type Link = Readonly<{
	store: PayerStore;
	/** Resolves when the owner's process is gone. */
	gone: Promise<void>;
	/** Gives everything back and lets go of the wallet. */
	close(): Promise<void>;
}>;

export type ElectionOptions = Readonly<{
	folder: WalletFolder;
	holder: string;
	/** What it has, to the best of its knowledge at the moment. */
	held: () => readonly Announced[];
	holderGraceMs: number;
	/** How long it may take to find an owner. */
	ownerMs: number;
}>;

/** How long an owner may take to let somebody in. */
const WELCOME_MS = 2_000;
const FIRST_PAUSE_MS = 5;
const LONGEST_PAUSE_MS = 100;

/**
 * Reaches the wallet's owner, or becomes it where there is none.
 *
 * @throws PayerStoreError when there is neither in time, or the files can't be used
 */
export async function reachOwner(options: ElectionOptions): Promise<Link> {
	const deadline = performance.now() + options.ownerMs;
	for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
		const link = (await dialOwner(options)) ?? (await becomeOwner(options));
		if (link !== undefined) return link;
		if (performance.now() >= deadline) throw await noOwner(options);
		// At random: those who wait for the same lock should not all come at once.
		await sleep(pauseMs * (0.5 + Math.random()), undefined, { ref: false });
	}
}

async function dialOwner({ folder, holder, held, ownerMs }: ElectionOptions): Promise<Link | undefined> {
	const owner = await readWhereabouts(folder);
	if (owner === undefined) return undefined;
	try {
		const store = await RemoteStore.dial({
			owner,
			hello: { holder, held: [...held()] },
			welcomeMs: Math.min(WELCOME_MS, ownerMs),
			answerMs: ownerMs,
		});
		return { store, gone: store.gone, close: () => store.close() };
	} catch (error) {
		if (error instanceof OwnerGoneError) return undefined;
		throw error;
	}
}

async function becomeOwner({ folder, holder, held, holderGraceMs }: ElectionOptions): Promise<Link | undefined> {
	// Other threads don't see what this one has reserved.
	if (!isMainThread) return undefined;
	const release = claimDatabase(folder.identity);
	if (release === undefined) return undefined;
	try {
		const files = await openFiles(folder);
		if (files === undefined) {
			release();
			return undefined;
		}
		try {
			const book = await openBook(files, holderGraceMs);
			await book.holderBack(holder, held());
			const owner = await WalletOwner.start({ book, folder, holderGraceMs });
			const store = book.as(holder);
			return {
				store,
				// The book is gone when this process is.
				gone: new Promise(() => {}),
				close: async () => {
					try {
						await owner.close();
						// Not by the book's own `close`, which frees what the others hold: they take it along to the next owner.
						await store.close();
					} finally {
						// What could not be given back is free when this process is gone, or says that it has it no more.
						await files.close();
						release();
					}
				},
			};
		} catch (error) {
			await files.close();
			throw error;
		}
	} catch (error) {
		release();
		throw error;
	}
}

/** @returns `undefined` when another process has them open */
async function openFiles(folder: WalletFolder): Promise<LevelKv | undefined> {
	const database = new Level<string, string>(folder.database);
	try {
		await database.open();
	} catch (error) {
		if (isLocked(error)) return undefined;
		const { message } = deepest(error);
		throw new PayerStoreError(`the wallet in ${folder.path} can't be opened; ${message}: ${hintFor(message)}`, {
			cause: error,
		});
	}
	return new LevelKv(database);
}

async function openBook(files: LevelKv, graceMs: number): Promise<PayerBook> {
	const until = performance.now() + graceMs;
	return await PayerBook.open(files, {
		neighbours: {
			// Those who are there tell so within a moment; those whose process is gone need no moment.
			isThere: async (holder) => performance.now() < until && !isKnownGone(holder),
			lookMs: graceMs / 4,
			arrive: () => undefined,
			leave: () => undefined,
			tellWanted: () => undefined,
			tellFreed: () => undefined,
			listen: () => () => undefined,
		},
	});
}

async function noOwner({ folder }: ElectionOptions): Promise<PayerStoreError> {
	const owner = await readWhereabouts(folder);
	const who = describeOwner(owner);
	if (!isMainThread && owner === undefined) {
		const hint = "a worker thread can't open it: open it in the main thread first, and keep it open there";
		return new PayerStoreError(`nobody has the wallet in ${folder.path} open; ${hint}`);
	}
	const command = owner === undefined ? "" : ` (\`kill ${owner.pid}\`)`;
	return new PayerStoreError(
		`${who} has the wallet in ${folder.path} open and doesn't answer; if it hangs, end it${command}: another takes over`,
	);
}

/** What to do about what LevelDB says, which has no codes for it. */
export function hintFor(message: string): string {
	if (/permission denied|not permitted|access is denied/i.test(message))
		return "give its files back to the user that runs this (chown -R), who has to read and write all of them";
	if (/read-only/i.test(message)) return "put it where files can be written";
	return "check that the disk is not full";
}

function isLocked(error: unknown): boolean {
	const reason = deepest(error);
	return "code" in reason && reason.code === "LEVEL_LOCKED";
}

function deepest(error: unknown): Error {
	if (!(error instanceof Error)) return new Error(String(error));
	return error.cause === undefined ? error : deepest(error.cause);
}
