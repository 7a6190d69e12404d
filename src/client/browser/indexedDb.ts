import { BrowserLevel } from "browser-level";
import { LevelPayerStore } from "../store/levelStore.ts";
import { PayerStoreError } from "../store/store.ts";
import { unavailable } from "../store/unavailable.ts";
import { exclusiveByLock, tabsOf } from "./tabs.ts";

/**
 * A payer's store in the browser's IndexedDB, shared by all tabs of the page's origin: a channel is used by one tab at a
 * time, and one that a closed tab had is free at once. Scripts of the same origin can read it, session keys included.
 *
 * A browser may delete what pages have kept when it is short of space, unless `navigator.storage.persist()` was granted.
 *
 * @param name - stores of different names know nothing of each other
 * @throws PayerStoreError where the browser has no Web Locks (they need https, or localhost) or IndexedDB can't be used
 * @example
 * const store = await openIndexedDbStore();
 * const client = new PaymentClient({ ...options, store });
 */
export async function openIndexedDbStore(name = "sluice"): Promise<LevelPayerStore> {
	if (globalThis.navigator?.locks === undefined)
		throw new PayerStoreError("this page can't share its wallet between tabs: serve it by https, or from localhost");
	const db = new BrowserLevel<string, string>(name, { prefix: "sluice-wallet-" });
	try {
		await db.open();
		writeThrough(db);
	} catch (cause) {
		throw unavailable(cause);
	}
	return await LevelPayerStore.open({ db, exclusive: exclusiveByLock(name), neighbours: tabsOf(name) });
}

/** Has every write on disk when it is said to be: browsers may otherwise say so earlier, and browser-level can't be asked. */
function writeThrough(db: BrowserLevel<string, string>): void {
	const { db: database } = db as unknown as Readonly<{ db: IDBDatabase }>;
	const begin = database.transaction.bind(database);
	database.transaction = (stores, mode, options) =>
		begin(stores, mode, mode === "readwrite" ? { durability: "strict", ...options } : options);
}
