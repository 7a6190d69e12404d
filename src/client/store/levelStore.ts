import { type LevelDatabase, LevelKv } from "./levelKv.ts";
import { PayerBook, type PayerBookOptions } from "./payerBook.ts";
import { newHolder, SharedStore } from "./sharedStore.ts";
import { PayerStoreError } from "./store.ts";
import { unavailable } from "./unavailable.ts";

export type LevelPayerStoreOptions = PayerBookOptions &
	Readonly<{
		/** Any database of the `abstract-level` kind with keys and values of text. The store closes it. */
		db: LevelDatabase;
		/** Who this is among those that share the database. */
		holder?: string;
	}>;

/** Two books over one database would not know of each other's turns. */
const inUse = new WeakSet<LevelDatabase>();

/**
 * Keeps everything in a Level database: LevelDB's in Node, IndexedDB in browsers.
 *
 * @example
 * const store = await LevelPayerStore.open({ db: new Level("./wallet") });
 * const client = new PaymentClient({ ...options, store });
 */
export class LevelPayerStore extends SharedStore {
	/**
	 * Opens the store, and its database if it isn't open.
	 *
	 * @throws PayerStoreError when the database can't be opened, or a store has it already
	 */
	static async open({ db, holder = newHolder(), ...options }: LevelPayerStoreOptions): Promise<LevelPayerStore> {
		return new LevelPayerStore(await openLevelBook(db, options), holder);
	}
}

/**
 * The book in a Level database, for whoever lets others hold its channels.
 *
 * @throws PayerStoreError when the database can't be opened, or a store has it already
 */
export async function openLevelBook(db: LevelDatabase, options: PayerBookOptions = {}): Promise<PayerBook> {
	if (inUse.has(db)) throw new PayerStoreError("a store has this database already: use its `share()`");
	inUse.add(db);
	try {
		await db.open();
		return await PayerBook.open(new LevelKv(db, () => inUse.delete(db)), options);
	} catch (cause) {
		inUse.delete(db);
		throw unavailable(cause);
	}
}
