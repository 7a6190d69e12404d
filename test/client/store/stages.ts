/** Stages for the stores that need no other process. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Level } from "level";
import type { BookHandle } from "../../../src/client/store/bookHandle.ts";
import { LevelPayerStore } from "../../../src/client/store/levelStore.ts";
import { MemoryPayerStore } from "../../../src/client/store/memoryStore.ts";
import type { SharedStore } from "../../../src/client/store/sharedStore.ts";
import type { PayerStore } from "../../../src/client/store/store.ts";
import type { StoreStage } from "./suite.ts";

export async function memoryStage(): Promise<StoreStage> {
	const first = new MemoryPayerStore();
	return stageOf(async () => first);
}

export async function levelStage(): Promise<StoreStage & Readonly<{ folder: string }>> {
	const folder = await freshFolder();
	const stage = stageOf(() => LevelPayerStore.open({ db: openDatabase(folder) }));
	return { ...stage, folder, end: () => stage.end().finally(removeFolders) };
}

/** All stores but the first share it. */
function stageOf(openFirst: () => Promise<SharedStore>): StoreStage {
	let stores: SharedStore[] = [];
	const closeAll = async () => {
		await Promise.all(stores.splice(0).map((store) => store.close()));
	};
	return {
		open: async () => {
			const [first] = stores;
			const store = first === undefined ? await openFirst() : first.share();
			stores = [...stores, store];
			return store;
		},
		kill: async (store: PayerStore) => {
			const { book, holder } = store as BookHandle;
			await book.holderGone(holder);
		},
		closeAll,
		end: closeAll,
	};
}

export function openDatabase(folder: string): Level<string, string> {
	return new Level<string, string>(folder);
}

const made: string[] = [];

export async function freshFolder(): Promise<string> {
	const parent = await mkdtemp(join(tmpdir(), "sluice-wallet-"));
	made.push(parent);
	return join(parent, "db");
}

export async function removeFolders(): Promise<void> {
	await Promise.all(made.splice(0).map((folder) => rm(folder, { recursive: true, force: true })));
}
