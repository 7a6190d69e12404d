import { createInterface } from "node:readline/promises";
import type { Run } from "../shared/command.ts";
import { UsageError } from "../shared/exit.ts";

/**
 * Warns of what `--with-vouchers` writes, and wants to be told that it is meant.
 *
 * @throws UsageError when it is not
 */
export async function confirmVouchers(
	{ say }: Run,
	warning: string,
	{ yes = false }: Readonly<{ yes?: boolean }>,
): Promise<void> {
	say(`warning: ${warning}`);
	if (yes) return;
	if (process.stdin.isTTY !== true) throw new UsageError("--with-vouchers wants to be confirmed: add --yes");
	const terminal = createInterface({ input: process.stdin, output: process.stderr });
	try {
		const answer = await terminal.question("Write them? Type yes: ");
		if (answer.trim().toLowerCase() !== "yes") throw new UsageError("not confirmed: nothing was written");
	} finally {
		terminal.close();
	}
}
