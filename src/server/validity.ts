import type { EngineContext } from "./context.ts";

/** Whether an ERC-3009 authorization can be executed now, and for long enough that its transaction is mined in time. */
export function isValidNow(
	{ validAfter, validBefore }: Readonly<{ validAfter: bigint; validBefore: bigint }>,
	{ limits, now }: Pick<EngineContext, "limits" | "now">,
): boolean {
	const nowSeconds = BigInt(Math.floor(now() / 1_000));
	return validAfter < nowSeconds && validBefore > nowSeconds + BigInt(limits.authorizationMarginSeconds);
}
