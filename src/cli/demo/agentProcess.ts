/**
 * The demo's agent, a process of its own with a wallet on disk. Reads its settings, its key included, as one JSON line from
 * standard input, so that no secret stands in its arguments or environment, and then what it is told to do; tells what comes
 * of it as JSON lines. Ends with its input.
 */
import { once } from "node:events";
import { createInterface } from "node:readline";
import { createPublicClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { PaymentClient } from "../../client/index.ts";
import { openWallet } from "../../client/node/index.ts";
import type { AgentCommand, AgentSettings } from "./agentSettings.ts";
import { payAll } from "./channelOutcome.ts";
import { say } from "./crash.ts";

try {
	await main();
} catch (error) {
	process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
	process.exit(1);
}

async function main(): Promise<void> {
	const lines = createInterface({ input: process.stdin });
	const [line] = (await once(lines, "line")) as [string];
	const settings = JSON.parse(line) as AgentSettings;
	const store = await openWallet(settings.wallet);
	const payer = new PaymentClient({
		account: privateKeyToAccount(settings.privateKey),
		client: createPublicClient({ transport: http(settings.rpcUrl), pollingInterval: 50, cacheTime: 0 }),
		store,
		policy: {
			chainIds: [settings.chainId],
			tokens: [settings.token],
			escrows: [settings.escrow],
			hosts: [new URL(settings.url).host],
			maxDeposit: BigInt(settings.maxDeposit),
			maxPrice: BigInt(settings.maxPrice),
		},
	});
	lines.on("line", (text) => {
		obey(payer, settings, JSON.parse(text) as AgentCommand).catch((error: unknown) => {
			say({ failed: error instanceof Error ? `${error.name}: ${error.message}` : String(error) });
		});
	});
	lines.on("close", () => process.exit(0));
	say({ ready: true });
}

async function obey(payer: PaymentClient, { url, pollMs }: AgentSettings, command: AgentCommand): Promise<void> {
	const onProgress = (progress: object) => say(asText(progress));
	if ("pay" in command) {
		const paid = await payAll(() => payer.fetch(url), command.pay, command.concurrency);
		const [channel] = payer.channels;
		say({ paid, channelId: channel?.channelId, signed: String(channel?.signed) });
	} else if ("requestClose" in command) {
		say({ requested: asText(await payer.requestClose(command.requestClose, { onProgress })) });
	} else if ("withdraw" in command) {
		say({ withdrawn: asText(await payer.withdraw(command.withdraw, { onProgress, pollMs })) });
	} else {
		say({ evidence: await payer.evidence(command.evidence) });
	}
}

/** Amounts as decimal strings. */
function asText(values: object): Record<string, unknown> {
	const texts = Object.entries(values).map(([name, value]) => [
		name,
		typeof value === "bigint" ? String(value) : value,
	]);
	return Object.fromEntries(texts) as Record<string, unknown>;
}
