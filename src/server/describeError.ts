import { BaseError } from "viem";

/** What a log may say of an error. A node's URL can hold an API key, and viem's long messages hold the URL. */
export function describeError(error: unknown): string {
	if (error instanceof BaseError) return `${error.name}: ${error.shortMessage}`;
	return error instanceof Error ? `${error.name}: ${error.message}` : "unknown error";
}
