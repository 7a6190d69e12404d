/** How long a scenario waits for what has to come. */
const PATIENCE_MS = 60_000;

const LOOK_MS = 25;

type Missing = undefined | false;

/** Something that has to come did not. */
export class NeverHappenedError extends Error {
	override readonly name = "NeverHappenedError";
	readonly code = "NEVER_HAPPENED";
}

/**
 * Looks again and again until `look` finds something, and resolves to it.
 *
 * @param what for the error: "the channel was closed"
 * @throws NeverHappenedError after a minute
 */
export async function until<T>(
	what: string,
	look: () => Promise<T | Missing> | T | Missing,
): Promise<Exclude<T, Missing>> {
	const deadline = Date.now() + PATIENCE_MS;
	for (;;) {
		const found = await look();
		if (found !== undefined && found !== false) return found as Exclude<T, Missing>;
		if (Date.now() >= deadline) throw new NeverHappenedError(`never happened within ${PATIENCE_MS / 1_000} s: ${what}`);
		await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
	}
}
