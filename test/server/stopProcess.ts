/** A program that runs an engine in a process of its own, for the tests of how one ends. Its argument: settings as JSON. */
import { createPublicClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { PaymentEngine } from "../../src/server/engine.ts";
import { stopOnSignals } from "../../src/server/signals.ts";
import { LevelStore } from "../../src/server/store/index.ts";
import type { StopSettings } from "./stopStage.ts";

const settings = JSON.parse(process.argv[2] ?? "") as StopSettings;
const store = await LevelStore.open({ folder: settings.folder });
const engine = await PaymentEngine.start({
	realm: "stop.sluice.test",
	client: createPublicClient({ transport: http(settings.rpcUrl), cacheTime: 0 }),
	chainId: settings.chainId,
	escrow: settings.escrow,
	currency: settings.token,
	account: privateKeyToAccount(settings.privateKey),
	secrets: ["a secret of a test, which is 32 bytes long"],
	store,
	receiptPollMs: 10,
	settlement: { maxUnsettled: 1n },
	watch: { pollMs: 20 },
});

async function stop(): Promise<void> {
	await engine.stop();
	await store.close();
}

if (settings.mode === "script") {
	await engine.settle();
	await stop();
	process.stdout.write("done\n");
} else {
	// A server's socket would keep it alive.
	setInterval(() => undefined, 1_000);
	stopOnSignals(stop, { deadlineMs: settings.deadlineMs });
	process.stdout.write("ready\n");
}
