import { type Channel, chainNow, unsettled } from "../channel.ts";
import type { EngineContext, EngineLog, OnEffects } from "../context.ts";
import type { Listeners } from "../hooks.ts";
import type { Effect } from "../ledger.ts";

export type EffectsParts = Readonly<{
	drains: EngineContext["drains"];
	/** Who waits for a channel's next voucher in vain finds out. */
	wakes: EngineContext["wakes"];
	listeners: Listeners;
	/** Settles and closes a channel at once: its payer has asked the chain to close it (I9). */
	urgent: (channel: Channel) => void;
	log: EngineLog;
}>;

/** Carries out what the ledger wants done of a channel, and tells who wants to know. */
export function effectsOf({ drains, wakes, listeners, urgent, log }: EffectsParts): OnEffects {
	const carryOut: Readonly<Record<Effect, (channel: Channel) => void>> = {
		drained: ({ channelId }) => drains.drained(channelId),
		"close-requested"(channel) {
			const { channelId, payer } = channel;
			const { closeRequestedAt } = chainNow(channel);
			const owed = unsettled(channel);
			log.warn({ channelId, unsettled: String(owed) }, "the payer asked the chain to close this channel");
			listeners.tell("onCloseRequested", { channelId, payer, closeRequestedAt, unsettled: owed });
			wakes.wake(channelId);
			urgent(channel);
		},
		frozen(channel) {
			const { channelId, payer, acceptedCumulative, settledOnChain, behind } = channel;
			const values = { channelId, deposit: String(behind?.deposit), settled: String(behind?.settledOnChain) };
			log.error(values, "the chain has taken back what a channel was funded or settled with; nothing is sold on it");
			const owed = acceptedCumulative - (behind?.settledOnChain ?? settledOnChain);
			listeners.tell("onAtRisk", { channelId, payer, unsettled: owed, reason: "frozen" });
			wakes.wake(channelId);
		},
		thawed: ({ channelId }) => log.info({ channelId }, "the chain shows again what the channel was relied on for"),
		closed({ channelId, payer, spent, settledOnChain, closeTxHash }) {
			const event = { channelId, payer, settledOnChain, ...(closeTxHash !== null && { txHash: closeTxHash }) };
			listeners.tell("onChannelClosed", event);
			wakes.wake(channelId);
			const unpaid = spent - settledOnChain;
			if (unpaid <= 0n) return;
			const values = { channelId, spent: String(spent), settled: String(settledOnChain) };
			log.error(values, "a channel was closed on chain with less than was delivered on it");
			listeners.tell("onAtRisk", { channelId, payer, unsettled: unpaid, reason: "lost" });
		},
	};
	return (channel, effects) => {
		for (const effect of effects) carryOut[effect](channel);
	};
}
