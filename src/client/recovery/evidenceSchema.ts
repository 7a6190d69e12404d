/** What a channel's evidence looks like: one JSON document, for somebody who has neither the wallet nor a reason to believe it. */
import type { Hex } from "viem";
import * as z from "zod";
import {
	addressShape as address,
	amountShape as amount,
	bytes32Shape as bytes32,
	challengeShape as challenge,
	channelMembers,
	decimalShape as decimal,
} from "../shapes.ts";

/** What `format` says. */
export const EVIDENCE_FORMAT = "sluice-channel-evidence";

/** The version of the format that is written, and the only one that is read. */
export const EVIDENCE_VERSION = 1;

const text = z.string();
const signature = text.regex(/^0x[0-9a-f]{130}$/) as unknown as z.ZodType<Hex>;
const moment = z.iso.datetime();
const unixSeconds = z.int().nonnegative();

const receipt = z.strictObject({
	kind: z.enum(["charge", "open", "topUp", "voucher", "close"]),
	/** When the payer got it, by its own clock. */
	at: moment,
	url: text,
	method: text,
	/** What was paid with it, in base units. */
	amount: decimal,
	/** The `id` of one of `challenges`. */
	challengeId: text,
	/** The `Payment-Receipt` as it came. */
	receipt: z.record(text, z.json()),
});

/** One event of the escrow about the channel; what it says besides stands beside its place, amounts as decimal strings. */
const event = z.looseObject({
	name: text,
	channelId: bytes32,
	blockNumber: decimal,
	blockHash: bytes32,
	logIndex: z.int().nonnegative(),
	transactionHash: bytes32,
});

const onChain = z.strictObject({
	payer: address,
	payee: address,
	token: address,
	authorizedSigner: address,
	deposit: amount,
	settled: amount,
	closeRequestedAt: unixSeconds,
	finalized: z.boolean(),
});

export const evidenceSchema = z.strictObject({
	format: z.literal(EVIDENCE_FORMAT),
	version: z.literal(EVIDENCE_VERSION),
	createdAt: moment,
	channel: z.strictObject(channelMembers),
	/** Where it was opened; the URL without query and fragment, as those of receipts are: no check needs them. */
	resource: z.strictObject({ url: text, method: text }),
	/** The payer's own books: its word, which nobody has to believe. Amounts in base units. */
	wallet: z.strictObject({
		status: z.enum(["open", "forgotten", "closed"]),
		deposit: amount,
		/** The highest amount that a voucher was ever signed for. */
		signed: amount,
		consumed: amount,
		uncertain: amount,
		createdAt: moment,
	}),
	/** The highest voucher, signed again: what the payee can have at most. Absent where none was ever signed. */
	voucher: z
		.strictObject({
			cumulativeAmount: amount,
			/** Whose signature vouchers of the channel carry. */
			signer: address,
			/** Absent where the signer was not at hand. Until the channel is paid out it is a secret between payer and payee. */
			signature: signature.exactOptional(),
			/** `erc1271`: the signer is a contract, and it alone can say whether the signature is its own. */
			scheme: z.enum(["ecdsa", "erc1271"]).exactOptional(),
		})
		.exactOptional(),
	/** The challenges that were answered with vouchers of the channel, each once. */
	challenges: z.array(challenge),
	/** The oldest first. Of vouchers only the last one's: they are cumulative. */
	receipts: z.array(receipt),
	/** What the payer's node says; absent where it could not be asked. */
	chain: z
		.strictObject({
			blockNumber: decimal,
			/** Unix seconds of that block. */
			timestamp: unixSeconds,
			closeGraceSeconds: z.int().nonnegative().exactOptional(),
			/** The escrow's record as of that block; `null` where it has none. */
			channel: onChain.nullable(),
			/** What the escrow has told of the channel; absent where the node does not give it. */
			events: z.array(event).exactOptional(),
			/** From which block on it was asked for. */
			eventsFromBlock: decimal.exactOptional(),
		})
		.exactOptional(),
	/** What the payer has sent itself to get its deposit back, the oldest first. */
	recovery: z.array(
		z.strictObject({
			kind: z.enum(["requestClose", "withdraw"]),
			hash: bytes32,
			nonce: z.int().nonnegative(),
			at: moment,
		}),
	),
});

/** The evidence of one channel, as JSON. */
export type Evidence = z.output<typeof evidenceSchema>;
