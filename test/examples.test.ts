import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { generatePrivateKey, type HDAccount, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type LocalChain, startChain } from "../src/cli/demo/chain.ts";
import { deployContracts } from "../src/cli/demo/deploy.ts";
import { readBalance } from "../src/escrow/index.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const NODE_ARGS = ["--disable-warning=ExperimentalWarning"];

describe("the examples", () => {
	let chain: LocalChain;
	let folder: string;

	beforeAll(async () => {
		chain = await startChain();
		folder = await mkdtemp(join(tmpdir(), "sluice-examples-"));
	});

	afterAll(async () => {
		await chain.stop();
		await rm(folder, { recursive: true, force: true });
	});

	it("run as they stand: ten quotes over one channel, one charge, one close", async () => {
		const payee = chain.account(1);
		const payerKey = generatePrivateKey();
		const { token, escrow } = await deployContracts(
			chain,
			chain.account(0),
			privateKeyToAccount(payerKey).address,
			30_000n,
		);
		const shared = {
			PATH: process.env.PATH,
			RPC_URL: chain.url,
			CHAIN_ID: String(chain.chainId),
			ESCROW: escrow,
			TOKEN: token,
		};
		const payeeKey = keyOf(payee);
		const server = spawn(process.execPath, [...NODE_ARGS, join(ROOT, "examples/server.ts")], {
			cwd: folder,
			env: { ...shared, PAYEE_KEY: payeeKey, SECRET: "an example of a secret, 32 bytes long", PORT: "0" },
			stdio: ["ignore", "pipe", "inherit"],
		});
		try {
			const [url] = (await once(createInterface({ input: server.stdout }), "line")) as [string];
			const { stdout } = await promisify(execFile)(process.execPath, [...NODE_ARGS, join(ROOT, "examples/client.ts")], {
				env: { ...shared, PAYER_KEY: payerKey, API: url.replace("[::1]", "127.0.0.1") },
			});
			expect(stdout.match(/quote: 42/g)).toHaveLength(10);
			expect(stdout).toContain("pages: 7");
			expect(stdout).toContain("spent: 1000n");
			expect(await readBalance(chain.client, token, payee.address)).toBe(3_500n);
			expect(await readBalance(chain.client, token, privateKeyToAccount(payerKey).address)).toBe(26_500n);
		} finally {
			server.kill("SIGKILL");
		}
	});

	it.each(["server", "client"])("stand in the README as they are: %s", async (name) => {
		const [readme, example] = await Promise.all([
			readFile(join(ROOT, "README.md"), "utf8"),
			readFile(join(ROOT, `examples/${name}.ts`), "utf8"),
		]);
		expect(readme).toContain(example.trim());
	});
});

/** A development chain's accounts come from words, so their keys can be had. */
function keyOf(account: HDAccount): string {
	const key = account.getHdKey().privateKey;
	if (!key) throw new Error("not a development account");
	return `0x${Buffer.from(key).toString("hex")}`;
}
