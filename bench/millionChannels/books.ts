/**
 * The books of a server with very many channels: each has a payer with a key of its own, was paid on before, and owes that. All are
 * made from a seed and a number, so that nobody has to keep a million keys in memory. They are in the books alone, and on no chain.
 */
import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { setTimeout } from "node:timers/promises";
import { type Address, bytesToHex, type Hex, hexToBytes, numberToHex } from "viem";
import { privateKeyToAddress } from "viem/accounts";
import type { Channel } from "../../src/server/channel.ts";
import { loadCrypto } from "../../src/server/crypto.ts";
import { applyEvent, type LedgerEvent } from "../../src/server/ledger.ts";
import { type Disk, openDisk, writeThrough } from "../../src/server/store/disk.ts";
import { type Before, changes } from "../../src/server/store/turn.ts";
import { ZERO_ADDRESS } from "../../src/voucher/index.ts";
import type { OpenChannel, Place } from "../lib/stage.ts";

type Native = Readonly<{
	publicKeyCreate(key: Uint8Array, compressed: boolean): Uint8Array;
	publicKeyCombine(keys: readonly Uint8Array[], compressed: boolean): Uint8Array;
}>;

const native: Native = createRequire(import.meta.url)("secp256k1");

/** What each was funded with, in base units. */
const DEPOSIT = 10n ** 12n;

/** What a channel has paid before, in base units: from one request to a thousand, at 100 each. */
export function paidBefore(number: number): bigint {
	return 100n * BigInt(1 + (number % 1_000));
}

/** How many channels are written at a time. */
const PAGE = 1_000;

/** How often in a row next to nothing has to be going on, and for how long each. */
const CALM_LOOKS = 3;
const LOOK_MS = 200;
const MOST_LOOKS = 300;

/** What a payer has to know of its channel. */
export type NumberedChannel = Pick<OpenChannel, "channelId" | "signerKey">;

export type BooksOptions = Readonly<{
	/** Of the store, which nobody else has open. */
	folder: string;
	/** How many channels. */
	count: number;
	/** Unix ms of when they were opened, paid on and read from the chain. */
	at: number;
	progress?: (written: number) => void;
}>;

/** The channels by their numbers. */
export function numberedChannels({ secret }: Pick<Place, "secret">): (number: number) => NumberedChannel {
	const firstKey = BigInt(bytesToHex(sha256(`${secret} keys`))) >> 1n;
	return (number) => ({
		channelId: bytesToHex(sha256(`${secret} ${number}`)),
		signerKey: numberToHex(firstKey + BigInt(number), { size: 32 }),
	});
}

function sha256(text: string): Uint8Array {
	return createHash("sha256").update(text).digest();
}

/** Writes channels from number 0 on, by the store's own records and index entries. */
export async function writeBooks(place: Place, { folder, count, at, progress }: BooksOptions): Promise<void> {
	const payee = privateKeyToAddress(place.payeeKey).toLowerCase() as Address;
	const channels = numberedChannels(place);
	const payers = await payersFrom(channels(0));
	const disk = await openDisk(folder);
	try {
		for (let from = 0; from < count; from += PAGE) {
			const page = Array.from({ length: Math.min(PAGE, count - from) }, (_, offset) => {
				const number = from + offset;
				const { channelId } = channels(number);
				return paidOn({ ...place, payee }, { channelId, payer: payers.next().value, paid: paidBefore(number) }, at);
			});
			await write(disk, page);
			progress?.(from + page.length);
		}
		await quiet();
	} finally {
		await disk.close();
	}
}

/**
 * LevelDB goes on sorting what was written, beside whoever wrote it: what is left of that after so much at once is no work of the
 * payments that are measured.
 */
async function quiet(): Promise<void> {
	for (let calm = 0, looks = 0; calm < CALM_LOOKS && looks < MOST_LOOKS; looks++) {
		const before = process.cpuUsage();
		await setTimeout(LOOK_MS);
		const { user, system } = process.cpuUsage(before);
		calm = user + system < (LOOK_MS * 1_000) / 10 ? calm + 1 : 0;
	}
}

/** Their keys follow each other: adding a point takes a quarter of the time of multiplying one. */
async function payersFrom({ signerKey }: NumberedChannel): Promise<Iterator<Address, never>> {
	const { keccak256 } = await loadCrypto();
	const one = native.publicKeyCreate(hexToBytes(numberToHex(1, { size: 32 })), false);
	const first = native.publicKeyCreate(hexToBytes(signerKey), false);
	return (function* () {
		for (let key = first; ; key = native.publicKeyCombine([key, one], false))
			yield bytesToHex(keccak256(key.subarray(1)).subarray(12));
	})();
}

type Terms = Pick<Place, "chainId" | "escrow" | "token"> & Readonly<{ payee: Address }>;

/** As the ledger makes it of an opening with a voucher, and of a request that was served. */
function paidOn(
	{ chainId, escrow, token, payee }: Terms,
	{ channelId, payer, paid }: Pick<OpenChannel, "channelId" | "payer"> & Readonly<{ paid: bigint }>,
	at: number,
): Channel {
	// Nothing is settled here, so that nobody looks at the signature again. It takes up as much room as any.
	const signature: Hex = `0x${createHash("sha512").update(channelId).digest("hex")}1b`;
	const challengeId = createHash("sha256").update(payer).digest("base64url");
	const voucher = { cumulativeAmount: paid, signature, challengeId };
	const reservation = { owner: "before", generation: 0, amount: paid };
	const events: readonly LedgerEvent[] = [
		{
			type: "opened",
			identity: { channelId, chainId, escrow, payer, payee, token, authorizedSigner: ZERO_ADDRESS },
			chain: { deposit: DEPOSIT, settledOnChain: 0n, closeRequestedAt: 0, finalized: false, blockNumber: 0 },
			voucher,
			minimum: 0n,
		},
		{ type: "reserve", ...reservation, voucher, minVoucherDelta: 0n },
		{ type: "capture", reservation, used: paid },
	];
	let channel: Channel | undefined;
	for (const event of events) {
		const step = applyEvent(channel, event, at);
		if (!step.ok) throw new Error(step.problem.detail);
		channel = step.channel;
	}
	if (channel === undefined) throw new Error("no channel was opened");
	return channel;
}

const NOTHING_BEFORE: Before = { channel: undefined, idempotency: undefined, proof: () => undefined };

function write(disk: Disk, page: readonly Channel[]): Promise<void> {
	const all = page.flatMap((channel) => changes(NOTHING_BEFORE, {}, { channel }, () => "").all);
	return writeThrough(disk, new Map(all));
}
