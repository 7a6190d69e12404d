/** A channel that the payer opens by a transaction of its own. */
import type { Hex, PublicClient } from "viem";
import { approveCall, openCall } from "../escrow/calls.ts";
import { readChannel } from "../escrow/reads.ts";
import type { ChannelParameters } from "../voucher/index.ts";
import { sendsItself } from "./account.ts";
import type { PayerChannel } from "./channel.ts";
import type { FundingParts } from "./funding.ts";
import { sendOwn } from "./ownSending.ts";
import { isUntold, readChannelEvents } from "./untold.ts";
import { NO_NONCE, type SentTransaction } from "./wallet.ts";

/**
 * The channel is open, and the transaction that opened it, which the server has to be told, can't be found. The next request
 * opens another one; the payer's own `requestClose` gets this one's deposit back.
 */
export class OpeningNotFoundError extends Error {
	override readonly name = "OpeningNotFoundError";
	readonly code = "OPENING_NOT_FOUND";
	readonly channelId: Hex;
	constructor(channelId: Hex) {
		super(
			`the transaction that opened channel ${channelId} can't be found, so the server can't be told of it; \`sluice channels request-close\` gets its deposit back`,
		);
		this.channelId = channelId;
	}
}

/**
 * Whether the payer's own `open` of before is mined; one on its way is waited for, and one that has failed for good, or was
 * never broadcast, is forgotten. Where its hash was never heard of, or another transaction took its place, the escrow's
 * events tell.
 *
 * @throws OpeningNotFoundError
 */
export async function isFunded({ nodes, signer }: FundingParts, channel: PayerChannel): Promise<boolean> {
	const { funding, parameters } = channel;
	if (funding === undefined) return false;
	const isHeardOf = !isUntold(funding);
	if (isHeardOf) {
		const wallet = await nodes.wallet(parameters.chainId);
		const state = await wallet.stateOf(funding);
		const isOpen = state === "open" && !(await wallet.isLost(funding));
		if (isOpen) await wallet.mined(funding.hash);
		if (isOpen || state === "mined") return true;
	}
	channel.funding = undefined;
	// A wallet's owner can have it sent anew with higher fees, under another hash.
	if (isHeardOf && !sendsItself(signer.paying.account)) return false;
	channel.funding = await findOpening(await nodes.at(parameters.chainId), channel);
	return channel.funding !== undefined;
}

/** The payer's own `open`. What may be on its way is remembered; what is known to have failed can be tried again. */
export async function openBySelf(
	{ signer, nodes, gate }: FundingParts,
	parameters: ChannelParameters,
	channel: PayerChannel,
): Promise<void> {
	const { escrow, token, chainId } = parameters;
	const { deposit, fundableUntil } = channel;
	const wallet = await nodes.wallet(chainId);
	// A transaction can be mined at any time after.
	channel.fundableUntil = Number.POSITIVE_INFINITY;
	// Not even an approval is sent where nothing may be paid in.
	await gate.deposit(channel);
	await sendOwn({
		wallet,
		account: signer.paying.account,
		calls: [approveCall(token, escrow, deposit), openCall(escrow, { ...parameters, deposit })],
		kind: "open",
		write(sent) {
			channel.funding = sent;
			return gate.deposit(channel);
		},
		failed(fate) {
			const isOver = fate === "reverted" || fate === "superseded";
			// What an account says that it has not sent is looked for all the same: the escrow tells.
			if (isOver || fate === "unsent") channel.funding = undefined;
			if (isOver) channel.fundableUntil = fundableUntil;
		},
	});
}

/** What opened a channel, if it is open. The escrow opens each once, whosever transaction it was. */
async function findOpening(client: PublicClient, channel: PayerChannel): Promise<SentTransaction | undefined> {
	const { channelId, parameters } = channel;
	if ((await readChannel(client, parameters.escrow, channelId)) === undefined) return undefined;
	const events = await readChannelEvents(client, channel);
	const opening = events.find(({ name }) => name === "ChannelOpened");
	if (opening === undefined) throw new OpeningNotFoundError(channelId);
	return { hash: opening.transactionHash, nonce: NO_NONCE };
}
