import type { Address, Hex } from "viem";
import { type EscrowEvent, readEscrowEvents } from "../../escrow/escrowEvents.ts";
import type { Sight } from "./onChain.ts";

/** How far back the event is looked for that paid a channel out: nodes refuse wide ranges. */
const LOOKBACK_BLOCKS = 5_000n;

/** What paid a channel out. */
export type Conclusion = Extract<EscrowEvent, { name: "ChannelClosed" | "Withdrawn" }>;

/** The event that paid a channel out lately; `undefined` where the node does not show it. */
export async function findConclusion(
	{ client, blockNumber }: Pick<Sight, "client" | "blockNumber">,
	escrow: Address,
	channelId: Hex,
): Promise<Conclusion | undefined> {
	const fromBlock = blockNumber > LOOKBACK_BLOCKS ? blockNumber - LOOKBACK_BLOCKS : 0n;
	// Who it was is good to know; that it is done is known already.
	const events = await readEscrowEvents(client, escrow, { fromBlock, toBlock: blockNumber, channelId }).catch(() => []);
	return events.findLast((event) => event.name === "ChannelClosed" || event.name === "Withdrawn") as
		| Conclusion
		| undefined;
}
