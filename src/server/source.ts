import type { Address } from "viem";
import { parseSource } from "../protocol/index.ts";

/** The payer that a credential's `source` names, if it names one on this chain (Credential Structure of both EVM drafts). */
export function sourceOn(chainId: number, source: string | undefined): Address | undefined {
	const parsed = source === undefined ? undefined : parseSource(source);
	return parsed?.chainId === chainId ? parsed.address : undefined;
}
