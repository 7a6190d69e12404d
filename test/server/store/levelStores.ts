/** Opens level stores for tests, again in the same folder, or after something was done to what is on disk. */
import { Level } from "level";
import { LevelStore } from "../../../src/server/store/levelStore.ts";
import type { ChannelStore } from "../../../src/server/store/store.ts";
import { freshFolder } from "./folders.ts";

export const folders = new Map<ChannelStore, string>();

export async function open(options: { idleChannels?: number } = {}, folder?: string): Promise<LevelStore> {
	const place = folder ?? (await freshFolder());
	const store = await LevelStore.open({ folder: place, ...options });
	folders.set(store, place);
	return store;
}

export async function reopen(store: ChannelStore): Promise<LevelStore> {
	await store.close();
	return open({}, folders.get(store));
}

/** Changes what is on disk behind the store's back. */
export async function tamper(
	store: ChannelStore,
	change: (disk: Level<string, string>) => Promise<void>,
): Promise<LevelStore> {
	await store.close();
	const disk = new Level<string, string>(folders.get(store) ?? "");
	await change(disk);
	await disk.close();
	return reopen(store);
}
