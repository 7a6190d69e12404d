/** The README's agent and its policy, as they stand: two processes after each other on one wallet. */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { chmod, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type LocalChain, startChain } from "../../src/cli/demo/chain.ts";
import { readPolicyFile } from "../../src/client/node/policyFile.ts";
import { readBalance } from "../../src/escrow/index.ts";
import { type ServedPrograms, serve } from "../support/programs.ts";

const ROOT = new URL("../../", import.meta.url);
const read = (path: string) => readFileSync(new URL(path, ROOT), "utf8");
const NODE_ARGS = ["--disable-warning=ExperimentalWarning", "--conditions=sluice-source"];
const FUNDS = 30_000n;

let chain: LocalChain;
let folder: string;
let served: ServedPrograms;
const key = generatePrivateKey();
const payer = privateKeyToAccount(key).address;

beforeAll(async () => {
	chain = await startChain();
	folder = await mkdtemp(join(tmpdir(), "sluice-agent-"));
	const server = new URL("examples/server.ts", ROOT).pathname;
	served = await serve(chain, { server, folder, nodeArgs: NODE_ARGS, payer, funds: FUNDS });
});

afterAll(async () => {
	served?.stop();
	await chain?.stop();
	await rm(folder, { recursive: true, force: true });
});

/** The first policy that a page shows. */
function policyOf(page: string): string {
	const policy = read(page).match(/```yaml\n([\s\S]*?)```/)?.[1];
	if (policy === undefined) throw new Error(`${page} has no policy`);
	return policy;
}

async function runAgent(...args: readonly string[]): Promise<string> {
	const agent = new URL("examples/agent.ts", ROOT).pathname;
	const { stdout } = await promisify(execFile)(process.execPath, [...NODE_ARGS, agent, ...args], {
		cwd: folder,
		env: { PATH: process.env.PATH, RPC_URL: chain.url, API: served.url, PAYER_KEY: key },
	});
	return stdout;
}

it("the README shows the example of an agent as it stands", () => {
	expect(read("README.md")).toContain(read("examples/agent.ts"));
});

it("its lines about MCP stand in the two examples", () => {
	const [, section = ""] = read("README.md").split("\n## MCP\n");
	const lines = (section.match(/```ts\n([\s\S]*?)```/)?.[1] ?? "").split("\n").map((line) => line.trim());
	const examples = `${read("examples/mcp/server.ts")}${read("examples/mcp/client.ts")}`.split("\n");
	const transport = "await server.connect(payments.over(transport));";
	const known = new Set(["", "// The server.", "// The client.", transport, ...examples.map((line) => line.trim())]);
	expect(lines.length).toBeGreaterThan(10);
	expect(lines.filter((line) => !known.has(line))).toEqual([]);
});

it.each([
	["the README's", () => policyOf("README.md")],
	["that of docs/wallet.md", () => policyOf("docs/wallet.md")],
	["examples/policy.yaml", () => read("examples/policy.yaml")],
])("%s is a policy", async (_, text) => {
	const file = join(folder, "any.yaml");
	await writeFile(file, text());
	expect((await readPolicyFile(file)).currencies?.[0]?.symbol).toBe("USDC");
});

it("two processes pay on one channel, within one limit; the second closes it", async () => {
	const { escrow, token } = served;
	const policy = policyOf("README.md")
		.replace("api.example.com", new URL(served.url).host)
		// A day may end between the two.
		.replace("{ day:", "{ ever:")
		.replace("84532", String(chain.chainId))
		.replace("0x036CbD53842c5426634e7929541eC2318f3dCF7e", token);
	await writeFile(join(folder, "policy.yaml"), `${policy}escrows: ["${escrow}"]\n`);
	await chmod(join(folder, "policy.yaml"), 0o600);

	const first = await runAgent();
	expect(first.match(/quote: 42/g)).toHaveLength(10);
	expect(first.match(/pages: 7/g)).toHaveLength(1);
	expect(await readBalance(chain.client, token, escrow)).toBe(20_000n);
	expect((await stat(join(folder, "wallet"))).mode & 0o077).toBe(0);

	const second = await runAgent("--close");
	expect(second.match(/quote: 42/g)).toHaveLength(10);
	expect(second).not.toContain("pages");
	expect(second).toContain("limit: policy: host ");
	expect(second).toContain("is over its overall limit: 0.0045 of 0.006 USDC, and 0.0025 more is asked for");
	expect(second).toContain("spent: 2000n");
	const earned = 2_000n + 2_500n;
	expect(await readBalance(chain.client, token, served.payee)).toBe(earned);
	expect(await readBalance(chain.client, token, payer)).toBe(FUNDS - earned);
	expect(await readBalance(chain.client, token, escrow)).toBe(0n);
});
