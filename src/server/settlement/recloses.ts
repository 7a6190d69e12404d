import type { Hex } from "viem";
import type { TransactionPurpose } from "../../escrow/outbox.ts";
import type { EngineContext } from "../context.ts";
import { applyEvent } from "../ledger.ts";
import type { Turn } from "../store/store.ts";
import { RELAY_LIFETIME_SECONDS } from "./relay.ts";
import { rowsOf } from "./rows.ts";

/**
 * What a restart does about closes by authorization that failed just before it: whoever has seen one can still send it, so
 * that its channel takes no vouchers and is closed again (draft-evm-session-00, Payee-initiated functions).
 */
export async function rememberRecloses(context: EngineContext): Promise<void> {
	const { store, terms, relayed, recloses, now } = context;
	if (!relayed) return;
	const since = now() - RELAY_LIFETIME_SECONDS * 1_000;
	for await (const { purpose, state, createdAt } of store.outbox({ state: "any" })) {
		const isFailed = state === "reverted" || state === "dropped";
		if (!isFailed || createdAt < since || purpose.currency !== terms.currency) continue;
		for (const channelId of closedBy(purpose)) {
			if (await stopSelling(context, channelId)) recloses.add(channelId);
		}
	}
}

function closedBy(purpose: TransactionPurpose): readonly Hex[] {
	if (purpose.kind === "close") return [purpose.channelId as Hex];
	return purpose.kind === "retire" ? rowsOf(purpose).map(({ channelId }) => channelId) : [];
}

/** Whether there is still something to close. */
async function stopSelling({ store, now }: EngineContext, channelId: Hex): Promise<boolean> {
	const { value, durable } = await store.transact({ channel: channelId }, ({ channel }): Turn<boolean> => {
		if (channel === undefined || channel.finalized) return { value: false };
		const step = applyEvent(channel, { type: "close-resumed", owner: store.owner }, now());
		return step.ok ? { value: true, writes: { channel: step.channel } } : { value: false };
	});
	await durable;
	return value;
}
