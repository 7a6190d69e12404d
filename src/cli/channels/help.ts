import type { Hex } from "viem";
import { parseChannelId } from "../shared/arguments.ts";

/** What stands after the options in a command's help. */
export function help(exitCodes: string, examples: readonly string[], more?: string): string {
	const lines = ["", `Exit codes: ${exitCodes}.`, ...(more === undefined ? [] : [more]), "", "Examples:"];
	return [...lines, ...examples.map((example) => `  $ ${example}`)].join("\n");
}

/** Collects ids that are typed one after the other. */
export function collectChannelIds(text: string, before: readonly Hex[] = []): readonly Hex[] {
	return [...before, parseChannelId(text)];
}
