import type { Run } from "../shared/command.ts";
import { EXIT, type ExitCode, UsageError } from "../shared/exit.ts";
import { openPayerStore, type WalletOptions } from "../shared/payer.ts";

const LONGEST_REASON = 500;

/** Stops all spending of a wallet. */
export async function pause(run: Run, reason: string, options: WalletOptions): Promise<ExitCode> {
	if (reason.trim() === "" || reason.length > LONGEST_REASON)
		throw new UsageError(`a reason has 1 to ${LONGEST_REASON} characters`);
	await setPaused(run, reason.trim(), options);
	run.say("nothing is signed any more until `sluice wallet unpause`; what was signed stays good");
	return EXIT.done;
}

/** Lets spending go on. */
export async function unpause(run: Run, options: WalletOptions): Promise<ExitCode> {
	await setPaused(run, undefined, options);
	return EXIT.done;
}

async function setPaused({ out, format, ...run }: Run, reason: string | undefined, options: WalletOptions) {
	const store = await openPayerStore({ out, format, ...run }, options);
	try {
		const before = await store.paused();
		await store.setPaused(reason);
		if (format === "json") await out.line(JSON.stringify({ paused: reason ?? null, before: before ?? null }));
		else await out.line(reason === undefined ? "spending goes on" : `spending is paused: ${reason}`);
	} finally {
		await store.close();
	}
}
