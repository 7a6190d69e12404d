import type { Address, Hex } from "viem";
import { type Call, requestCloseCall, withdrawCall } from "../../escrow/calls.ts";
import { sameAddress } from "../../voucher/index.ts";
import type { ChannelRecord, RecoveryTransaction } from "../store/store.ts";
import type { RecoveryParts } from "./parts.ts";

/** What the payer sends to get its deposit back (draft-evm-session-00, Forced Close). */
export type RecoveryKind = RecoveryTransaction["kind"];

/** The channel is another payer's: the escrow takes its close from that one alone. */
export class WrongPayerError extends Error {
	override readonly name = "WrongPayerError";
	readonly code = "WRONG_PAYER";
	readonly channelId: Hex;
	constructor(channelId: Hex, payer: string, account: string) {
		super(`channel ${channelId} is ${payer}'s, and the key at hand is ${account}'s; use the key of its payer`);
		this.channelId = channelId;
	}
}

/** The payer is a contract: it sends no transaction of its own. Have it make this call. */
export class ContractPayerError extends Error {
	override readonly name = "ContractPayerError";
	readonly code = "CONTRACT_PAYER";
	readonly kind: RecoveryKind;
	readonly chainId: number;
	/** The contract that has to make the call. */
	readonly payer: Address;
	readonly to: Address;
	readonly data: Hex;
	constructor(record: Pick<ChannelRecord, "state">, kind: RecoveryKind) {
		const { chainId, payer } = record.state;
		const { to, data } = recoveryCall(record, kind);
		super(
			`the payer ${payer} is a contract, and sends nothing by itself; on chain ${chainId} let it call ${to} with data ${data} (${kind}), then run this again`,
		);
		this.kind = kind;
		this.chainId = chainId;
		this.payer = payer;
		this.to = to;
		this.data = data;
	}
}

/** The payer has nothing to pay gas with: nothing was sent. */
export class NoGasError extends Error {
	override readonly name = "NoGasError";
	readonly code = "NO_GAS";
	constructor(payer: string, chainId: number) {
		super(`${payer} has no coins on chain ${chainId} to pay gas with; send it a little, and run this again`);
	}
}

/**
 * The call that the payer has to make, for wallets that send transactions themselves.
 *
 * @example
 * const { to, data } = recoveryCall(record, "requestClose");
 * await provider.request({ method: "eth_sendTransaction", params: [{ from: record.state.payer, to, data }] });
 */
export function recoveryCall({ state }: Pick<ChannelRecord, "state">, kind: RecoveryKind): Call & { to: Address } {
	const { escrow, channelId } = state;
	const { data } = kind === "requestClose" ? requestCloseCall(escrow, channelId) : withdrawCall(escrow, channelId);
	return { to: escrow, data };
}

/** @throws WrongPayerError */
export function assertPayer({ payer }: Pick<RecoveryParts, "payer">, { state }: ChannelRecord): void {
	if (!sameAddress(state.payer, payer)) throw new WrongPayerError(state.channelId, state.payer, payer);
}
