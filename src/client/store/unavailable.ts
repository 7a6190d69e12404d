import { PayerStoreError } from "./store.ts";

/** Something is wrong with the database. */
export function unavailable(cause: unknown): PayerStoreError {
	if (cause instanceof PayerStoreError) return cause;
	return new PayerStoreError(
		`the wallet's store can't be used: ${deepest(cause)}; check its disk, then open the wallet again`,
		{ cause },
	);
}

function deepest(error: unknown): string {
	if (!(error instanceof Error)) return String(error);
	return error.cause === undefined ? error.message : deepest(error.cause);
}
