import type { Hex } from "viem";
import { parseChannelId } from "../shared/arguments.ts";

/** Collects ids that are typed one after the other. */
export function collectChannelIds(text: string, before: readonly Hex[] = []): readonly Hex[] {
	return [...before, parseChannelId(text)];
}
