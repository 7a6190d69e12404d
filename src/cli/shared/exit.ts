/**
 * What an exit code says, for every command: done (or nothing to do), failed, wrong usage, sent but not mined in time, refused by
 * the payer's policy or by whoever was asked; and an HTTP error that was to be a failure, as curl has it.
 */
export const EXIT = { done: 0, failed: 1, usage: 2, pending: 3, refused: 4, httpError: 22 } as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** What the command line says can't be done, as only the command itself can tell. The message says what to give instead. */
export class UsageError extends Error {
	override readonly name = "UsageError";
	readonly code = "USAGE";
}
