import { memoryStage } from "./stages.ts";
import { payerStoreSuite } from "./suite.ts";

payerStoreSuite("MemoryPayerStore", memoryStage, false);
