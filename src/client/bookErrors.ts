import type { Hex } from "viem";

/** The deposit is used up, and the policy does not allow as much to be added as this request needs. */
export class DepositExhaustedError extends Error {
	override readonly name = "DepositExhaustedError";
	readonly code = "DEPOSIT_EXHAUSTED";
	readonly channelId: Hex;
	constructor(channelId: Hex, needed: bigint, deposit: bigint) {
		super(
			`channel ${channelId} holds ${deposit}, this request needs ${needed}, and the policy allows no such top-up; close it and let a new one be opened`,
		);
		this.channelId = channelId;
	}
}

/** The server wants more for this channel than was consumed and asked for. Nothing more was signed. */
export class OverchargeError extends Error {
	override readonly name = "OverchargeError";
	readonly code = "OVERCHARGE";
	readonly channelId: Hex;
	constructor(channelId: Hex, asked: bigint, owed: bigint, hint = "") {
		super(`channel ${channelId}: the server asks for a voucher of ${asked}, but at most ${owed} is owed${hint}`);
		this.channelId = channelId;
	}
}
