import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { createPublicClient, http, type PublicClient } from "viem";
import { type HDAccount, mnemonicToAccount } from "viem/accounts";

/** The words that every local development chain funds its accounts from. Worth nothing anywhere else. */
const DEVELOPMENT_WORDS = "test test test test test test test test test test test junk";

const START_DEADLINE_MS = 20_000;

/** Otherwise it writes the state of each block but its newest 500 into the user's home, and leaves it there when it ends. */
const LEAVES_NOTHING_BEHIND = ["--max-persisted-states", "0"];

/** A development chain in a process of its own, with funded accounts. */
export type LocalChain = Readonly<{
	url: string;
	chainId: number;
	client: PublicClient;
	/** A funded account: 10,000 of the native coin each. */
	account(index: number): HDAccount;
	stop(): Promise<void>;
}>;

/** The chain process did not come up. */
export class ChainStartError extends Error {
	override readonly name = "ChainStartError";
	readonly code = "CHAIN_START";
}

/** Starts a chain on a free port of the loopback interface. Each transaction is mined at once. */
export async function startChain(
	options: Readonly<{ port?: number; args?: readonly string[] }> = {},
): Promise<LocalChain> {
	const port = String(options.port ?? 0);
	const args = ["--host", "127.0.0.1", "--port", port, ...LEAVES_NOTHING_BEHIND, ...(options.args ?? [])];
	const child = spawn(chainBinary(), args, { stdio: ["ignore", "pipe", "pipe"] });
	const url = await listeningUrl(child).catch((error: unknown) => {
		child.kill("SIGKILL");
		throw error;
	});
	const client = createPublicClient({ transport: http(url), pollingInterval: 50, cacheTime: 0 });
	return {
		url,
		chainId: await client.getChainId(),
		client,
		account: (index) => mnemonicToAccount(DEVELOPMENT_WORDS, { addressIndex: index }),
		stop: () => stop(child),
	};
}

function chainBinary(): string {
	const cpu = process.arch === "x64" ? "amd64" : process.arch;
	try {
		return createRequire(import.meta.url).resolve(`@foundry-rs/anvil-${process.platform}-${cpu}/bin/anvil`);
	} catch (cause) {
		throw new ChainStartError("the demo needs the development chain: npm install --save-dev @foundry-rs/anvil", {
			cause,
		});
	}
}

function listeningUrl(child: ChildProcess): Promise<string> {
	const { promise, resolve, reject } = Promise.withResolvers<string>();
	let output = "";
	const timer = setTimeout(
		() => reject(new ChainStartError("the chain process did not start in time")),
		START_DEADLINE_MS,
	);
	const read = (chunk: Buffer) => {
		output += chunk;
		const [, address] = output.match(/Listening on (127\.0\.0\.1:\d+)/) ?? [];
		if (address !== undefined) resolve(`http://${address}`);
	};
	child.stdout?.on("data", read);
	child.stderr?.on("data", read);
	child.on("error", reject);
	child.on("exit", (code) => {
		reject(new ChainStartError(`the chain process ended with code ${code}: ${output.slice(-500)}`));
	});
	return promise.finally(() => {
		clearTimeout(timer);
		// Its log of every call is of no use, and must not fill the pipes.
		child.stdout?.off("data", read).resume();
		child.stderr?.off("data", read).resume();
	});
}

async function stop(child: ChildProcess): Promise<void> {
	if (child.exitCode !== null || child.signalCode !== null) return;
	const ended = once(child, "exit");
	child.kill("SIGTERM");
	await ended;
}
