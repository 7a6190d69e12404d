export { LevelStore, type LevelStoreOptions } from "./levelStore.ts";
export { MemoryStore } from "./memoryStore.ts";
export * from "./store.ts";
