export { copyStore, openStoreCopy, type StoreCopy } from "./copy.ts";
export { isStoreFolder } from "./disk.ts";
export { type Holder, readHolder } from "./holder.ts";
export { LevelStore, type LevelStoreOptions } from "./levelStore.ts";
export { MemoryStore } from "./memoryStore.ts";
export * from "./store.ts";
