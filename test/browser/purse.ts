import type { Hex, LocalAccount } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

/**
 * The page's own key, which stays in it. Kept by a transaction that is on disk when it is done: what `localStorage` was told is
 * written some seconds later, and a browser that crashes meanwhile has forgotten it, with all that the key has.
 */
export async function openPurse(): Promise<LocalAccount> {
	const opening = indexedDB.open("purse-key");
	opening.onupgradeneeded = () => opening.result.createObjectStore("keys");
	const db = await done(opening);
	const store = () => db.transaction("keys", "readwrite", { durability: "strict" }).objectStore("keys");
	const kept = await done<Hex | undefined>(store().get("purse"));
	if (kept !== undefined) return privateKeyToAccount(kept);
	const key = generatePrivateKey();
	const adding = store();
	adding.put(key, "purse");
	await new Promise<void>((resolve, reject) => {
		adding.transaction.oncomplete = () => resolve();
		adding.transaction.onerror = () => reject(adding.transaction.error);
	});
	return privateKeyToAccount(key);
}

function done<T>(request: IDBRequest<T>): Promise<T> {
	return new Promise((resolve, reject) => {
		request.onsuccess = () => resolve(request.result);
		request.onerror = () => reject(request.error);
	});
}
