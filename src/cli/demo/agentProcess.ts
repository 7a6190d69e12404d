/**
 * The demo's agent, a process of its own with a wallet on disk. Tells what comes of what it is told to do. Ends with its input.
 */
import { createPublicClient, http } from "viem";
import { PaymentClient } from "../../client/index.ts";
import { keyAccount, openWallet } from "../../client/node/index.ts";
import type { AgentCommand, AgentSettings } from "./agentSettings.ts";
import { asText, runAsChild, type Started, say } from "./asChild.ts";
import { payAll } from "./channelOutcome.ts";

await runAsChild(start);

async function start(settings: AgentSettings): Promise<Started<AgentCommand>> {
	const store = await openWallet(settings.wallet);
	const payer = new PaymentClient({
		account: keyAccount(settings.privateKey),
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
	return {
		hello: { ready: true },
		obey(command) {
			obey(payer, settings, command).catch((error: unknown) => {
				say({ failed: error instanceof Error ? `${error.name}: ${error.message}` : String(error) });
			});
		},
	};
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
