/** What a payer's book is written into: text by key, in the order of the keys. */

/** Keys between the two, both left out. */
export type Range = Readonly<{ gt: string; lt: string; limit?: number; reverse?: boolean }>;

export type Entry = readonly [key: string, text: string];

/**
 * A text that is not made yet: in memory alone it may never be read, and of what several turns write to one key at once only the
 * last is.
 */
export type Unwritten = Readonly<{
	/** Makes it, which never fails. */
	text(): string;
	/** What it is the text of, where that is asked for soon. Nobody else has this object. */
	value?: object;
}>;

export type Text = string | Unwritten;

export function textOf(text: Text): string {
	return typeof text === "string" ? text : text.text();
}

/** Texts by key; `null` deletes. */
export type Operations = ReadonlyMap<string, Text | null>;

/** Where the texts are. Reads show what was written last, and writes are whole or not at all. */
export interface Kv {
	/** In the order of the keys. A key that can't be read fails all of them: it must not count as missing. */
	get(keys: readonly string[]): Promise<readonly (string | undefined)[]>;
	entries(range: Range): Promise<readonly Entry[]>;
	/** With `isSynced` it is through to the disk when it resolves. */
	write(operations: Operations, isSynced: boolean): Promise<void>;
	close(): Promise<void>;
}
