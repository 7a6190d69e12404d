/** How a server ends when it is told to. */
export type StopOptions = Readonly<{
	/** How long `stop` may take, in ms (default 60,000). */
	deadlineMs?: number;
	/** Default `SIGINT` and `SIGTERM`. */
	signals?: readonly NodeJS.Signals[];
	/** For people; default: to standard error. */
	say?: (text: string) => void;
}>;

/**
 * Runs `stop` at the first signal and ends the process with 0. A second signal, or the deadline, ends it at once with 1:
 * what is not done then is on disk, and the next start takes it up.
 *
 * @returns takes the signals no longer
 * @example
 * stopOnSignals(async () => {
 * 	await app.close(); // no new requests, those under way end
 * 	await engine.stop(); // settlements under way end
 * 	await store.close();
 * });
 */
export function stopOnSignals(stop: () => Promise<void>, options: StopOptions = {}): () => void {
	const { deadlineMs = 60_000, signals = ["SIGINT", "SIGTERM"], say = sayOnStderr } = options;
	let stopping = false;
	const onSignal = (signal: NodeJS.Signals) => {
		if (stopping) {
			say(`${signal} again: stopping at once; what was under way is on disk and is taken up by the next start`);
			process.exit(1);
		}
		stopping = true;
		say(`${signal}: stopping; once more stops at once`);
		// It keeps the process alive: one that has nothing left to do but a stop that hangs would end with 0.
		setTimeout(() => {
			say(`not stopped within ${deadlineMs} ms: ending now; what was under way is taken up by the next start`);
			process.exit(1);
		}, deadlineMs);
		(async () => stop())().then(
			() => process.exit(0),
			(error: unknown) => {
				say(`stopping failed: ${error instanceof Error ? error.message : String(error)}`);
				process.exit(1);
			},
		);
	};
	for (const signal of signals) process.on(signal, onSignal);
	return () => {
		for (const signal of signals) process.off(signal, onSignal);
	};
}

function sayOnStderr(text: string): void {
	process.stderr.write(`${text}\n`);
}
