import { SignerError } from "../../client/node/keys.ts";
import { PolicyError, PolicyRefusedError } from "../../client/policy/errors.ts";
import { PausedError } from "../../client/store/store.ts";

/**
 * What an exit code says, for every command: done (or nothing to do), failed, wrong usage (also a policy or a key that is missing
 * or wrong), sent but not mined in time, refused by the payer's policy, by a pause or by whoever was asked; and an HTTP error that
 * was to be a failure, as curl has it.
 */
export const EXIT = { done: 0, failed: 1, usage: 2, pending: 3, refused: 4, httpError: 22 } as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The exit code of what a command ends with. */
export function exitCodeOf(error: unknown): ExitCode {
	if (error instanceof UsageError || error instanceof SignerError || error instanceof PolicyError) return EXIT.usage;
	if (error instanceof PolicyRefusedError || error instanceof PausedError) return EXIT.refused;
	return EXIT.failed;
}

/** What the command line says can't be done, as only the command itself can tell. The message says what to give instead. */
export class UsageError extends Error {
	override readonly name = "UsageError";
	readonly code = "USAGE";
}
