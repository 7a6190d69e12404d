import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { planDeployment } from "../../deploy/index.ts";
import type { LocalChain } from "../../src/cli/demo/chain.ts";
import { parseDeployments } from "../../src/escrow/index.ts";
import { fundedAccount, rpc, startDeployChain, transactionsOf } from "../deploy/support.ts";
import { RpcProxy } from "../support/rpcProxy.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;
const CHAIN_ID = 41_100;
const plan = planDeployment();

type Ran = Readonly<{ code: number; stdout: string; stderr: string }>;

let chain: LocalChain;
let proxy: RpcProxy;
let folder: string;
let key: `0x${string}`;
let deployer: `0x${string}`;

beforeAll(async () => {
	chain = await startDeployChain(CHAIN_ID);
	proxy = await RpcProxy.start(chain.url);
	folder = await mkdtemp(join(tmpdir(), "sluice-deploy-"));
	const funded = await fundedAccount(chain.client);
	key = funded.key;
	deployer = funded.account.address;
});
afterAll(async () => {
	await proxy?.stop();
	await chain?.stop();
	await rm(folder, { recursive: true, force: true });
});

/** Runs `sluice deploy` as a shell does, in a folder of its own. No output may hold a key or the RPC's. */
async function sluice(
	args: readonly string[],
	{ env = {}, cwd = folder }: Readonly<{ env?: NodeJS.ProcessEnv; cwd?: string }> = {},
): Promise<Ran> {
	const { SLUICE_DEPLOYER_KEY: _, SLUICE_RPC_URL: __, ...clean } = process.env;
	const command = ["--disable-warning=ExperimentalWarning", MAIN, "deploy", ...args];
	let ran: Ran;
	try {
		const output = await promisify(execFile)(process.execPath, command, { cwd, env: { ...clean, ...env } });
		ran = { code: 0, ...output };
	} catch (error) {
		ran = error as Ran;
	}
	const shown = `${ran.stdout}${ran.stderr}`.toLowerCase();
	for (const secret of [key.slice(2), RpcProxy.API_KEY, ...secrets]) expect(shown).not.toContain(secret.toLowerCase());
	return ran;
}

/** What else no output may hold. */
const secrets: string[] = [];

const withKey = () => ({ env: { SLUICE_DEPLOYER_KEY: key } });
const lastLine = ({ stdout }: Ran) => JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "") as Record<string, unknown>;

/** Everything after happens in order: a chain on which nothing was deployed, then one on which it was. */
describe("sluice deploy", () => {
	it("rehearses without a key, sends and writes nothing, and says what it will cost", async () => {
		const before = await transactionsOf(chain.client);
		const ran = await sluice(["--rpc", proxy.url, "--dry-run", "--json"]);
		expect(ran.code, ran.stderr).toBe(0);
		const report = lastLine(ran);
		expect(report).toMatchObject({
			outcome: "dry-run",
			chainId: CHAIN_ID,
			escrow: plan.escrow,
			permit2: plan.permit2,
			closeGracePeriodSeconds: 900,
			salt: plan.salt,
			warnings: [],
		});
		const { gas, max, expected } = report.cost as Record<string, string>;
		for (const amount of [gas, max, expected]) expect(amount).toMatch(/^[1-9]\d*$/);
		expect(await transactionsOf(chain.client)).toBe(before);
		expect(proxy.calls("eth_sendRawTransaction")).toBe(0);
		expect(await readdir(folder)).toEqual([]);
		expect(ran.stderr).toContain(new URL(proxy.url).origin);
	});

	it("shows people a table, and what the deployer lacks", async () => {
		const poor = privateKeyToAccount(generatePrivateKey()).address;
		const { code, stdout, stderr } = await sluice(["--rpc", chain.url, "--dry-run", "--from", poor]);
		expect(code, stderr).toBe(0);
		expect(stdout).toMatch(new RegExp(`^escrow +${plan.escrow}$`, "m"));
		expect(stdout).toMatch(/^expectedCost +0\.\d+ of the native coin$/m);
		expect(stderr).toMatch(/warning: .* has 0 wei and needs up to \d+ wei/);
	});

	it("takes the RPC from SLUICE_RPC_URL, even one with a % that stands for itself", async () => {
		const env = { SLUICE_RPC_URL: `${proxy.url}%zz` };
		const ran = await sluice(["--dry-run", "--json"], { env });
		expect(ran.code, ran.stderr).toBe(0);
		expect(lastLine(ran)).toMatchObject({ outcome: "dry-run", chainId: CHAIN_ID });
	});

	test("what can't be recorded is not deployed", async () => {
		const before = await transactionsOf(chain.client);
		const damaged = join(folder, "damaged.json");
		await writeFile(damaged, "{ not json");
		const ran = await sluice(["--rpc", chain.url, "--record", damaged, "--json"], withKey());
		expect(ran.code).toBe(1);
		expect(lastLine(ran)).toMatchObject({ outcome: "failed", error: { code: "DEPLOYMENTS" } });
		expect(await readFile(damaged, "utf8")).toBe("{ not json");

		const conflicting = join(folder, "conflicting.json");
		const other = { escrow: `0x${"e1".repeat(20)}`, permit2: plan.permit2, closeGracePeriodSeconds: 900 };
		await writeFile(conflicting, JSON.stringify({ [CHAIN_ID]: other }));
		const refused = await sluice(["--rpc", chain.url, "--record", conflicting], withKey());
		expect(refused.code).toBe(1);
		expect(refused.stderr).toMatch(/has another deployment for chain 41100 .*--force/);

		const files = await readdir(folder);
		const rehearsed = await sluice(["--rpc", chain.url, "--record", conflicting, "--dry-run", "--json"], withKey());
		expect(rehearsed.code, rehearsed.stderr).toBe(0);
		expect(lastLine(rehearsed)).toMatchObject({
			outcome: "dry-run",
			escrow: plan.escrow,
			cost: { gas: expect.stringMatching(/^[1-9]/) },
			warnings: [expect.stringContaining("has another deployment for chain 41100")],
		});
		expect(await readdir(folder)).toEqual(files);
		expect(await transactionsOf(chain.client)).toBe(before);
	});

	it("is refused on another chain than the one that was meant", async () => {
		const { code, stderr } = await sluice(["--rpc", chain.url, "--chain-id", "8453"], withKey());
		expect([code, stderr]).toEqual([1, expect.stringContaining("the RPC serves chain 41100, not 8453")]);
	});

	it("does not wait for ever: it says that it may be run again, and then finds what it has sent", async () => {
		await rpc(chain.client, "evm_setAutomine", [false]);
		const args = ["--rpc", chain.url, "--grace-period", "601", "--timeout", "1", "--json", "--record", "slow.json"];
		const slow = await sluice(args, withKey());
		expect(slow.code, slow.stderr).toBe(3);
		expect(lastLine(slow)).toMatchObject({
			outcome: "failed",
			error: { code: "DEPLOYMENT_PENDING" },
			transactionHash: expect.stringMatching(/^0x[0-9a-f]{64}$/),
		});
		expect(await readdir(folder)).not.toContain("slow.json");
		await rpc(chain.client, "evm_setAutomine", [true]);
		await rpc(chain.client, "evm_mine");
		const again = await sluice(args, withKey());
		expect(again.code, again.stderr).toBe(0);
		expect(lastLine(again)).toMatchObject({ outcome: "already-there", closeGracePeriodSeconds: 601 });
		expect(await chain.client.getTransactionCount({ address: deployer })).toBe(1);
	});

	it("deploys, verifies and records, with a key from a variable", async () => {
		const ran = await sluice(["--rpc", proxy.url, "--chain-id", String(CHAIN_ID), "--json"], withKey());
		expect(ran.code, ran.stderr).toBe(0);
		const report = lastLine(ran);
		expect(report).toMatchObject({
			outcome: "deployed",
			escrow: plan.escrow,
			recorded: true,
			record: "deployments.json",
		});
		for (const amount of [report.gasUsed, report.fee]) expect(amount).toMatch(/^[1-9]\d*$/);
		const file = parseDeployments(JSON.parse(await readFile(join(folder, "deployments.json"), "utf8")));
		expect(file).toEqual({
			[CHAIN_ID]: {
				escrow: plan.escrow,
				permit2: plan.permit2,
				closeGracePeriodSeconds: 900,
				blockNumber: report.blockNumber,
				transactionHash: report.transactionHash,
			},
		});
		expect(ran.stderr).toMatch(/gas .* expected, .* at most/);
	});

	it("run again, by another deployer with a key from a file, finds it there and sends nothing", async () => {
		const before = await transactionsOf(chain.client);
		const other = await fundedAccount(chain.client);
		secrets.push(other.key.slice(2));
		const file = join(folder, "key");
		await writeFile(file, `${other.key.slice(2)}\n`);
		const text = await readFile(join(folder, "deployments.json"), "utf8");
		const ran = await sluice(["--rpc", chain.url, "--private-key-file", file, "--json"]);
		expect(ran.code, ran.stderr).toBe(0);
		expect(lastLine(ran)).toMatchObject({ outcome: "already-there", escrow: plan.escrow, recorded: false });
		expect(await transactionsOf(chain.client)).toBe(before);
		expect(await readFile(join(folder, "deployments.json"), "utf8")).toBe(text);
	});

	it("that could not record what it deployed says where it is, by which transaction", async () => {
		const file = join(folder, "late.json");
		const other = { escrow: `0x${"e1".repeat(20)}`, permit2: plan.permit2, closeGracePeriodSeconds: 900 };
		proxy.fails = (method) => {
			if (method === "eth_sendRawTransaction") writeFileSync(file, JSON.stringify({ [CHAIN_ID]: other }));
			return false;
		};
		const args = ["--rpc", proxy.url, "--grace-period", "602", "--record", file, "--json"];
		const ran = await sluice(args, withKey());
		proxy.up();
		expect(ran.code, ran.stderr).toBe(1);
		const { error, transactionHash, blockNumber } = lastLine(ran);
		expect(error).toMatchObject({
			code: "NOT_RECORDED",
			message: expect.stringMatching(/^deployed, but not recorded/),
		});
		const receipt = await chain.client.getTransactionReceipt({ hash: transactionHash as `0x${string}` });
		expect(blockNumber).toBe(Number(receipt.blockNumber));
		expect(JSON.parse(await readFile(file, "utf8"))).toEqual({ [CHAIN_ID]: other });
	});

	it("goes by a WebSocket, with an account that the node signs for, and ends", async () => {
		const args = ["--rpc", chain.url.replace("http:", "ws:"), "--grace-period", "603", "--record", "ws.json", "--json"];
		const { address } = chain.account(3);
		const ran = await sluice([...args, "--unlocked", address]);
		expect(ran.code, ran.stderr).toBe(0);
		const { outcome, transactionHash } = lastLine(ran);
		expect(outcome).toBe("deployed");
		const { from } = await chain.client.getTransaction({ hash: transactionHash as `0x${string}` });
		expect(from).toBe(address.toLowerCase());
	});

	it("keeps the report whole when its words are in the RPC's URL", async () => {
		const args = ["--rpc", `${proxy.url}?a=codeHash&b=closeGracePeriodSeconds&c=already-there&d=warnings`, "--json"];
		const ran = await sluice([...args, "--record", "closeGracePeriodSeconds.json", "--dry-run"]);
		expect(ran.code, ran.stderr).toBe(0);
		const codeHash = expect.stringMatching(/^0x[0-9a-f]{64}$/);
		const whole = { outcome: "already-there", closeGracePeriodSeconds: 900, codeHash, warnings: [] };
		expect(lastLine(ran)).toMatchObject({ ...whole, record: "[redacted].json" });
	});

	it("inside the checkout keeps the record that server and client read", async () => {
		const own = new URL("../../deploy/deployments.json", import.meta.url).pathname;
		const text = await readFile(own, "utf8");
		const ran = await sluice(["--rpc", chain.url, "--dry-run", "--json"], { cwd: join(own, "../../test") });
		expect(ran.code, ran.stderr).toBe(0);
		expect(lastLine(ran)).toMatchObject({ outcome: "already-there", record: own, recorded: false });
		expect(await readFile(own, "utf8")).toBe(text);
	});

	it("verifies an address alone, and names what differs", async () => {
		const good = await sluice(["--rpc", chain.url, "--verify", plan.escrow, "--json"]);
		expect(good.code, good.stderr).toBe(0);
		expect(lastLine(good)).toMatchObject({ outcome: "verified", escrow: plan.escrow, codeHash: expect.any(String) });
		const other = planDeployment({ closeGracePeriodSeconds: 601 }).escrow;
		const bad = await sluice(["--rpc", chain.url, "--verify", other, "--json"]);
		expect(bad.code).toBe(1);
		expect(lastLine(bad)).toMatchObject({ error: { code: "DEPLOYMENT_MISMATCH" } });
		expect(bad.stderr).toContain("CLOSE_GRACE_PERIOD is 601, not 900");
		expect((await sluice(["--rpc", chain.url, "--verify", other, "--grace-period", "601"])).code).toBe(0);
		const elsewhere = await sluice(["--rpc", chain.url, "--verify", plan.escrow, "--chain-id", "8453", "--json"]);
		expect([elsewhere.code, lastLine(elsewhere)]).toMatchObject([1, { error: { code: "CHAIN_MISMATCH" } }]);
		const nothing = await sluice(["--rpc", chain.url, "--verify", deployer]);
		expect([nothing.code, nothing.stderr]).toEqual([1, expect.stringContaining("its code is missing")]);
	});
});

test("sluice deploy installs the factory where it is missing, if it is told to", async () => {
	const bare = await startDeployChain(41_101, { permit2: false, args: ["--disable-default-create2-deployer"] });
	try {
		const funded = await fundedAccount(bare.client);
		secrets.push(funded.key.slice(2));
		const env = { SLUICE_DEPLOYER_KEY: funded.key };
		const args = ["--rpc", bare.url, "--allow-missing-permit2", "--json"];
		const refused = await sluice(args, { env });
		expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("--deploy-factory")]);
		const ran = await sluice([...args, "--deploy-factory"], { env });
		expect(ran.code, ran.stderr).toBe(0);
		expect(lastLine(ran)).toMatchObject({ outcome: "deployed", escrow: plan.escrow, warnings: [expect.any(String)] });
	} finally {
		await bare.stop();
	}
});

test("sluice deploy warns before a development chain gets into this checkout's record", async () => {
	const own = new URL("../../deploy/deployments.json", import.meta.url).pathname;
	const text = await readFile(own, "utf8");
	const local = await startDeployChain(31_337);
	try {
		// Nobody has funded it: it ends before anything is sent or written.
		const poor = generatePrivateKey();
		secrets.push(poor.slice(2));
		const env = { SLUICE_DEPLOYER_KEY: poor };
		const ran = await sluice(["--rpc", local.url, "--json"], { env, cwd: join(own, "..") });
		expect([ran.code, lastLine(ran)]).toMatchObject([1, { error: { code: "INSUFFICIENT_FUNDS" } }]);
		expect(ran.stderr).toMatch(
			/warning: chain 31337 is a development chain: do not commit its entry in deployments.json/,
		);
		const elsewhere = await sluice(["--rpc", local.url], { env });
		expect(elsewhere.stderr).not.toContain("development chain");
		expect(await readFile(own, "utf8")).toBe(text);
	} finally {
		await local.stop();
	}
});

describe("sluice deploy tells neither key nor RPC", () => {
	it("when the RPC is down, or answers nonsense", async () => {
		proxy.down();
		const down = await sluice(["--rpc", proxy.url, "--json"], withKey());
		proxy.up();
		expect(down.code).toBe(1);
		expect(lastLine(down)).toMatchObject({ error: { code: "RPC", message: expect.stringContaining("check --rpc") } });
		proxy.lies = (method) => (method === "eth_chainId" ? { result: `no chain at ${proxy.url} for ${key}` } : undefined);
		const odd = await sluice(["--rpc", proxy.url], withKey());
		proxy.up();
		expect([odd.code, odd.stderr]).toEqual([1, expect.stringContaining("[redacted]")]);
		proxy.lies = (method) => (method === "eth_sendRawTransaction" ? { result: `sent at ${proxy.url}` } : undefined);
		const args = ["--rpc", proxy.url, "--grace-period", "604", "--timeout", "1", "--record", "odd.json", "--json"];
		const sent = await sluice(args, withKey());
		proxy.up();
		expect([sent.code, lastLine(sent)]).toMatchObject([3, { error: { code: "DEPLOYMENT_PENDING" } }]);
		const closed = await sluice(["--rpc", `ws://127.0.0.1:1/v3/${RpcProxy.API_KEY}`, "--json"], withKey());
		expect([closed.code, lastLine(closed)]).toMatchObject([1, { error: { code: "RPC" } }]);
	});

	it("when a transaction is refused", async () => {
		proxy.fails = (method) => method === "eth_sendRawTransaction";
		const ran = await sluice(["--rpc", proxy.url, "--grace-period", "700", "--record", "refused.json"], withKey());
		proxy.up();
		expect(ran.code).toBe(1);
		expect(ran.stderr).toMatch(/the RPC at http:\/\/127\.0\.0\.1:\d+ failed: .* run the same command again/);
	});

	it.each([
		["as an option", () => [`--private-key=${key}`]],
		["as an option in two words", () => ["--private-key", key]],
		["as a variable's name", () => ["--private-key-env", key]],
		["as a variable's name without 0x", () => ["--private-key-env", key.slice(2)]],
		["as a file's name", () => ["--private-key-file", key]],
		["as an address", () => ["--from", key]],
		["as an argument", () => [key]],
		["as an option nobody knows", () => [`--secret=${key}`]],
	])("when the key is given in a wrong place: %s", async (_title, args) => {
		const { code, stderr } = await sluice(["--rpc", chain.url, ...args()]);
		expect(code).toBe(2);
		expect(stderr).not.toBe("");
	});

	it.each([
		["with something else in it", "hello"],
		["with a number that is no key", "0".repeat(64)],
		["with one digit too few", "a".repeat(63)],
	])("when the variable is one %s", async (_title, value) => {
		secrets.push(value);
		const { code, stderr } = await sluice(["--rpc", chain.url], { env: { SLUICE_DEPLOYER_KEY: value } });
		secrets.pop();
		expect(code).toBe(2);
		expect(stderr).toMatch(/SLUICE_DEPLOYER_KEY holds/);
	});
});

describe("sluice deploy refuses wrong usage with exit code 2 and says what to change", () => {
	const rpcUrl = () => ["--rpc", chain.url];
	it.each([
		["no RPC", () => [], /give --rpc <url>, or set SLUICE_RPC_URL/],
		["an RPC without a scheme", () => ["--rpc", `node.example.com/v2/${RpcProxy.API_KEY}`], /begins with http/],
		["an RPC of another scheme", () => ["--rpc", `ftp://node.example.com/${RpcProxy.API_KEY}`], /begins with http/],
		["no key", rpcUrl, /put it in the variable SLUICE_DEPLOYER_KEY/],
		["a variable that is not set", () => [...rpcUrl(), "--private-key-env", "NOT_SET_HERE"], /NOT_SET_HERE is not set/],
		["a file that is not there", () => [...rpcUrl(), "--private-key-file", "nowhere"], /can't be read \(ENOENT\)/],
		["too short a grace period", () => [...rpcUrl(), "--dry-run", "--grace-period", "599"], /at least 600/],
		[
			"too long a grace period",
			() => [...rpcUrl(), "--dry-run", "--grace-period", "3600000"],
			/were milliseconds given/,
		],
		[
			"the zero address as Permit2",
			() => [...rpcUrl(), "--dry-run", "--allow-missing-permit2", "--permit2", `0x${"0".repeat(40)}`],
			/zero address is never Permit2/,
		],
		[
			"two accounts",
			() => [...rpcUrl(), "--unlocked", plan.escrow, "--private-key-file", "key"],
			/cannot be used with/,
		],
		["a grace period of words", () => [...rpcUrl(), "--grace-period", "1h"], /whole number of seconds/],
		["an address that is none", () => [...rpcUrl(), "--permit2", "0x12"], /40 hex digits/],
		["a chain id that is none", () => [...rpcUrl(), "--chain-id", "base"], /chain id is a whole number/],
		["--from without --dry-run", () => [...rpcUrl(), "--from", plan.escrow], /--from is for --dry-run/],
		["--verify with more", () => [...rpcUrl(), "--verify", plan.escrow, "--dry-run"], /--verify only reads/],
		["an option nobody knows", () => [...rpcUrl(), "--nope"], /--help/],
	] as const)("%s", async (_title, args, message) => {
		const { code, stderr } = await sluice(args());
		expect(stderr).toMatch(message);
		expect(code).toBe(2);
	});

	it.each([
		["an option nobody knows", () => [...rpcUrl(), "--nope"]],
		["a value that is none", () => [...rpcUrl(), "--chain-id", "base"]],
		["no RPC", () => []],
		["a key as an argument", () => [...rpcUrl(), key]],
		["too short a grace period", () => [...rpcUrl(), "--dry-run", "--grace-period", "599"]],
	] as const)("and tells programs, with --json: %s", async (_title, args) => {
		const ran = await sluice([...args(), "--json"]);
		expect(ran.code).toBe(2);
		expect(lastLine(ran)).toEqual({
			outcome: "failed",
			error: {
				code: expect.stringMatching(/^(USAGE|ESCROW_ARGUMENTS)$/),
				message: expect.stringMatching(/^(?!error).{10}/),
			},
		});
	});

	it("has help, which names variables, files and exit codes", async () => {
		const { code, stdout } = await sluice(["--help"]);
		expect(code).toBe(0);
		for (const part of ["Usage: sluice deploy", "SLUICE_DEPLOYER_KEY", "deployments.json", "Exit codes", "--dry-run"]) {
			expect(stdout).toContain(part);
		}
		expect(stdout).not.toContain("--private-key [key]");
	});
});
