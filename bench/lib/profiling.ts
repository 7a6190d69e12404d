/** How sides are told to write down where their time goes: by a folder for the profiles, in this process. */
import { basename } from "node:path";
import { fileURLToPath } from "node:url";

let profiles: string | undefined;
let started = 0;

/** From now on each side writes its profile to this folder when it ends, numbered in the order in which they start. */
export function profileInto(folder: string | undefined): void {
	profiles = folder;
	started = 0;
}

export function isProfiling(): boolean {
	return profiles !== undefined;
}

/** What Node is started with for a side's script. */
export function profileArguments(script: URL): readonly string[] {
	if (profiles === undefined) return [];
	const name = basename(fileURLToPath(script)).replace(/\.\w+$/, "");
	return ["--cpu-prof", `--cpu-prof-dir=${profiles}`, `--cpu-prof-name=${++started}-${name}.cpuprofile`];
}
