import { openStoreCopy } from "../../server/store/index.ts";
import type { ChannelStore } from "../../server/store/store.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** What a shell calls a process that was interrupted. */
const INTERRUPTED = 130;

/** Works with a copy of a store, which is gone afterwards, also when the command is interrupted: it holds vouchers. */
export async function withStoreCopy<T>(folder: string, work: (store: ChannelStore) => Promise<T>): Promise<T> {
	const store = await openStoreCopy(folder);
	const interrupt = () => void store.close().finally(() => process.exit(INTERRUPTED));
	for (const signal of SIGNALS) process.once(signal, interrupt);
	try {
		return await work(store);
	} finally {
		for (const signal of SIGNALS) process.off(signal, interrupt);
		await store.close();
	}
}
