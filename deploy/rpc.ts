import {
	BaseError,
	HttpRequestError,
	LimitExceededRpcError,
	type PublicClient,
	RpcRequestError,
	TimeoutError,
} from "viem";

/** Codes by which providers say "too many requests" within an answer of status 200. */
const RATE_LIMITED: readonly number[] = [LimitExceededRpcError.code, 429, -32_007];

/** Whether the node could not be asked, which says nothing about the chain. */
export function isNodeFault(error: unknown): boolean {
	if (!(error instanceof BaseError)) return true;
	let answered = false;
	const fault = error.walk((cause) => {
		if (cause instanceof RpcRequestError) answered = true;
		const { code } = cause as { code?: unknown };
		return (
			cause instanceof HttpRequestError ||
			cause instanceof TimeoutError ||
			(typeof code === "number" && RATE_LIMITED.includes(code))
		);
	});
	return fault !== null || !answered;
}

/** What a node said against a call, in its own words. */
export function refusalOf(error: unknown): string {
	if (!(error instanceof BaseError)) return "unknown";
	const answer = error.walk((cause) => cause instanceof RpcRequestError);
	return answer instanceof RpcRequestError ? answer.details : error.shortMessage;
}

/**
 * Looks until there is something or the time is up. A fault of the node counts as nothing seen: a node may come back.
 *
 * @param timeoutMs how long, in ms; it looks at least once
 */
export async function lookUntil<Found>(
	look: () => Promise<Found | undefined>,
	{ timeoutMs, pollMs }: Readonly<{ timeoutMs: number; pollMs: number }>,
): Promise<Found | undefined> {
	const deadline = Date.now() + timeoutMs;
	for (;;) {
		const found = await look().catch(() => undefined);
		if (found !== undefined || Date.now() >= deadline) return found;
		await new Promise((resolve) => setTimeout(resolve, pollMs));
	}
}

/** Whether there is code at an address. */
export async function hasCode(client: PublicClient, address: `0x${string}`): Promise<boolean> {
	const code = await client.getCode({ address });
	return code !== undefined && code !== "0x";
}
