import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const made: string[] = [];

/** A folder for one store; not there yet. */
export async function freshFolder(): Promise<string> {
	const parent = await mkdtemp(join(tmpdir(), "sluice-store-"));
	made.push(parent);
	return join(parent, "store");
}

export async function removeFolders(): Promise<void> {
	await Promise.all(made.splice(0).map((folder) => rm(folder, { recursive: true, force: true })));
}
