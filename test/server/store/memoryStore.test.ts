import { MemoryStore } from "../../../src/server/store/memoryStore.ts";
import { describeStore } from "./conformance.ts";

describeStore("MemoryStore", { open: async () => new MemoryStore() });
