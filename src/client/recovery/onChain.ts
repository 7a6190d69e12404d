/** A kept channel as the payer's own node shows it, and by which clock its grace period runs. */
import type { Hex, PublicClient } from "viem";
import { type EscrowChannel, readChannel, readCloseGraceSeconds } from "../../escrow/reads.ts";
import type { ChannelRecord } from "../store/store.ts";
import type { LookParts } from "./parts.ts";

/** The escrow has no record of the channel: nothing of it was ever deposited. */
export class NothingDepositedError extends Error {
	override readonly name = "NothingDepositedError";
	readonly code = "NOTHING_DEPOSITED";
	readonly channelId: Hex;
	constructor(channelId: Hex, until: string) {
		super(`the escrow has no channel ${channelId}: there is nothing to get back${until}`);
		this.channelId = channelId;
	}
}

/** The node stays behind what it has shown before: nothing can be told from it now. */
export class NodeBehindError extends Error {
	override readonly name = "NodeBehindError";
	readonly code = "NODE_BEHIND";
	constructor(head: bigint, wanted: bigint) {
		super(`the node is at block ${head}, behind block ${wanted} that it has told of; run this again`);
	}
}

/** How often a node that is behind is asked, a polling interval apart. */
const MOST_LOOKS = 20;

/** A channel at one block. */
export type Sight = Readonly<{
	client: PublicClient;
	channel: EscrowChannel;
	blockNumber: bigint;
	/** Unix seconds of that block: the chain's clock, which the escrow goes by. */
	timestamp: number;
}>;

/**
 * The channel as of the latest block, which is `leastBlock` at least.
 *
 * @throws NothingDepositedError, NodeBehindError; PolicyRefusedError (`chain`) when the node is on another chain; viem's errors
 */
export async function look(parts: LookParts, record: ChannelRecord, leastBlock = 0n): Promise<Sight> {
	const { channelId, chainId, escrow } = record.state;
	const client = await parts.nodes.at(chainId);
	const head = await headFrom(client, leastBlock);
	const channel = await readChannel(client, escrow, channelId, head.number);
	if (channel === undefined) throw new NothingDepositedError(channelId, fundableHint(record, parts.now()));
	return { client, channel, blockNumber: head.number, timestamp: Number(head.timestamp) };
}

/** From when on the payer may withdraw, in Unix seconds of the chain; `undefined` when no close is requested. */
export async function withdrawableAt(
	{ client, channel }: Pick<Sight, "client" | "channel">,
	{ state }: ChannelRecord,
): Promise<number | undefined> {
	if (channel.closeRequestedAt === 0) return undefined;
	return channel.closeRequestedAt + (await readCloseGraceSeconds(client, state.escrow));
}

/** The latest block. Of several nodes behind one URL one may be behind the one that has told of `leastBlock`. */
async function headFrom(client: PublicClient, leastBlock: bigint) {
	for (let looks = 1; ; looks++) {
		const head = await client.getBlock({ blockTag: "latest" });
		if (head.number >= leastBlock) return head;
		if (looks === MOST_LOOKS) throw new NodeBehindError(head.number, leastBlock);
		await new Promise((resolve) => setTimeout(resolve, client.pollingInterval));
	}
}

function fundableHint({ fundableUntilMs }: ChannelRecord, now: number): string {
	if (fundableUntilMs !== undefined && fundableUntilMs <= now) return "";
	const when = fundableUntilMs === undefined ? "" : ` until ${new Date(fundableUntilMs).toISOString()}`;
	return `; what was signed for its deposit may still be used${when}: look again then`;
}
