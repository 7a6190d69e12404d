import { type Address, encodeFunctionData, type Hex } from "viem";
import { type PayeeAuthorization, parseSignature, SignatureFormatError } from "../voucher/index.ts";
import type { Call } from "./calls.ts";
import { paymentChannelEscrowAbi } from "./generated/escrow.ts";

/** A voucher as it is redeemed in a batch: `cumulativeAmount` in base units, `signature` 65 bytes `r || s || v`. */
export type SettlementRow = Readonly<{ channelId: Hex; cumulativeAmount: bigint; signature: Hex }>;

/** A payee's authorization with its signature, and the voucher's. */
export type SignedPayeeAuthorization = PayeeAuthorization & Readonly<{ payeeSignature: Hex; voucherSignature: Hex }>;

/** A row as the escrow's batch functions take it (ERC-2098). */
type PackedRow = Readonly<{ channelId: Hex; cumulativeAmount: bigint; r: Hex; vs: Hex }>;

const NO_SIGNATURE = "0x";
const ZERO_WORD: Hex = `0x${"0".repeat(64)}`;
const PARITY_BIT = 1n << 255n;

/**
 * A row's signature can't stand in a batch: it is not 65 bytes with `v` 27 or 28 and a low `s`. Carries the channel and
 * the reason, never the signature.
 */
export class BatchSignatureError extends Error {
	override readonly name = "BatchSignatureError";
	readonly code = "BATCH_SIGNATURE";
	/** Where the row is, from 0. */
	readonly row: number;
	readonly channelId: Hex;
	constructor(row: number, channelId: Hex, cause: SignatureFormatError) {
		super(
			`row ${row} of the batch, channel ${channelId}: ${cause.message} A contract's signature is settled by itself, not in a batch.`,
			{ cause },
		);
		this.row = row;
		this.channelId = channelId;
	}
}

/**
 * `settle` by the payee: captures what `cumulativeAmount` has beyond the settled amount; the channel stays open.
 *
 * Source: draft-evm-session-00, "settle".
 *
 * @param cumulativeAmount The voucher's amount, in base units.
 * @param signature The voucher's, of a key or of a contract (ERC-1271).
 */
export function settleCall(escrow: Address, channelId: Hex, cumulativeAmount: bigint, signature: Hex): Call {
	return {
		to: escrow,
		data: encodeFunctionData({
			abi: paymentChannelEscrowAbi,
			functionName: "settle",
			args: [channelId, cumulativeAmount, signature],
		}),
	};
}

/** `close` by the payee: captures up to `cumulativeAmount`, refunds the rest. */
export function closeCall(escrow: Address, channelId: Hex, cumulativeAmount: bigint, signature: Hex): Call {
	return {
		to: escrow,
		data: encodeFunctionData({
			abi: paymentChannelEscrowAbi,
			functionName: "close",
			args: [channelId, cumulativeAmount, signature],
		}),
	};
}

/**
 * `settleMany` by the payee of all rows: settles each, in one transaction, and pays once for each token. A row that can't
 * be settled is skipped with `SettlementSkipped`. Not in the draft.
 *
 * @throws {BatchSignatureError} for a signature that is not a key's, in the canonical form.
 * @example
 * ```ts
 * const call = settleManyCall(escrow, [{ channelId, cumulativeAmount: 250_000n, signature }]);
 * ```
 */
export function settleManyCall(escrow: Address, rows: readonly SettlementRow[]): Call {
	return {
		to: escrow,
		data: encodeFunctionData({
			abi: paymentChannelEscrowAbi,
			functionName: "settleMany",
			args: [rows.map((row, index) => packRow(row, index))],
		}),
	};
}

/**
 * `closeMany` by the payee of all rows: closes each, in one transaction. A row that can't be closed is skipped with
 * `SettlementSkipped`. Not in the draft.
 *
 * @param rows Where the amount is not above what was settled, the signature may be empty (`0x`): the escrow does not look
 * at it. Above that, a row without one is skipped.
 * @throws {BatchSignatureError} for any other signature that is not a key's, in the canonical form.
 * @example
 * ```ts
 * const call = closeManyCall(escrow, [{ channelId, cumulativeAmount: 0n, signature: "0x" }]);
 * ```
 */
export function closeManyCall(escrow: Address, rows: readonly SettlementRow[]): Call {
	return {
		to: escrow,
		data: encodeFunctionData({
			abi: paymentChannelEscrowAbi,
			functionName: "closeMany",
			args: [rows.map((row, index) => (row.signature === NO_SIGNATURE ? unsignedRow(row) : packRow(row, index)))],
		}),
	};
}

/**
 * `settleWithAuthorization`: anyone sends it and pays the gas, the payee's signature allows it.
 *
 * Source: draft-evm-session-00, "Payee-initiated functions".
 *
 * @example
 * ```ts
 * const payeeSignature = await signPayeeAuthorization("settle", payee, domain, authorization);
 * const call = settleWithAuthorizationCall(escrow, { ...authorization, payeeSignature, voucherSignature });
 * ```
 */
export function settleWithAuthorizationCall(escrow: Address, authorization: SignedPayeeAuthorization): Call {
	return authorizedCall(escrow, "settleWithAuthorization", authorization);
}

/**
 * `closeWithAuthorization`: anyone sends it and pays the gas, the payee's signature allows it. `voucherSignature` may be
 * empty (`0x`) where the amount is not above what was settled.
 *
 * Source: draft-evm-session-00, "Payee-initiated functions".
 *
 * @example
 * ```ts
 * const payeeSignature = await signPayeeAuthorization("close", payee, domain, authorization);
 * const call = closeWithAuthorizationCall(escrow, { ...authorization, payeeSignature, voucherSignature });
 * ```
 */
export function closeWithAuthorizationCall(escrow: Address, authorization: SignedPayeeAuthorization): Call {
	return authorizedCall(escrow, "closeWithAuthorization", authorization);
}

function authorizedCall(
	escrow: Address,
	functionName: "settleWithAuthorization" | "closeWithAuthorization",
	authorization: SignedPayeeAuthorization,
): Call {
	const { channelId, cumulativeAmount, nonce, deadline, payeeSignature, voucherSignature } = authorization;
	return {
		to: escrow,
		data: encodeFunctionData({
			abi: paymentChannelEscrowAbi,
			functionName,
			args: [channelId, cumulativeAmount, nonce, deadline, payeeSignature, voucherSignature],
		}),
	};
}

// The one place where a signature is packed; everywhere else it has 65 bytes.
function packRow({ channelId, cumulativeAmount, signature }: SettlementRow, index: number): PackedRow {
	try {
		const { r, s, recovery } = parseSignature(signature);
		// A low s leaves the highest bit free.
		const vs: Hex = recovery === 0 ? s : `0x${(BigInt(s) | PARITY_BIT).toString(16)}`;
		return { channelId, cumulativeAmount, r, vs };
	} catch (error) {
		if (error instanceof SignatureFormatError) throw new BatchSignatureError(index, channelId, error);
		throw error;
	}
}

function unsignedRow({ channelId, cumulativeAmount }: SettlementRow): PackedRow {
	return { channelId, cumulativeAmount, r: ZERO_WORD, vs: ZERO_WORD };
}
