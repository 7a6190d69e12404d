/** What exit codes say that most commands have: the whole list is `EXIT` in ./exit.ts. */
export const EXIT_CODES = "0 done, 1 failed, 2 wrong usage";

/**
 * What stands after the options in a command's help.
 *
 * @param exitCodes - what each code says of this command
 * @param more - what else is to be known, before the examples
 */
export function help(exitCodes: string, examples: readonly string[], more?: string): string {
	const lines = ["", `Exit codes: ${exitCodes}.`, ...(more === undefined ? [] : [more]), "", "Examples:"];
	return [...lines, ...examples.map((example) => `  $ ${example}`)].join("\n");
}
