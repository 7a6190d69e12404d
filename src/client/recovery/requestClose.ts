import type { Hex } from "viem";
import { type Hold, keep, withHeld } from "./held.ts";
import { look, type Sight, withdrawableAt } from "./onChain.ts";
import type { RecoveryParts } from "./parts.ts";
import { type SendingOptions, send, takeUp } from "./send.ts";

/** Where a channel's close stands. Times in Unix seconds of the chain, amounts in base units. */
export type CloseRequest = Readonly<{
	channelId: Hex;
	chainId: number;
	deposit: bigint;
	settled: bigint;
}> &
	Readonly<
		| {
				/** `requested`: just now; `found`: it was requested before, by this wallet or another one of the payer's. */
				outcome: "requested" | "found";
				closeRequestedAt: number;
				/** The first second in which `withdraw` works. */
				withdrawableAt: number;
				/** The payer's transaction, where this wallet has sent it. */
				hash?: Hex;
		  }
		/** It is paid out already: what was left of the deposit is with the payer. */
		| { outcome: "finalized" }
	>;

/** The transaction was mined, and the node does not show what it did. */
export class CloseNotSeenError extends Error {
	override readonly name = "CloseNotSeenError";
	readonly code = "CLOSE_NOT_SEEN";
	constructor(channelId: Hex, hash: Hex) {
		super(`the close of channel ${channelId} was requested by ${hash}, and the node does not show it; run this again`);
	}
}

/**
 * Asks the escrow itself for a channel's close, by a transaction of the payer's: the grace period begins, after which
 * `withdraw` gets the rest of the deposit back without the server (draft-evm-session-00, requestClose and Forced Close). No
 * voucher is signed for the channel from then on.
 *
 * Asking again is safe, after a crash as well: a request that was made, or is on its way, is found. Until something is about
 * to be sent nothing changes: where it fails before, for want of gas for example, the channel can be used as before.
 *
 * @throws ChannelUnknownError, ChannelInUseError, WrongPayerError, NothingDepositedError, NoGasError
 * @throws ContractPayerError with the call that a contract wallet has to make
 * @throws TransactionPendingError and others of the sender's
 * @example
 * const { outcome } = await requestClose(parts, channelId);
 */
export function requestClose(
	parts: RecoveryParts,
	channelId: Hex,
	options: SendingOptions = {},
): Promise<CloseRequest> {
	return withHeld(parts, channelId, options.signal, async (hold) => {
		const found = await standing(hold, await look(parts, hold.channel.record), "found");
		if (found !== undefined) return found;
		const earlier = await takeUp(parts, hold, "requestClose", options);
		if (earlier !== undefined) {
			// A top-up of the payer's may have cancelled it since.
			const sight = await look(parts, hold.channel.record, earlier.blockNumber);
			const taken = await standing(hold, sight, "requested", earlier.transactionHash);
			if (taken !== undefined) return taken;
		}
		const { blockNumber, transactionHash } = await send(parts, hold, "requestClose", options);
		const sight = await look(parts, hold.channel.record, blockNumber);
		const taken = await standing(hold, sight, "requested", transactionHash);
		if (taken === undefined) throw new CloseNotSeenError(channelId, transactionHash);
		return taken;
	});
}

/** Where the close stands, once it is requested or done; the record follows. */
async function standing(
	hold: Hold,
	sight: Sight,
	outcome: "requested" | "found",
	hash?: Hex,
): Promise<CloseRequest | undefined> {
	const { record } = hold.channel;
	const { deposit, settled, finalized, closeRequestedAt } = sight.channel;
	const { channelId, chainId } = record.state;
	if (finalized) {
		if (record.status !== "closed") await keep(hold, { status: "closed" });
		return { channelId, chainId, deposit, settled, outcome: "finalized" };
	}
	const readyAt = await withdrawableAt(sight, record);
	if (readyAt === undefined) return undefined;
	if (record.status !== "forgotten") await keep(hold, { status: "forgotten" });
	const own = hash ?? record.recovery?.findLast(({ kind }) => kind === "requestClose")?.hash;
	return {
		channelId,
		chainId,
		deposit,
		settled,
		outcome,
		closeRequestedAt,
		withdrawableAt: readyAt,
		...(own && { hash: own }),
	};
}
