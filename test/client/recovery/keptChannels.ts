import type { PublicClient } from "viem";
import { afterEach } from "vitest";
import type { PayerStore } from "../../../src/client/store/store.ts";
import type { Stage } from "../stage.ts";
import { type FundedOptions, fundedChannel, partsFor, type WalletFolder, walletFolder } from "./support.ts";

/**
 * Makes channels that are kept in wallet folders of their own, for the tests of one file; they are put away after each test, and
 * so is what is given to `closeLater`.
 */
export function keptChannels(stage: () => Stage) {
	const folders: WalletFolder[] = [];
	const stores: PayerStore[] = [];
	afterEach(async () => {
		for (const store of stores.splice(0)) await store.close();
		for (const folder of folders.splice(0)) await folder.remove();
	});
	return {
		closeLater: (store: PayerStore) => void stores.push(store),
		async keptChannel(options: FundedOptions = {}, client?: PublicClient) {
			const channel = await fundedChannel(stage(), options);
			const folder = await walletFolder(channel.record);
			const store = await folder.open();
			folders.push(folder);
			stores.push(store);
			return { channel, folder, store, parts: partsFor(stage(), channel.payer, store, client) };
		},
	};
}
