/** The libraries that Sluice is measured against. They are in a folder of their own, and need not be there. */
import { existsSync } from "node:fs";
import { isProfiling } from "./profiling.ts";
import { type RunningSide, type SideOptions, startSide } from "./side.ts";

const FOLDER = new URL("../peers/", import.meta.url);

/** What to do where they are not installed. */
export const PEERS_HINT = "the peers are not installed, and are left out: `npm run bench:setup` installs them";

/** @param folder where they are looked for; another one than bench/peers in tests */
export function peersInstalled(folder: URL = FOLDER): boolean {
	return existsSync(new URL("node_modules/mppx/package.json", folder));
}

/**
 * Starts a peer's side.
 *
 * @param script its file in bench/peers, for example `mppxVerify.mjs`
 * @returns nothing where the peers are not installed, after `progress` was told what to do about it; nor while Sluice is profiled
 */
export async function startPeer<Order, Info = unknown>(
	script: string,
	start: unknown,
	{
		progress,
		folder = FOLDER,
		...options
	}: SideOptions & Readonly<{ progress(text: string): void; folder?: URL | undefined }>,
): Promise<RunningSide<Order, Info> | undefined> {
	if (isProfiling()) return undefined;
	if (!peersInstalled(folder)) {
		progress(PEERS_HINT);
		return undefined;
	}
	return startSide(new URL(script, folder), start, options);
}
