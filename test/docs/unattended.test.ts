import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { toHex } from "viem";
import type { HDAccount } from "viem/accounts";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type LocalChain, startChain } from "../../src/cli/demo/chain.ts";
import { deployContracts } from "../../src/cli/demo/deploy.ts";
import { LevelStore } from "../../src/server/index.ts";
import { expectPaid } from "../support/programs.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const PROGRAM = join(ROOT, "examples/unattended.ts");
const CONDITIONS = ["--conditions=sluice-source"];

let chain: LocalChain;
let folder: string;

beforeAll(async () => {
	chain = await startChain();
	folder = await mkdtemp(join(tmpdir(), "sluice-unattended-"));
});

afterAll(async () => {
	await chain?.stop();
	await rm(folder, { recursive: true, force: true });
});

it("the README shows the example of a server that runs unattended as it stands", async () => {
	const [readme, example] = await Promise.all([readFile(join(ROOT, "README.md"), "utf8"), readFile(PROGRAM, "utf8")]);
	expect(readme).toContain(example);
});

it("it is paid, and starts again on what it left", async () => {
	const client = join(ROOT, "examples/client.ts");
	await expectPaid(chain, { server: PROGRAM, client, folder, nodeArgs: CONDITIONS });
	await expectPaid(chain, { server: PROGRAM, client, folder, nodeArgs: CONDITIONS });
});

it("it ends at a signal with exit code 0 and lets go of its store, with an endpoint that is away before one that works", async () => {
	const { token, escrow } = await deployContracts(chain, chain.account(0), chain.account(2).address, 1n);
	const env = {
		PATH: process.env.PATH,
		RPC_URL: `http://127.0.0.1:1 ${chain.url}`,
		CHAIN_ID: String(chain.chainId),
		ESCROW: escrow,
		TOKEN: token,
		PAYEE_KEY: toHex((chain.account(1) as HDAccount).getHdKey().privateKey ?? new Uint8Array()),
		SECRET: "an example of a secret, 32 bytes long",
		PORT: "0",
	};
	const args = ["--disable-warning=ExperimentalWarning", ...CONDITIONS, PROGRAM];
	const server = spawn(process.execPath, args, { cwd: folder, env, stdio: ["ignore", "pipe", "inherit"] });
	const ended = once(server, "exit");
	try {
		await listening(server);
		server.kill("SIGTERM");
		expect(await ended).toEqual([0, null]);
	} finally {
		server.kill("SIGKILL");
	}
	const store = await LevelStore.open({ folder: join(folder, "channels"), mustExist: true });
	await store.close();
});

async function listening(server: ChildProcess): Promise<void> {
	if (server.stdout === null) throw new Error("the server has no output");
	const [said] = await Promise.race([once(server.stdout, "data"), once(server, "exit")]);
	expect(String(said)).toContain("http://");
}
