/** What only a browser has for a payer: a store in IndexedDB that all tabs of an origin share, and its owner's wallet. */

export {
	accountFromProvider,
	type Provider,
	type ProviderAccount,
	type ProviderAccountOptions,
	ProviderError,
	UserRejectedError,
} from "./eip1193.ts";
export { openIndexedDbStore } from "./indexedDb.ts";
