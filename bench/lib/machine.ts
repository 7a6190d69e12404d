/** What a run was measured on, and with which versions: figures mean nothing without. */
import { mkdtemp, open, readFile, rm, statfs } from "node:fs/promises";
import { cpus, loadavg, release, tmpdir, totalmem, type } from "node:os";
import { join } from "node:path";
import { loadCrypto } from "../../src/server/crypto.ts";
import { median } from "./figures.ts";

export type Machine = Readonly<{
	cpus: number;
	model: string;
	memoryMb: number;
	platform: string;
	kernel: string;
	/** Of the last minute, before the run. */
	loadAverage: number;
	/** Where the stores are: a disk that is memory would make fsync free. */
	disk: Readonly<{ fileSystem: string; syncMs: number }>;
}>;

/** Of Sluice, what it is built on, and its peers; null where it is not installed. */
export type Versions = Readonly<Record<string, string | null>> & Readonly<{ node: string; curve: string }>;

const PEERS = ["mppx", "@x402/core", "@x402/evm", "@x402/hono", "hono", "@hono/node-server", "viem"];
const OWN = ["viem", "fastify", "level", "secp256k1", "tiny-secp256k1", "hash-wasm", "@foundry-rs/anvil"];

/** What statfs calls them (Linux). */
const FILE_SYSTEMS: Readonly<Record<number, string>> = {
	61267: "ext4",
	16914836: "tmpfs, which is memory",
	1481003842: "xfs",
	2435016766: "btrfs",
	2035054128: "overlayfs",
	801189825: "zfs",
	26985: "nfs",
};

export async function describeMachine(): Promise<Machine> {
	const [cpu] = cpus();
	const { type: fileSystem } = await statfs(tmpdir());
	return {
		cpus: cpus().length,
		model: cpu?.model.trim() ?? "unknown",
		memoryMb: Math.round(totalmem() / 1e6),
		platform: `${process.platform} ${process.arch}`,
		kernel: `${type()} ${release()}`,
		loadAverage: round(loadavg()[0] ?? 0, 2),
		disk: {
			fileSystem: FILE_SYSTEMS[fileSystem] ?? `0x${fileSystem.toString(16)}`,
			syncMs: round(await measureSync(), 2),
		},
	};
}

export async function describeVersions(): Promise<Versions> {
	const root = new URL("../../", import.meta.url);
	const peers = new URL("../peers/", import.meta.url);
	const { curve } = await loadCrypto();
	const found = async (folder: URL, names: readonly string[], prefix = "") =>
		Promise.all(names.map(async (name) => [`${prefix}${name}`, await versionIn(folder, name)] as const));
	return {
		node: process.versions.node,
		curve,
		sluice: await read(new URL("package.json", root)),
		...Object.fromEntries(await found(root, OWN)),
		...Object.fromEntries(await found(peers, PEERS, "peers/")),
	};
}

async function versionIn(folder: URL, name: string): Promise<string | null> {
	return read(new URL(`node_modules/${name}/package.json`, folder));
}

async function read(manifest: URL): Promise<string | null> {
	try {
		const { version } = JSON.parse(await readFile(manifest, "utf8"));
		return version;
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
		throw error;
	}
}

/** How long the disk takes to have four kibibytes for certain, in ms: the median of a few times. */
async function measureSync(): Promise<number> {
	const folder = await mkdtemp(join(tmpdir(), "sluice-bench-disk-"));
	try {
		const file = await open(join(folder, "synced"), "a");
		const page = new Uint8Array(4_096);
		const timesMs: number[] = [];
		for (let i = 0; i < 20; i++) {
			const startedAt = performance.now();
			await file.write(page);
			await file.datasync();
			timesMs.push(performance.now() - startedAt);
		}
		await file.close();
		return median(timesMs);
	} finally {
		await rm(folder, { recursive: true, force: true });
	}
}

function round(value: number, decimals: number): number {
	return Number(value.toFixed(decimals));
}
