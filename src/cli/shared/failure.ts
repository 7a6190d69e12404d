import { BaseError } from "viem";
import { EndpointError } from "../../escrow/rpc.ts";
import { originOf } from "./secrets.ts";

/** An error as programs and people are told of it. */
export type FailureWords = Readonly<{ code: string; message: string }>;

/** An error in words that may be shown. viem's long messages hold the RPC's URL and the whole transaction. */
export function describeFailure(error: unknown, rpcUrls: readonly string[]): FailureWords {
	const rpc = rpcUrls.length === 0 ? "the RPC" : `the RPC at ${rpcUrls.map(originOf).join(", ")}`;
	const again = "check --rpc and run the same command again (nothing is sent twice)";
	if (error instanceof EndpointError) return { code: error.code, message: `${rpc}: ${error.message}; ${again}` };
	if (error instanceof BaseError) {
		const { shortMessage, details } = error;
		const said = details === "" || details === undefined || shortMessage.includes(details) ? "" : ` (${details})`;
		return { code: "RPC", message: `${rpc} failed: ${shortMessage}${said}; ${again}` };
	}
	// As `fetch` has it. What asks an RPC throws viem's errors.
	if (error instanceof TypeError && error.cause instanceof Error) {
		const { cause } = error;
		const reason = "code" in cause ? String(cause.code) : cause.name;
		return {
			code: "SERVER_UNREACHABLE",
			message: `the server can't be reached (${reason}): check its address, or try again when it answers`,
		};
	}
	if (error instanceof Error && "code" in error) return { code: String(error.code), message: error.message };
	const reason = error instanceof Error ? `${error.name}: ${error.message}` : "unknown error";
	if (rpcUrls.length === 0) return { code: "UNEXPECTED", message: `unexpected: ${reason}` };
	return { code: "UNEXPECTED", message: `unexpected, perhaps an odd answer of ${rpc}: ${reason}; ${again}` };
}

/** A failure as the line that programs get; `more` is what else they need to know. */
export function failureLine({ code, message }: FailureWords, more: object = {}): string {
	return `${JSON.stringify({ outcome: "failed", error: { code, message }, ...more })}\n`;
}
