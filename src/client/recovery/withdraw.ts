import type { Address, Hex, TransactionReceipt } from "viem";
import { findEscrowEvents } from "../../escrow/escrowEvents.ts";
import { TransactionRevertedError } from "../../escrow/sender.ts";
import { assertPayer } from "./calls.ts";
import { findConclusion } from "./conclusion.ts";
import { GracePeriod, type WaitOptions } from "./grace.ts";
import { findRecord, type Hold, keep, withHeld } from "./held.ts";
import { look, type Sight } from "./onChain.ts";
import type { RecoveryParts } from "./parts.ts";
import { send, takeUp } from "./send.ts";

export type { WaitOptions } from "./grace.ts";

/** What came back of a channel's deposit, in base units: `refund` is `deposit - settled`. */
export type Withdrawal = Readonly<{
	channelId: Hex;
	chainId: number;
	token: Address;
	/**
	 * `withdrawn`: by the payer itself. `closed`: the payee has closed the channel, before or meanwhile; there was nothing to
	 * do. `finalized`: one of both, and the node does not say which.
	 */
	outcome: "withdrawn" | "closed" | "finalized";
	deposit: bigint;
	/** What the payee has got of it. */
	settled: bigint;
	/** What is with the payer again. */
	refund: bigint;
	/** The transaction that paid it out, where it is known. */
	hash?: Hex;
}>;

/** How often the payer's transaction may be mined and revert, which costs gas, before that is handed on. */
const MOST_REVERTS = 2;

/**
 * Waits for the end of the grace period, whoever has asked for the close, and takes what is not settled back by a
 * transaction of the payer's (draft-evm-session-00, withdraw and Forced Close). The record is `closed` then. The wait goes by
 * the chain's clock, so it can be broken off and gone on with by another process at any time; nothing is sent twice.
 *
 * @throws ChannelUnknownError, ChannelInUseError, WrongPayerError, NothingDepositedError, CloseNotRequestedError, NoGasError
 * @throws GracePeriodError when it is not to wait, or no longer
 * @throws ContractPayerError with the call that a contract wallet has to make, once it may
 * @throws TransactionPendingError and others of the sender's; the reason of the signal
 * @example
 * const { refund } = await withdraw(parts, channelId, { onProgress: ({ phase }) => show(phase) });
 */
export async function withdraw(parts: RecoveryParts, channelId: Hex, options: WaitOptions = {}): Promise<Withdrawal> {
	const record = await findRecord(parts, channelId);
	assertPayer(parts, record);
	const grace = new GracePeriod(parts, record, options);
	for (let reverts = 0; ; ) {
		await grace.over();
		try {
			return await withHeld(parts, channelId, options.signal, (hold) => takeBack(parts, hold, options));
		} catch (error) {
			if (!(error instanceof TransactionRevertedError)) throw error;
			// The payee was faster, or the chain's clock is behind the local one; the next look tells.
			const isEarly =
				error.hash === undefined && (error.reason === "CloseNotReady" || error.reason === "ChannelFinalized");
			if (!isEarly && (error.hash === undefined || ++reverts === MOST_REVERTS)) throw error;
			await grace.again();
		}
	}
}

async function takeBack(parts: RecoveryParts, hold: Hold, options: WaitOptions): Promise<Withdrawal> {
	const before = await look(parts, hold.channel.record);
	const earlier = await takeUp(parts, hold, "withdraw", options);
	const sight = earlier === undefined ? before : await look(parts, hold.channel.record, earlier.blockNumber);
	if (sight.channel.finalized) return conclude(hold, sight, earlier);
	const receipt = await send(parts, hold, "withdraw", options);
	return conclude(hold, await look(parts, hold.channel.record, receipt.blockNumber), receipt);
}

/** The record is closed, and what came back is told: by the event that paid it out, where the node has it. */
async function conclude(hold: Hold, sight: Sight, receipt: TransactionReceipt | undefined): Promise<Withdrawal> {
	const { record } = hold.channel;
	const { channelId, chainId, escrow, token } = record.state;
	const { deposit, settled } = sight.channel;
	if (record.status !== "closed") await keep(hold, { status: "closed" });
	const own = receipt && findEscrowEvents(receipt, escrow).find((event) => event.channelId === channelId);
	const event = own?.name === "Withdrawn" ? own : await findConclusion(sight, escrow, channelId);
	const shared = { channelId, chainId, token, deposit };
	if (event === undefined) return { ...shared, outcome: "finalized", settled, refund: deposit - settled };
	const { refund, transactionHash: hash } = event;
	const outcome = event.name === "Withdrawn" ? "withdrawn" : "closed";
	return { ...shared, outcome, settled: event.settled, refund, hash };
}
