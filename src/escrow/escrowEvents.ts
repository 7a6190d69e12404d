import {
	type Address,
	BaseError,
	formatLog,
	type Hex,
	isAddressEqual,
	type Log,
	numberToHex,
	type PublicClient,
	parseEventLogs,
} from "viem";
import { paymentChannelEscrowAbi } from "./generated/escrow.ts";
import { errorNameOf } from "./reverts.ts";

/** Where an event stands. Hex values in lower case. */
type EventPlace = Readonly<{
	channelId: Hex;
	blockNumber: bigint;
	blockHash: Hex;
	logIndex: number;
	transactionHash: Hex;
}>;

/** What tells a log from all others, on whatever chain its block is. */
export type LogPlace = Pick<EventPlace, "blockNumber" | "blockHash" | "logIndex">;

/** What an event says, by its name. Amounts in base units, addresses in lower case, times in Unix seconds. */
type EventContent = Readonly<
	| {
			name: "ChannelOpened";
			payer: Address;
			payee: Address;
			token: Address;
			authorizedSigner: Address;
			salt: Hex;
			deposit: bigint;
	  }
	| { name: "ToppedUp"; funder: Address; amount: bigint; deposit: bigint }
	| { name: "Settled"; payer: Address; payee: Address; settled: bigint; delta: bigint }
	| { name: "CloseRequested"; payer: Address; closeRequestedAt: number; withdrawableAt: number }
	| { name: "CloseRequestCancelled"; payer: Address }
	| { name: "ChannelClosed"; payer: Address; payee: Address; settled: bigint; delta: bigint; refund: bigint }
	| { name: "Withdrawn"; payer: Address; settled: bigint; refund: bigint }
	/** `payee` sent the batch, and need not be the channel's. `reason`: name of the escrow's error, or `unknown`. */
	| { name: "SettlementSkipped"; payer: Address; payee: Address; reason: string }
>;

/** One event of the escrow (draft-evm-session-00, Channel State). */
export type EscrowEvent = EventPlace & EventContent;

/** A node's logs can't be taken for the chain's: one was removed, or is in no block yet. Ask again. */
export class EscrowLogsError extends Error {
	override readonly name = "EscrowLogsError";
	readonly code = "LOGS_UNUSABLE";
}

/**
 * The escrow's events among these logs, in the order of the chain. Logs of other contracts are passed over.
 *
 * @throws EscrowLogsError when a log was removed by a reorganization, or is in no block
 * @example
 * const [first] = decodeEscrowLogs(await client.getLogs({ address: escrow, fromBlock: 1n }), escrow);
 */
export function decodeEscrowLogs(logs: readonly Log[], escrow: Address): readonly EscrowEvent[] {
	const ours = logs.filter(({ address }) => isAddressEqual(address, escrow));
	if (ours.some(({ removed }) => removed)) {
		throw new EscrowLogsError("the node gave a log that a reorganization has removed; ask it again");
	}
	return parseLogs(ours)
		.map((log) => ({ ...placeOf(log, log.args.channelId), ...contentOf(log) }))
		.sort(byPlace);
}

/** The escrow's events in one transaction, whoever sent it (D12). Says nothing of whether the receipt is final. */
export function findEscrowEvents(receipt: Readonly<{ logs: readonly Log[] }>, escrow: Address): readonly EscrowEvent[] {
	return decodeEscrowLogs(receipt.logs, escrow);
}

/** How often one read may be refused before its node is given up: enough to halve any range down to one block. */
const MOST_REFUSALS = 64;

/**
 * The escrow's events in these blocks, both ends included. A range that the node calls too wide, or too full, is halved,
 * down to one block.
 *
 * @param isNew only logs for which it says so are decoded and given; all unless it is there
 * @param channelId only what the escrow says of this channel; all unless it is there
 * @throws EscrowLogsError, and viem's errors when the node could not be asked or refuses even one block
 * @example
 * const events = await readEscrowEvents(client, escrow, { fromBlock: 100n, toBlock: 2_099n });
 */
export async function readEscrowEvents(
	client: PublicClient,
	escrow: Address,
	{
		fromBlock,
		toBlock,
		isNew = () => true,
		channelId,
	}: Readonly<{ fromBlock: bigint; toBlock: bigint; isNew?: (place: LogPlace) => boolean; channelId?: Hex }>,
): Promise<readonly EscrowEvent[]> {
	const events: EscrowEvent[] = [];
	let width = toBlock - fromBlock + 1n;
	let refusals = 0;
	for (let from = fromBlock; from <= toBlock; ) {
		const last = from + width - 1n;
		const to = last < toBlock ? last : toBlock;
		try {
			const range = { address: escrow, fromBlock: from, toBlock: to };
			const logs = channelId === undefined ? await client.getLogs(range) : await logsOf(client, range, channelId);
			events.push(
				...decodeEscrowLogs(
					logs.filter((log) => log.removed || isNew(logPlaceOf(log))),
					escrow,
				),
			);
			from = to + 1n;
		} catch (error) {
			if (to === from || !isRangeRefusal(error) || ++refusals > MOST_REFUSALS) throw error;
			width = (to - from + 1n) / 2n;
		}
	}
	return events;
}

/** Logs about one channel: every event of the escrow has it as its first topic. */
async function logsOf(
	client: PublicClient,
	{ address, fromBlock, toBlock }: Readonly<{ address: Address; fromBlock: bigint; toBlock: bigint }>,
	channelId: Hex,
): Promise<readonly Log[]> {
	const range = { fromBlock: numberToHex(fromBlock), toBlock: numberToHex(toBlock) };
	const logs = await client.request({
		method: "eth_getLogs",
		params: [{ address, topics: [null, channelId], ...range }],
	});
	return logs.map((log) => formatLog(log));
}

/** How nodes say that a range is too wide, or that it holds too much. A false alarm costs a few more calls. */
const RANGE_REFUSAL =
	/block range|range (?:is )?(?:too|exceed|limit)|too (?:wide|large|many|big)|limit(?:ed)? (?:to|exceeded)|exceeds? .*(?:limit|max|range)|more than \d+|response size|query timeout/i;

function isRangeRefusal(error: unknown): boolean {
	return error instanceof BaseError && RANGE_REFUSAL.test(`${error.shortMessage} ${error.details}`);
}

/** All that the escrow says of channels. */
const EVENT_NAMES: EscrowEvent["name"][] = [
	"ChannelOpened",
	"ToppedUp",
	"Settled",
	"CloseRequested",
	"CloseRequestCancelled",
	"ChannelClosed",
	"Withdrawn",
	"SettlementSkipped",
];

function parseLogs(logs: readonly Log[]) {
	return parseEventLogs({ abi: paymentChannelEscrowAbi, eventName: EVENT_NAMES, logs: [...logs] });
}

type DecodedLog = ReturnType<typeof parseLogs>[number];

function placeOf(log: Log, channelId: Hex): EventPlace {
	return { channelId: lower(channelId), ...logPlaceOf(log) };
}

function logPlaceOf({ blockNumber, blockHash, logIndex, transactionHash }: Log) {
	if (blockNumber === null || blockHash === null || logIndex === null || transactionHash === null) {
		throw new EscrowLogsError("the node gave a log that is in no block yet; ask it again");
	}
	return { blockNumber, blockHash: lower(blockHash), logIndex, transactionHash };
}

function contentOf({ eventName, args }: DecodedLog): EventContent {
	switch (eventName) {
		case "ChannelOpened": {
			const { payer, payee, token, authorizedSigner, salt, deposit } = args;
			return {
				name: eventName,
				payer: lower(payer),
				payee: lower(payee),
				token: lower(token),
				authorizedSigner: lower(authorizedSigner),
				salt,
				deposit,
			};
		}
		case "ToppedUp":
			return { name: eventName, funder: lower(args.funder), amount: args.amount, deposit: args.deposit };
		case "Settled":
			return { name: eventName, ...partiesOf(args), settled: args.settled, delta: args.delta };
		case "CloseRequested":
			return {
				name: eventName,
				payer: lower(args.payer),
				closeRequestedAt: Number(args.closeRequestedAt),
				withdrawableAt: Number(args.withdrawableAt),
			};
		case "CloseRequestCancelled":
			return { name: eventName, payer: lower(args.payer) };
		case "ChannelClosed": {
			const { settled, delta, refund } = args;
			return { name: eventName, ...partiesOf(args), settled, delta, refund };
		}
		case "Withdrawn":
			return { name: eventName, payer: lower(args.payer), settled: args.settled, refund: args.refund };
		case "SettlementSkipped":
			return { name: eventName, ...partiesOf(args), reason: errorNameOf(args.reason) };
	}
}

function partiesOf({ payer, payee }: Readonly<{ payer: Address; payee: Address }>) {
	return { payer: lower(payer), payee: lower(payee) };
}

function byPlace(a: EventPlace, b: EventPlace): number {
	if (a.blockNumber !== b.blockNumber) return a.blockNumber < b.blockNumber ? -1 : 1;
	return a.logIndex - b.logIndex;
}

function lower<T extends Hex>(hex: T): T {
	return hex.toLowerCase() as T;
}
