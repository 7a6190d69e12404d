import { levelStage } from "./stages.ts";
import { payerStoreSuite } from "./suite.ts";

payerStoreSuite("LevelPayerStore", levelStage, true);
