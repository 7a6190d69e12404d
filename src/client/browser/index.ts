/** What only a browser has for a payer: a store in IndexedDB that all tabs of an origin share. */

export { openIndexedDbStore } from "./indexedDb.ts";
