import type { Hex } from "viem";
import type { EngineContext } from "../context.ts";
import { applyEvent } from "../ledger.ts";

/** How many channels are put off at a time. */
const AT_ONCE = 100;

/** Writes down that these channels are looked at again only when they have been due once more. */
export async function deferAll(
	{ store, now }: Pick<EngineContext, "store" | "now">,
	channelIds: readonly Hex[],
	onFault: (error: unknown) => void,
): Promise<void> {
	const defer = async (channelId: Hex) => {
		const { durable } = await store.transact({ channel: channelId }, ({ channel }) => {
			const step = applyEvent(channel, { type: "deferred" }, now());
			return { value: undefined, ...(step.ok && { writes: { channel: step.channel } }) };
		});
		await durable;
	};
	for (let at = 0; at < channelIds.length; at += AT_ONCE)
		await Promise.all(channelIds.slice(at, at + AT_ONCE).map((channelId) => defer(channelId).catch(onFault)));
}
