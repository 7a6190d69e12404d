/** What bodies have ended with because they could not be paid for, or because the payer did not want them any more. */
const ours = new WeakSet<object>();

/** Remembers that a body ends with this error by the payer's own doing. */
export function own<Cause>(error: Cause): Cause {
	if (typeof error === "object" && error !== null) ours.add(error);
	return error;
}

/** Whether a body that has ended with this error has lost its connection. */
export function isLostConnection(error: unknown): boolean {
	return typeof error !== "object" || error === null || !ours.has(error);
}
