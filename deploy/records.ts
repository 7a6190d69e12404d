import { access, constants, open, readFile, rename, rm } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { setTimeout } from "node:timers/promises";
import { type Deployment, type Deployments, DeploymentsError, parseDeployments } from "../src/escrow/index.ts";

/** How long another process may write the same file, and how often is looked, in ms. */
const LOCK_WAIT_MS = 5_000;
const LOCK_POLL_MS = 50;

/** The file of deployments can't be read or written. */
export class RecordFileError extends Error {
	override readonly name = "RecordFileError";
	readonly code = "RECORD_FILE";
	readonly file: string;
	constructor(file: string, message: string, cause?: unknown) {
		super(message, { cause });
		this.file = file;
	}
}

/** The file has another escrow for this chain. */
export class RecordConflictError extends Error {
	override readonly name = "RecordConflictError";
	readonly code = "RECORD_CONFLICT";
	readonly file: string;
	readonly chainId: number;
	readonly recorded: Deployment;
	readonly deployment: Deployment;
	constructor(file: string, chainId: number, recorded: Deployment, deployment: Deployment) {
		super(
			`${file} has another deployment for chain ${chainId} (${described(recorded)}, now ${described(deployment)}); keep it by --record with another file, or replace it by --force`,
		);
		this.file = file;
		this.chainId = chainId;
		this.recorded = recorded;
		this.deployment = deployment;
	}
}

/**
 * Reads a file of deployments; there need not be one.
 *
 * @throws {DeploymentsError} when it is damaged, {@link RecordFileError} when it can't be read
 * @example
 * ```ts
 * const deployments = await readDeployments("./deployments.json");
 * ```
 */
export async function readDeployments(file: string): Promise<Deployments> {
	let text: string;
	try {
		text = await readFile(file, "utf8");
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
		throw new RecordFileError(
			file,
			`${file} can't be read (${codeOf(error)}); fix it, or give another --record`,
			error,
		);
	}
	try {
		return parseDeployments(JSON.parse(text));
	} catch (cause) {
		const reason = cause instanceof DeploymentsError ? cause.message : "this is not JSON; restore it, or remove it";
		throw new DeploymentsError(`${file}: ${reason}`, { cause });
	}
}

/**
 * Looks whether a deployment can be recorded, before money is spent on it.
 *
 * @throws {DeploymentsError}, {@link RecordFileError}, {@link RecordConflictError}
 * @example
 * ```ts
 * await assertRecordable("./deployments.json", 8453, { escrow, permit2, closeGracePeriodSeconds: 900 });
 * ```
 */
export async function assertRecordable(
	file: string,
	chainId: number,
	deployment: Deployment,
	force = false,
): Promise<void> {
	const merged = merge(file, await readDeployments(file), chainId, deployment, force);
	if (merged !== undefined) await alone(file, async () => undefined);
}

/**
 * What keeps a deployment from being recorded; `undefined` when nothing does. It only looks, and writes nothing at all.
 *
 * @example
 * ```ts
 * const obstacle = await recordObstacle("./deployments.json", 8453, { escrow, permit2, closeGracePeriodSeconds: 900 });
 * ```
 */
export async function recordObstacle(
	file: string,
	chainId: number,
	deployment: Deployment,
	force = false,
): Promise<string | undefined> {
	try {
		const merged = merge(file, await readDeployments(file), chainId, deployment, force);
		if (merged === undefined) return undefined;
		// The file is replaced by another one, so that it is the folder that has to be writable.
		await access(dirname(file), constants.W_OK).catch((error: unknown) => {
			throw unwritable(file, error);
		});
		return undefined;
	} catch (error) {
		const isKnown = [DeploymentsError, RecordFileError, RecordConflictError].some((type) => error instanceof type);
		if (isKnown) return (error as Error).message;
		throw error;
	}
}

/**
 * Records a deployment. Other chains' entries stay; the file is replaced at once, so that a reader sees the old one or
 * the new one; processes that write at the same time take turns.
 *
 * @param force replace a record of another deployment
 * @returns whether the file had to be changed
 * @throws {DeploymentsError}, {@link RecordFileError}, {@link RecordConflictError}: the file is as it was
 * @example
 * ```ts
 * await recordDeployment("./deployments.json", 8453, { escrow, permit2, closeGracePeriodSeconds: 900 });
 * ```
 */
export async function recordDeployment(
	file: string,
	chainId: number,
	deployment: Deployment,
	force = false,
): Promise<boolean> {
	return alone(file, async (write) => {
		const merged = merge(file, await readDeployments(file), chainId, deployment, force);
		if (merged !== undefined) await write(`${JSON.stringify(merged, undefined, 2)}\n`);
		return merged !== undefined;
	});
}

/** The record with the deployment in it, `undefined` when that is what it has already. */
function merge(
	file: string,
	deployments: Deployments,
	chainId: number,
	deployment: Deployment,
	force: boolean,
): Deployments | undefined {
	const recorded = deployments[String(chainId)];
	const same = recorded !== undefined && described(recorded) === described(deployment);
	if (recorded !== undefined && !same && !force) throw new RecordConflictError(file, chainId, recorded, deployment);
	// Found already there, a deployment has no transaction: what an earlier run noted stays.
	const entry = same ? { ...recorded, ...deployment } : deployment;
	if (JSON.stringify(entry) === JSON.stringify(recorded)) return undefined;
	return { ...deployments, [String(chainId)]: entry };
}

function described({ escrow, permit2, closeGracePeriodSeconds }: Deployment): string {
	return `escrow ${escrow}, Permit2 ${permit2}, grace period ${closeGracePeriodSeconds} s`;
}

/** Runs `work` while a file beside it says that somebody writes. That file becomes the new one when something was written. */
async function alone<T>(file: string, work: (write: (text: string) => Promise<void>) => Promise<T>): Promise<T> {
	const lock = `${file}.lock`;
	const handle = await openLock(file, lock);
	let written = false;
	let renamed = false;
	try {
		const result = await work(async (text) => {
			await handle.writeFile(text);
			await handle.sync();
			written = true;
		}).finally(() => handle.close());
		if (written) {
			await rename(lock, file);
			renamed = true;
		}
		return result;
	} finally {
		// Once it is renamed, a file of that name is somebody else's.
		if (!renamed) await rm(lock, { force: true });
	}
}

async function openLock(file: string, lock: string) {
	const deadline = Date.now() + LOCK_WAIT_MS;
	for (;;) {
		try {
			return await open(lock, "wx", 0o644);
		} catch (error) {
			if (codeOf(error) !== "EEXIST") throw unwritable(file, error);
			if (Date.now() >= deadline) {
				const message = `another process is writing ${file}; if none is, remove ${basename(lock)} beside it and run again`;
				throw new RecordFileError(file, message, error);
			}
			await setTimeout(LOCK_POLL_MS);
		}
	}
}

function unwritable(file: string, error: unknown): RecordFileError {
	const code = codeOf(error);
	const hint = code === "ENOENT" ? `make the folder ${dirname(file)}` : "fix that";
	return new RecordFileError(file, `${file} can't be written (${code}); ${hint}, or give another --record`, error);
}

function codeOf(error: unknown): string {
	return (error as NodeJS.ErrnoException).code ?? "unknown error";
}
