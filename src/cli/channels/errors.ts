import type { Hex } from "viem";

/** The store has no such channel. */
export class ChannelNotFoundError extends Error {
	override readonly name = "ChannelNotFoundError";
	readonly code = "CHANNEL_NOT_FOUND";
	readonly channelIds: readonly Hex[];
	constructor(channelIds: readonly Hex[], folder: string) {
		super(
			`the store in ${folder} has no channel ${channelIds.join(", ")}; \`sluice channels list --data ${folder}\` shows which it has`,
		);
		this.channelIds = channelIds;
	}
}

/** The channel is finalized on chain: there is nothing left of it to settle. */
export class ChannelClosedError extends Error {
	override readonly name = "ChannelClosedError";
	readonly code = "CHANNEL_CLOSED";
	readonly channelId: Hex;
	constructor(channelId: Hex) {
		super(`channel ${channelId} is closed already; \`sluice channels show ${channelId}\` shows how; leave it out`);
		this.channelId = channelId;
	}
}
