import {
	type Address,
	type Hex,
	isAddressEqual,
	type PublicClient,
	parseEventLogs,
	type TransactionReceipt,
} from "viem";
import { erc3009Abi } from "./generated/erc3009.ts";
import { paymentChannelEscrowAbi } from "./generated/escrow.ts";
import { readAuthorizationState } from "./reads.ts";

/** The escrow's own word that a channel was opened, and where it stands (D12). */
export type ChannelOpenedEvent = Readonly<{
	channelId: Hex;
	payer: Address;
	payee: Address;
	token: Address;
	authorizedSigner: Address;
	salt: Hex;
	deposit: bigint;
	transactionHash: Hex;
	logIndex: number;
}>;

/**
 * Finds the event by which `escrow` opened `channelId` in a transaction, whoever sent it and to whichever address: a
 * smart account's transaction goes to an EntryPoint (draft-evm-session-00, Open Verification; D12).
 */
export function findChannelOpened(
	receipt: TransactionReceipt,
	escrow: Address,
	channelId: Hex,
): ChannelOpenedEvent | undefined {
	const logs = parseEventLogs({ abi: paymentChannelEscrowAbi, eventName: "ChannelOpened", logs: receipt.logs });
	const log = logs.find((one) => isAddressEqual(one.address, escrow) && one.args.channelId === channelId);
	if (log === undefined) return undefined;
	return { ...log.args, transactionHash: receipt.transactionHash, logIndex: log.logIndex };
}

/** The escrow's own word that a channel was topped up. Amounts in base units. */
export type ToppedUpEvent = Readonly<{
	/** Whose tokens they were: anybody's. */
	funder: Address;
	/** What was added. */
	amount: bigint;
	/** The channel's deposit afterwards. */
	deposit: bigint;
	transactionHash: Hex;
	logIndex: number;
}>;

/**
 * Finds the events by which `escrow` topped up `channelId` in a transaction, whoever sent it and to whichever address
 * (D12). One transaction can hold several, in the order of their `logIndex`.
 *
 * @example
 * const added = findToppedUp(receipt, escrow, channelId).reduce((sum, { amount }) => sum + amount, 0n);
 */
export function findToppedUp(receipt: TransactionReceipt, escrow: Address, channelId: Hex): readonly ToppedUpEvent[] {
	const { transactionHash } = receipt;
	return parseEventLogs({ abi: paymentChannelEscrowAbi, eventName: "ToppedUp", logs: receipt.logs })
		.filter(({ address, args }) => isAddressEqual(address, escrow) && args.channelId === channelId.toLowerCase())
		.map(({ args: { funder, amount, deposit }, logIndex }) => ({
			funder: funder.toLowerCase() as Address,
			amount,
			deposit,
			transactionHash,
			logIndex,
		}));
}

/** A movement of tokens. `value` in base units, addresses lowercase. */
export type TransferEvent = Readonly<{ from: Address; to: Address; value: bigint; logIndex: number }>;

/**
 * All transfers of `token` in a transaction, in their order. Says nothing about who sent the transaction, nor whether the
 * receipt is a success.
 *
 * Source: draft-evm-charge-00, "Hash Verification", step 4; "Permit2 Verification", step 14.
 *
 * @example
 * const paid = findTransfers(receipt, token).filter(({ to, value }) => to === recipient && value === amount);
 */
export function findTransfers(receipt: TransactionReceipt, token: Address): readonly TransferEvent[] {
	return parseEventLogs({ abi: erc3009Abi, eventName: "Transfer", logs: receipt.logs })
		.filter(({ address }) => isAddressEqual(address, token))
		.map(({ args: { from, to, value }, logIndex }) => ({
			from: from.toLowerCase() as Address,
			to: to.toLowerCase() as Address,
			value,
			logIndex,
		}));
}

/** Whether `token` moved exactly `value` from `from` to `to` in this transaction. */
export function hasTransfer(
	receipt: TransactionReceipt,
	transfer: Readonly<{ token: Address; from: Address; to: Address; value: bigint }>,
): boolean {
	const logs = parseEventLogs({ abi: erc3009Abi, eventName: "Transfer", logs: receipt.logs });
	return logs.some(
		({ address, args }) =>
			isAddressEqual(address, transfer.token) &&
			isAddressEqual(args.from, transfer.from) &&
			isAddressEqual(args.to, transfer.to) &&
			args.value === transfer.value,
	);
}

/** How far back an event is looked for: its cause is a few minutes old, and nodes refuse wide ranges. */
const LOOKBACK_BLOCKS = 5_000n;

/** The receipt of the transaction that opened a channel lately, whoever sent it; `undefined` when there is none. */
export async function readOpeningReceipt(
	client: PublicClient,
	escrow: Address,
	channelId: Hex,
): Promise<TransactionReceipt | undefined> {
	const [log] = await client.getContractEvents({
		address: escrow,
		abi: paymentChannelEscrowAbi,
		eventName: "ChannelOpened",
		args: { channelId },
		fromBlock: await lookbackBlock(client),
	});
	return log && client.getTransactionReceipt({ hash: log.transactionHash });
}

/** How many top-ups of one channel by one funder are looked through, the latest first. */
const MOST_TOP_UPS = 16;

/** The receipts of the transactions that topped up a channel lately by that amount, whoever sent them; the latest first. */
export async function readToppingUpReceipts(
	client: PublicClient,
	escrow: Address,
	channelId: Hex,
	{ funder, amount }: Readonly<{ funder: Address; amount: bigint }>,
): Promise<readonly TransactionReceipt[]> {
	const logs = await client.getContractEvents({
		address: escrow,
		abi: paymentChannelEscrowAbi,
		eventName: "ToppedUp",
		args: { channelId },
		fromBlock: await lookbackBlock(client),
	});
	const matching = logs.filter(
		({ args }) => args.amount === amount && args.funder !== undefined && isAddressEqual(args.funder, funder),
	);
	const hashes = new Set(matching.map(({ transactionHash }) => transactionHash).reverse());
	return Promise.all([...hashes].slice(0, MOST_TOP_UPS).map((hash) => client.getTransactionReceipt({ hash })));
}

/**
 * The transaction that executed an ERC-3009 authorization lately, whoever sent it. The token says `AuthorizationUsed` and
 * right after it `Transfer`: only a transfer in that place belongs to the authorization.
 */
export async function findAuthorizedTransfer(
	client: PublicClient,
	token: Address,
	{ from, to, value, nonce }: Readonly<{ from: Address; to: Address; value: bigint; nonce: Hex }>,
): Promise<Hex | undefined> {
	if (!(await readAuthorizationState(client, token, from, nonce))) return undefined;
	const [used] = await client.getContractEvents({
		address: token,
		abi: erc3009Abi,
		eventName: "AuthorizationUsed",
		args: { authorizer: from, nonce },
		fromBlock: await lookbackBlock(client),
	});
	if (used === undefined) return undefined;
	const receipt = await client.getTransactionReceipt({ hash: used.transactionHash });
	const logs = receipt.logs.filter(({ logIndex }) => logIndex === used.logIndex + 1);
	return hasTransfer({ ...receipt, logs }, { token, from, to, value }) ? used.transactionHash : undefined;
}

async function lookbackBlock(client: PublicClient): Promise<bigint> {
	const latest = await client.getBlockNumber({ cacheTime: 0 });
	return latest > LOOKBACK_BLOCKS ? latest - LOOKBACK_BLOCKS : 0n;
}
