/** That a wallet is a store as any other, for the process that has its files open and for those that ask it. */
import { randomUUID } from "node:crypto";
import { Level } from "level";
import { prepareFolder } from "../../../src/client/node/folder.ts";
import { openWallet } from "../../../src/client/node/index.ts";
import { WalletOwner } from "../../../src/client/node/owner.ts";
import { RemoteStore } from "../../../src/client/node/remote.ts";
import { readWhereabouts } from "../../../src/client/node/whereabouts.ts";
import { openLevelBook } from "../../../src/client/store/levelStore.ts";
import type { PayerStore } from "../../../src/client/store/store.ts";
import { payerStoreSuite, type StoreStage } from "../store/suite.ts";
import { endAll, newFolder } from "./walletProcesses.ts";

/** Every holder asks over the socket. */
async function remoteStage(): Promise<StoreStage> {
	const folder = await prepareFolder(await newFolder());
	const stores: RemoteStore[] = [];
	let serving: Promise<() => Promise<void>> | undefined;
	const serve = async () => {
		const book = await openLevelBook(new Level(folder.database));
		const owner = await WalletOwner.start({ book, folder, holderGraceMs: 60_000 });
		return async () => {
			await owner.close();
			await book.close();
		};
	};
	const closeAll = async () => {
		await Promise.all(stores.splice(0).map((store) => store.close()));
		const stop = await serving;
		serving = undefined;
		await stop?.();
	};
	return {
		open: async () => {
			serving ??= serve();
			await serving;
			const owner = await readWhereabouts(folder);
			if (owner === undefined) throw new Error("nobody serves it");
			const hello = { holder: randomUUID(), held: [] };
			const store = await RemoteStore.dial({ owner, hello, welcomeMs: 10_000, answerMs: 10_000 });
			stores.push(store);
			return store;
		},
		kill: async (store: PayerStore) => (store as RemoteStore).hangUp(),
		closeAll,
		end: () => closeAll().finally(endAll),
	};
}

/** The first has the files open; when it goes, another has. */
async function walletStage(): Promise<StoreStage> {
	const folder = await newFolder();
	const stores: PayerStore[] = [];
	const closeAll = async () => {
		await Promise.all(stores.splice(0).map((store) => store.close()));
	};
	return {
		open: async () => {
			const store = await openWallet(folder);
			stores.push(store);
			return store;
		},
		kill: (store) => store.close(),
		closeAll,
		end: () => closeAll().finally(endAll),
	};
}

payerStoreSuite("a holder that asks the owner", remoteStage, true);
payerStoreSuite("openWallet", walletStage, true);
