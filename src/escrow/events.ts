import { type Address, type Hex, isAddressEqual, parseEventLogs, type TransactionReceipt } from "viem";
import { erc3009Abi } from "./generated/erc3009.ts";
import { paymentChannelEscrowAbi } from "./generated/escrow.ts";

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
