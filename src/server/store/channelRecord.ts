/**
 * How a channel is written down and read back: its values in a fixed order, without their names, and without its id, which is its
 * key; hex packed, and times counted from when it was opened. Less than half as long as with names and hex: each payment rewrites
 * its channel, and LevelDB sorts it in again some ten times.
 *
 *     [31337,"…escrow","…payee","…token","…payer",0,"1000","0",0,0,7,…]
 */
import type { Address, Hex } from "viem";
import { z } from "zod";
import { ZERO_ADDRESS } from "../../voucher/index.ts";
import type { ChainState, Channel } from "../channel.ts";
import { checkPlace, open, seal, unseal } from "./frame.ts";
import * as keys from "./keys.ts";
import { packHex, SameHex, unpackHex } from "./packedHex.ts";
import {
	amount,
	amounts,
	bit,
	checkAmount,
	checkWhole,
	flag,
	hex,
	ShapeError,
	shaped,
	text,
	texts,
	whole,
} from "./shape.ts";

export function encodeChannel(key: string, channel: Channel): string {
	return channelWriter(key, channel)();
}

/**
 * Checks the channel now; what comes of it makes its record, when that is about to be written.
 *
 * @throws RangeError for an amount or a time that is none
 */
export function channelWriter(key: string, channel: Channel): () => string {
	checkChain(channel);
	if (channel.behind !== null) checkChain(channel.behind);
	for (const owner in channel.reservations) checkAmount(channel.reservations[owner]);
	checkAmount(channel.acceptedCumulative);
	checkAmount(channel.spent);
	if (channel.publishedCumulative !== null) checkAmount(channel.publishedCumulative);
	if (channel.unsettledSince !== null) checkWhole(channel.unsettledSince);
	checkWhole(channel.chainId);
	checkWhole(channel.chainReadAt);
	checkWhole(channel.generation);
	checkWhole(channel.openedAt);
	checkWhole(channel.lastActivityAt);
	checkWhole(channel.deferredAt);
	return () => seal(key, rowOf(channel));
}

function checkChain({ deposit, settledOnChain, closeRequestedAt, blockNumber }: ChainState): void {
	checkAmount(deposit);
	checkAmount(settledOnChain);
	checkWhole(closeRequestedAt);
	checkWhole(blockNumber);
}

const escrows = new SameHex();
const payees = new SameHex();
const tokens = new SameHex();

/** In the order of `channelOf`. */
function rowOf(channel: Channel): readonly unknown[] {
	const { openedAt, authorizedSigner } = channel;
	const reservations: Record<string, string> = {};
	for (const owner in channel.reservations) reservations[owner] = String(channel.reservations[owner]);
	return [
		channel.chainId,
		escrows.pack(channel.escrow),
		payees.pack(channel.payee),
		tokens.pack(channel.token),
		packHex(channel.payer),
		authorizedSigner === ZERO_ADDRESS ? 0 : packHex(authorizedSigner),
		channel.deposit.toString(),
		channel.settledOnChain.toString(),
		channel.closeRequestedAt,
		Number(channel.finalized),
		channel.blockNumber,
		channel.chainReadAt - openedAt,
		channel.behind && chainRowOf(channel.behind),
		channel.acceptedCumulative.toString(),
		packHex(channel.voucherSignature),
		Number(channel.contractSigner),
		channel.spent.toString(),
		reservations,
		channel.generation,
		channel.publishedCumulative?.toString() ?? null,
		channel.challengeIds,
		channel.closeTxHash && packHex(channel.closeTxHash),
		channel.closingBy,
		openedAt,
		channel.lastActivityAt - openedAt,
		channel.unsettledSince === null ? null : channel.unsettledSince - openedAt,
		channel.deferredAt,
	];
}

/** A list of its own, as the chain's state was in each channel before hex was packed: there is one where the chain is behind. */
function chainRowOf({ deposit, settledOnChain, closeRequestedAt, finalized, blockNumber }: ChainState) {
	return [deposit.toString(), settledOnChain.toString(), closeRequestedAt, finalized, blockNumber];
}

/** @throws CorruptRecordError when it is damaged, of another kind, or of a release that is not known here */
export function decodeChannel(key: string, framed: string): Channel {
	const value = open(key, framed);
	if (!Array.isArray(value)) return decodeNamed(key, framed);
	return shaped(key, () => (value.length === UNPACKED ? unpackedOf : channelOf)(keys.channelIdOf(key), value));
}

/**
 * By hand: on every payment's way where channels are many, and four times as quick as by a schema. A field that is added to
 * `Channel` and not here does not compile.
 */
function channelOf(channelId: Hex, row: readonly unknown[]): Channel {
	if (row.length !== 27) throw new ShapeError(`${row.length} values`);
	const openedAt = whole(row[23]);
	const since = (value: unknown) => whole(whole(value) + openedAt);
	return {
		channelId,
		chainId: whole(row[0]),
		escrow: escrows.unpack(row[1]),
		payee: payees.unpack(row[2]),
		token: tokens.unpack(row[3]),
		payer: unpackHex(row[4]),
		authorizedSigner: row[5] === 0 ? ZERO_ADDRESS : unpackHex(row[5]),
		deposit: amount(row[6]),
		settledOnChain: amount(row[7]),
		closeRequestedAt: whole(row[8]),
		finalized: bit(row[9]),
		blockNumber: whole(row[10]),
		chainReadAt: since(row[11]),
		behind: row[12] === null ? null : chainOf(row[12]),
		acceptedCumulative: amount(row[13]),
		voucherSignature: unpackHex(row[14]),
		contractSigner: bit(row[15]),
		spent: amount(row[16]),
		reservations: amounts(row[17]),
		generation: whole(row[18]),
		publishedCumulative: row[19] === null ? null : amount(row[19]),
		challengeIds: texts(row[20]),
		closeTxHash: row[21] === null ? null : unpackHex(row[21]),
		closingBy: row[22] === null ? null : text(row[22]),
		openedAt,
		lastActivityAt: since(row[24]),
		unsettledSince: row[25] === null ? null : since(row[25]),
		deferredAt: whole(row[26]),
	};
}

/** How many values a channel had before hex was packed. */
const UNPACKED = 23;

/** As it was written then. */
function unpackedOf(channelId: Hex, row: readonly unknown[]): Channel {
	return {
		channelId,
		chainId: whole(row[0]),
		escrow: hex(row[1]),
		payer: hex(row[2]),
		payee: hex(row[3]),
		token: hex(row[4]),
		authorizedSigner: hex(row[5]),
		...chainOf(row[6]),
		chainReadAt: whole(row[7]),
		behind: row[8] === null ? null : chainOf(row[8]),
		acceptedCumulative: amount(row[9]),
		voucherSignature: hex(row[10]),
		contractSigner: flag(row[11]),
		spent: amount(row[12]),
		reservations: amounts(row[13]),
		generation: whole(row[14]),
		publishedCumulative: row[15] === null ? null : amount(row[15]),
		challengeIds: texts(row[16]),
		closeTxHash: row[17] === null ? null : hex(row[17]),
		closingBy: row[18] === null ? null : text(row[18]),
		openedAt: whole(row[19]),
		lastActivityAt: whole(row[20]),
		unsettledSince: row[21] === null ? null : whole(row[21]),
		deferredAt: whole(row[22]),
	};
}

function chainOf(value: unknown): ChainState {
	if (!Array.isArray(value) || value.length !== 5) throw new ShapeError("no state of the chain");
	const [deposit, settledOnChain, closeRequestedAt, finalized, blockNumber] = value as readonly unknown[];
	return {
		deposit: amount(deposit),
		settledOnChain: amount(settledOnChain),
		closeRequestedAt: whole(closeRequestedAt),
		finalized: flag(finalized),
		blockNumber: whole(blockNumber),
	};
}

const decimal = z.string().regex(/^\d+$/).transform(BigInt);
const prefixed = z.custom<Hex>((value) => typeof value === "string" && value.startsWith("0x"), "is not hex");
const address: z.ZodType<Address> = prefixed;

// What records of earlier releases lack has the value that it had in them.
const chainShape = z.strictObject({
	deposit: decimal,
	settledOnChain: decimal,
	closeRequestedAt: z.int(),
	finalized: z.boolean(),
	blockNumber: z.int().default(0),
});
const namedShape: z.ZodType<Channel> = z.strictObject({
	...chainShape.shape,
	channelId: prefixed,
	chainId: z.int(),
	escrow: address,
	payer: address,
	payee: address,
	token: address,
	authorizedSigner: address,
	chainReadAt: z.int(),
	behind: chainShape.nullable().default(null),
	acceptedCumulative: decimal,
	voucherSignature: prefixed,
	contractSigner: z.boolean().default(false),
	spent: decimal,
	reservations: z.record(z.string(), decimal),
	generation: z.int(),
	publishedCumulative: decimal.nullable(),
	challengeIds: z.array(z.string()),
	closeTxHash: prefixed.nullable(),
	closingBy: z.string().nullable(),
	openedAt: z.int(),
	lastActivityAt: z.int(),
	unsettledSince: z.int().nullable().default(null),
	deferredAt: z.int().default(0),
});

/** As earlier releases wrote it, with names. It is written without them when it changes next. */
function decodeNamed(key: string, framed: string): Channel {
	const channel = unseal(key, framed, namedShape);
	checkPlace(key, keys.channelKey(channel.channelId));
	return channel;
}
