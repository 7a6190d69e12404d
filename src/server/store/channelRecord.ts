/**
 * How a channel is written down and read back: its values in a fixed order, without their names, and without its id, which is its
 * key. Half as long as with names, which is most of what the disk does for a million channels: each payment rewrites its channel,
 * and LevelDB sorts it in again some ten times.
 *
 *     [31337,"0x…escrow","0x…payer","0x…payee","0x…token","0x…signer",["1000","0",0,false,7],…]
 */
import type { Address, Hex } from "viem";
import { z } from "zod";
import type { ChainState, Channel } from "../channel.ts";
import { checkPlace, open, seal, unseal } from "./frame.ts";
import * as keys from "./keys.ts";
import {
	amount,
	amounts,
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

/** In the order of `channelOf`. */
function rowOf(channel: Channel): readonly unknown[] {
	const reservations: Record<string, string> = {};
	for (const owner in channel.reservations) reservations[owner] = String(channel.reservations[owner]);
	return [
		channel.chainId,
		channel.escrow,
		channel.payer,
		channel.payee,
		channel.token,
		channel.authorizedSigner,
		chainRowOf(channel),
		channel.chainReadAt,
		channel.behind && chainRowOf(channel.behind),
		channel.acceptedCumulative.toString(),
		channel.voucherSignature,
		channel.contractSigner,
		channel.spent.toString(),
		reservations,
		channel.generation,
		channel.publishedCumulative?.toString() ?? null,
		channel.challengeIds,
		channel.closeTxHash,
		channel.closingBy,
		channel.openedAt,
		channel.lastActivityAt,
		channel.unsettledSince,
		channel.deferredAt,
	];
}

function chainRowOf({ deposit, settledOnChain, closeRequestedAt, finalized, blockNumber }: ChainState) {
	return [deposit.toString(), settledOnChain.toString(), closeRequestedAt, finalized, blockNumber];
}

/** @throws CorruptRecordError when it is damaged, of another kind, or of a release that is not known here */
export function decodeChannel(key: string, framed: string): Channel {
	const value = open(key, framed);
	if (!Array.isArray(value)) return decodeNamed(key, framed);
	latest = shaped(key, () => channelOf(keys.channelIdOf(key), value));
	return latest;
}

/** The next one is nearly always of the same escrow, payee and token: one text for all of them saves a sixth of what it takes in memory. */
let latest: Channel | undefined;

function alike(value: unknown, before: Hex | undefined): Hex {
	const read = hex(value);
	return read === before ? before : read;
}

/**
 * By hand: on every payment's way where channels are many, and four times as quick as by a schema. A field that is added to
 * `Channel` and not here does not compile.
 */
function channelOf(channelId: Hex, row: readonly unknown[]): Channel {
	if (row.length !== 23) throw new ShapeError(`${row.length} values`);
	return {
		channelId,
		chainId: whole(row[0]),
		escrow: alike(row[1], latest?.escrow),
		payer: hex(row[2]),
		payee: alike(row[3], latest?.payee),
		token: alike(row[4], latest?.token),
		authorizedSigner: alike(row[5], latest?.authorizedSigner),
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
