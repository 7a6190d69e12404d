/** Who is who among the processes of this machine, and among the holders of this process. */
import { createHash, randomUUID } from "node:crypto";
import { hostname } from "node:os";

/** What every copy of this module in this process shares: a bundler may have made several. */
type Shared = { holders: Set<string>; databases: Set<string> };

const SHARED = Symbol.for("sluice.wallet.process");
const scope = globalThis as { [SHARED]?: Shared };
scope[SHARED] ??= { holders: new Set(), databases: new Set() };
const shared = scope[SHARED];

const machine = createHash("sha256").update(hostname()).digest("hex").slice(0, 8);

/** A name for a holder that no other has, and that says which process it is of. */
export function newHolder(): string {
	const holder = `${process.pid}.${machine}.${randomUUID()}`;
	shared.holders.add(holder);
	return holder;
}

export function dropHolder(holder: string): void {
	shared.holders.delete(holder);
}

/** Whether a holder is known to be gone: the process that it was of is not there any more. When in doubt it is not. */
export function isKnownGone(holder: string): boolean {
	const [pid, host] = holder.split(".");
	if (host !== machine) return false;
	// A process may have the number that an earlier one had, in containers nearly always.
	if (Number(pid) === process.pid) return !shared.holders.has(holder);
	return !isAlive(Number(pid));
}

/**
 * Reserves a database within this process. LevelDB must not even be asked a second time: refusing, it closes its lock file
 * once more, and with that the system takes the first opener's lock away.
 *
 * @returns gives it back; `undefined` when this process has it open
 */
export function claimDatabase(identity: string): (() => void) | undefined {
	if (shared.databases.has(identity)) return undefined;
	shared.databases.add(identity);
	return () => shared.databases.delete(identity);
}

function isAlive(pid: number): boolean {
	try {
		return process.kill(pid, 0);
	} catch (error) {
		// Not allowed to signal it: it is there.
		return error instanceof Error && "code" in error && error.code === "EPERM";
	}
}
