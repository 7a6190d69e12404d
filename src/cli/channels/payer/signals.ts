const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Somebody has ended the command. */
export class InterruptedError extends Error {
	override readonly name = "InterruptedError";
	readonly code = "INTERRUPTED";
	constructor() {
		super("interrupted; run the same command again: it goes on where it stopped, and nothing is sent twice");
	}
}

/** Works until it is done, or the process is told to end: then the signal is aborted, so that all is let go of. */
export async function untilInterrupted<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
	const end = new AbortController();
	const interrupt = () => end.abort(new InterruptedError());
	for (const signal of SIGNALS) process.once(signal, interrupt);
	try {
		return await work(end.signal);
	} finally {
		for (const signal of SIGNALS) process.off(signal, interrupt);
	}
}
