import { type Abi, BaseError, decodeErrorResult, type Hex } from "viem";
import { erc3009Abi } from "./generated/erc3009.ts";
import { paymentChannelEscrowAbi } from "./generated/escrow.ts";
import { permit2Abi } from "./generated/permit2.ts";

/** Errors of the escrow, of ERC-3009 tokens and of Permit2, for decoding. */
const KNOWN_ERRORS: Abi = [...paymentChannelEscrowAbi, ...erc3009Abi, ...permit2Abi].filter(
	({ type }) => type === "error",
);

/** Why a call reverted: the name of the contract's custom error, a revert string, or `unknown`. */
export function revertReason(error: unknown): string | undefined {
	const data = revertData(error);
	if (data === undefined) return isRevert(error) ? "unknown" : undefined;
	return errorNameOf(data);
}

/** What revert data says: the name of the contract's custom error, a revert string, or `unknown`. Internal. */
export function errorNameOf(data: Hex): string {
	try {
		const { errorName, args } = decodeErrorResult({ abi: KNOWN_ERRORS, data });
		return errorName === "Error" ? String(args?.[0]) : errorName;
	} catch {
		return "unknown";
	}
}

function isRevert(error: unknown): boolean {
	return error instanceof BaseError && /revert/i.test(`${error.shortMessage} ${error.details}`);
}

/** The revert data that a node sent along with its error, wherever viem put it. */
function revertData(error: unknown): Hex | undefined {
	if (!(error instanceof BaseError)) return undefined;
	let found: Hex | undefined;
	error.walk((cause) => {
		const { data } = cause as { data?: unknown };
		const hex = typeof data === "object" && data !== null && "data" in data ? data.data : data;
		if (typeof hex === "string" && /^0x[0-9a-f]{8,}$/i.test(hex)) found = hex as Hex;
		return found !== undefined;
	});
	return found;
}
