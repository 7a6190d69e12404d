/** What the chain answered, in the model's words, and whether it is what the model said. */
import { type Address, decodeErrorResult, decodeEventLog, type Hex, parseAbi } from "viem";
import { testUsdcAbi } from "../../src/cli/demo/generated/testUsdc.ts";
import { paymentChannelEscrowAbi } from "../../src/escrow/generated/escrow.ts";
import type { MinedReceipt } from "./stage.ts";
import type { Emitted, Refusal, Transfer } from "./terms.ts";

const tokenErrors = [...testUsdcAbi, ...parseAbi(["error Blocked(address account)"])];
const permit2Errors = parseAbi([
	"error InvalidSigner()",
	"error InvalidSignature()",
	"error InvalidSignatureLength()",
	"error InvalidContractSignature()",
	"error InvalidNonce()",
	"error SignatureExpired(uint256 signatureDeadline)",
	"error InvalidAmount(uint256 maxAmount)",
]);

/** An error as a name and its values; those of Permit2 are marked, because it shares a name with the escrow. */
export function revertOf(data: Hex): Refusal {
	for (const [abi, prefix] of [
		[paymentChannelEscrowAbi, ""],
		[tokenErrors, ""],
		[permit2Errors, "Permit2 "],
	] as const) {
		try {
			const { errorName, args } = decodeErrorResult({ abi, data });
			if (String(errorName) === "Error") return { error: String(args?.[0]) };
			return { error: `${prefix}${errorName}`, args: (args ?? []).map(plain) };
		} catch {
			// Not one of these.
		}
	}
	return { error: `unknown: ${data}` };
}

/** The revert data in a node's error, wherever it was put; `0x` where there is none. */
export function revertData(error: unknown): Hex {
	for (let cause = error; cause instanceof Error; cause = cause.cause) {
		const { data } = cause as { data?: unknown };
		const hex = typeof data === "object" && data !== null && "data" in data ? data.data : data;
		if (typeof hex === "string" && hex.startsWith("0x")) return hex as Hex;
	}
	throw error;
}

export function matchesRefusal(expected: Refusal, actual: Refusal): boolean {
	if (expected.error !== actual.error) return false;
	return expected.args === undefined || String(expected.args) === String(actual.args);
}

/** The escrow's events of a transaction, in order; a skipped row's reason is decoded. */
export function escrowEvents(receipt: MinedReceipt, escrow: Address): Emitted[] {
	return receipt.logs
		.filter(({ address }) => address.toLowerCase() === escrow)
		.map(({ topics, data }) => {
			const { eventName, args } = decodeEventLog({ abi: paymentChannelEscrowAbi, topics, data });
			const named = Object.fromEntries(Object.entries(args ?? {}).map(([name, value]) => [name, plain(value)]));
			const { reason, ...others } = named;
			if (eventName !== "SettlementSkipped") return { name: eventName, args: named };
			return { name: eventName, args: others, reasons: [revertOf(reason as Hex)] };
		});
}

/** Says which event is not the expected one; `undefined` when all are. */
export function unexpectedEvent(actual: readonly Emitted[], expected: readonly Emitted[]): string | undefined {
	for (let index = 0; index < Math.max(actual.length, expected.length); index++) {
		const [one, other] = [actual[index], expected[index]];
		if (one === undefined || other === undefined) return `number of events: ${actual.length}, not ${expected.length}`;
		if (one.name !== other.name || !sameMembers(one.args, other.args)) return `event ${index}`;
		const [reason] = one.reasons ?? [];
		if (other.reasons === undefined) continue;
		if (reason === undefined || !other.reasons.some((each) => matchesRefusal(each, reason))) return `reason ${index}`;
	}
	return undefined;
}

/** All that tokens moved from or to the escrow, sorted. Fees and bonuses never get that far. */
export function tokenTransfers({ logs }: MinedReceipt, escrow: Address): string[] {
	const transfers: Transfer[] = [];
	for (const { address, topics, data } of logs) {
		if (address.toLowerCase() === escrow) continue;
		const { eventName, args } = decodeEventLog({ abi: testUsdcAbi, topics, data });
		if (eventName !== "Transfer") continue;
		const { from, to, value: amount } = args;
		const token = address.toLowerCase() as Address;
		transfers.push({ token, from: plain(from) as Address, to: plain(to) as Address, amount });
	}
	return transferList(transfers.filter(({ amount }) => amount > 0n));
}

export function transferList(transfers: readonly Transfer[]): string[] {
	return transfers.map(({ token, from, to, amount }) => `${token} ${from} ${to} ${amount}`).sort();
}

function sameMembers(a: Readonly<Record<string, unknown>>, b: Readonly<Record<string, unknown>>): boolean {
	const names = Object.keys(a);
	return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}

/** Addresses in lowercase; a whole number is a bigint whatever its width. */
function plain(value: unknown): unknown {
	if (typeof value === "string" && value.startsWith("0x")) return value.toLowerCase();
	return typeof value === "number" ? BigInt(value) : value;
}
