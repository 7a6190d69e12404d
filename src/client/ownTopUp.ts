/** A top-up by a transaction of the payer's own. */
import type { Hex, PublicClient } from "viem";
import { approveCall, topUpCall } from "../escrow/calls.ts";
import { readChannel } from "../escrow/reads.ts";
import { sendsItself } from "./account.ts";
import type { PayerChannel } from "./channel.ts";
import type { FundingParts } from "./funding.ts";
import { sendOwn } from "./ownSending.ts";
import type { OwnTopUp } from "./pending.ts";
import { isUntold, readChannelEvents, UNTOLD } from "./untold.ts";
import type { SentTransaction } from "./wallet.ts";

/**
 * The payer's account may have sent a top-up, and has not told its hash; the escrow shows nothing of it yet. Another one could
 * be one too many. It is used as soon as the escrow shows it; a channel that is closed lets the next request open another.
 */
export class TopUpUntoldError extends Error {
	override readonly name = "TopUpUntoldError";
	readonly code = "TOP_UP_UNTOLD";
	readonly channelId: Hex;
	constructor(channelId: Hex) {
		super(
			`the payer's account may have sent a top-up of channel ${channelId}, and it is not mined yet: look for it in the account's wallet; if it never was sent, close the channel, and the next request opens another`,
		);
		this.channelId = channelId;
	}
}

/**
 * The payer's own `topUp`, sent once, and waited for.
 *
 * @throws TopUpUntoldError; TransactionRevertedError, TransactionPendingError, TransactionNotSentError, and what the gate throws
 */
export async function sendTopUp(
	{ signer, nodes, gate }: FundingParts,
	channel: PayerChannel,
	topUp: OwnTopUp,
): Promise<void> {
	const { channelId, parameters } = channel;
	const { chainId, escrow, token } = parameters;
	const wallet = await nodes.wallet(chainId);
	if (topUp.sent !== undefined) {
		if (isUntold(topUp.sent)) throw new TopUpUntoldError(channelId);
		return wallet.mined(topUp.sent.hash);
	}
	// Not even an approval is sent where nothing may be paid in.
	await gate.deposit(channel);
	await sendOwn({
		wallet,
		account: signer.paying.account,
		calls: [approveCall(token, escrow, topUp.amount), topUpCall(escrow, channelId, topUp.amount)],
		kind: "topUp",
		write(sent) {
			topUp.sent = sent;
			return gate.deposit(channel);
		},
		async failed(fate) {
			// What became of one that has reverted is told by its receipt.
			if (fate === "open" || fate === "reverted" || topUp.sent === undefined) return;
			delete topUp.sent;
			// For the next process; what can't be written is told by the chain, or refused by it.
			if (fate !== "unsent") await gate.deposit(channel).catch(() => undefined);
		},
	});
}

/** What became of the payer's own top-up, by its receipt, or by the escrow where its hash says nothing. */
export async function ownTopUpState(
	{ signer, nodes }: FundingParts,
	channel: PayerChannel,
	topUp: OwnTopUp,
): Promise<"done" | "open" | "lapsed"> {
	const { sent } = topUp;
	if (sent === undefined) return "lapsed";
	const { chainId } = channel.parameters;
	let state: "open" | "lapsed" = "open";
	if (!isUntold(sent)) {
		const wallet = await nodes.wallet(chainId);
		const found = await wallet.stateOf(sent);
		if (found === "mined") return "done";
		state = found === "open" && !(await wallet.isLost(sent)) ? "open" : "lapsed";
		// A wallet's owner can have it sent anew with higher fees, under another hash.
		if (found === "reverted" || !sendsItself(signer.paying.account)) return state;
	}
	const told = await findTopUp(await nodes.at(chainId), channel, topUp.amount);
	if (told === undefined) return state;
	topUp.sent = told;
	return "done";
}

/** What added `amount` to a channel after its deposit was known last; `UNTOLD` where the deposit alone tells that it was added. */
async function findTopUp(
	client: PublicClient,
	channel: PayerChannel,
	amount: bigint,
): Promise<SentTransaction | undefined> {
	const { channelId, deposit, parameters } = channel;
	const onChain = await readChannel(client, parameters.escrow, channelId);
	if (onChain === undefined || onChain.deposit < deposit + amount) return undefined;
	const events = await readChannelEvents(client, channel);
	const event = events.find(
		(one) =>
			one.name === "ToppedUp" &&
			one.amount === amount &&
			one.deposit >= deposit + amount &&
			one.funder === parameters.payer,
	);
	return event === undefined ? UNTOLD : { hash: event.transactionHash, nonce: UNTOLD.nonce };
}
