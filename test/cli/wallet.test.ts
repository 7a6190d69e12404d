import { execFile, execFileSync } from "node:child_process";
import fs, { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Writable } from "node:stream";
import { type Address, getAddress, type Hex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Run } from "../../src/cli/shared/command.ts";
import { exitCodeOf } from "../../src/cli/shared/exit.ts";
import { describeFailure } from "../../src/cli/shared/failure.ts";
import { Output } from "../../src/cli/shared/output.ts";
import { openPayer } from "../../src/cli/shared/payer.ts";
import { makeKeystore } from "../../src/cli/wallet/new.ts";
import { PaymentClient, type PaymentPolicy } from "../../src/client/index.ts";
import { decryptKeystore, encryptKeystore, openWallet, readPolicyFile } from "../../src/client/node/index.ts";
import { Relay } from "../client/relay.ts";
import { createStage, type Stage } from "../client/stage.ts";
import { codeOf, QUICK, type ScriptedServer, scriptedServer } from "../client/support.ts";
import { RpcProxy } from "../support/rpcProxy.ts";
import { isSecret, sluice, sluiceJson } from "./support.ts";

const PASSPHRASE = "correct horse battery staple";
const env = { SLUICE_PASSPHRASE: PASSPHRASE };
const isWindows = process.platform === "win32";

let stage: Stage;
let proxy: RpcProxy;
let folder: string;
const servers: ScriptedServer[] = [];

beforeAll(async () => {
	isSecret(PASSPHRASE);
	stage = await createStage();
	proxy = await RpcProxy.start(stage.chain.url);
	folder = await mkdtemp(join(tmpdir(), "sluice-wallet-cli-"));
});
afterAll(async () => {
	await Promise.all(servers.map((server) => server.stop()));
	await proxy.stop();
	await stage.stop();
	await rm(folder, { recursive: true, force: true });
});

const place = (name: string = crypto.randomUUID()) => join(folder, name);

/** A file that its owner alone may read. */
async function secretFile(text: string, mode = 0o600): Promise<string> {
	const path = place();
	await writeFile(path, text);
	await chmod(path, mode);
	return path;
}

/** A server that is paid, and a wallet with a key and a policy for it. */
async function agent(options: Readonly<{ limits?: object; more?: object }> = {}) {
	const relay = new Relay(stage);
	const server = await scriptedServer(relay.script);
	servers.push(server);
	const key = generatePrivateKey();
	isSecret(key);
	const funded = await stage.payer({ gas: true });
	const wallet = place();
	await mkdir(wallet, { mode: 0o700 });
	const policy = {
		hosts: [server.host],
		escrows: [stage.escrow],
		currencies: [
			{
				symbol: "USDC",
				decimals: 6,
				tokens: [{ chainId: stage.chain.chainId, address: stage.token }],
				maxPrice: "0.001",
				maxDeposit: "0.01",
				limits: { total: { day: "0.0005" }, ...options.limits },
			},
		],
		...options.more,
	};
	await writeFile(join(wallet, "policy.json"), JSON.stringify(policy));
	return { relay, server, wallet, key, account: funded, address: funded.address.toLowerCase() as Address };
}

/** A command's run in this process, whose output nobody reads. */
function runWith(variables: NodeJS.ProcessEnv): Run {
	const out = new Output(new Writable({ write: (_chunk, _encoding, done) => done() }));
	return { format: "json", out, env: variables, say: () => undefined, clean: String, hide: () => undefined };
}

describe("sluice wallet new", () => {
	it("makes a key that nobody is shown, encrypted, in a file of its own", async () => {
		const wallet = place();
		const { code, value, stderr } = await sluiceJson(["wallet", "new", "--wallet", wallet], env);
		expect(code).toBe(0);
		const keystore = join(wallet, "keystore.json");
		const key = await decryptKeystore(await readFile(keystore, "utf8"), PASSPHRASE);
		expect(value).toEqual({ address: privateKeyToAccount(key).address.toLowerCase(), keystore, wallet });
		expect(JSON.stringify(value) + stderr).not.toContain(key.slice(2));
		if (isWindows) return;
		expect((await stat(keystore)).mode & 0o777).toBe(0o600);
		expect((await stat(wallet)).mode & 0o777).toBe(0o700);
	});

	it.skipIf(isWindows)("has the name of the keystore on disk too, and those of new folders", async () => {
		const wallet = join(place(), "deep");
		const synced: string[] = [];
		const { open } = fs;
		// biome-ignore lint/suspicious/noExplicitAny: what is opened is only looked at.
		fs.open = async (path: any, ...how: any[]) => {
			const file = await open(path, ...how);
			const { sync } = file;
			file.sync = async () => {
				synced.push(String(path));
				return sync.call(file);
			};
			return file;
		};
		syncBuiltinESMExports();
		try {
			expect(await makeKeystore(runWith(env), { wallet })).toBe(0);
		} finally {
			fs.open = open;
			syncBuiltinESMExports();
		}
		expect(synced).toEqual([join(wallet, "keystore.json"), wallet, dirname(wallet), folder]);
	});

	it("leaves a keystore alone that is there", async () => {
		const wallet = place();
		await sluiceJson(["wallet", "new", "--wallet", wallet], env);
		const before = await readFile(join(wallet, "keystore.json"), "utf8");
		const { code, value } = await sluiceJson(["wallet", "new", "--wallet", wallet], env);
		expect(code).toBe(2);
		expect(value.error).toMatchObject({ code: "USAGE", message: expect.stringContaining("was not touched") });
		expect(await readFile(join(wallet, "keystore.json"), "utf8")).toBe(before);
	});

	it("encrypts a key that is there already, with a passphrase out of a file", async () => {
		const key = generatePrivateKey();
		isSecret(key);
		const [keyFile, passphraseFile] = [await secretFile(key), await secretFile(`${PASSPHRASE}\n`)];
		const keystore = place();
		const args = ["--private-key-file", keyFile, "--passphrase-file", passphraseFile, "--keystore", keystore];
		const { code, value } = await sluiceJson(["wallet", "new", "--wallet", place(), ...args]);
		expect(code).toBe(0);
		expect(value.address).toBe(privateKeyToAccount(key).address.toLowerCase());
		expect(await decryptKeystore(await readFile(keystore, "utf8"), PASSPHRASE)).toBe(key);
	});

	it.each([
		["a short passphrase", { SLUICE_PASSPHRASE: "short" }, [], "at least 8 characters"],
		["no passphrase and no terminal", {}, [], "no terminal"],
		["a passphrase as an argument", env, ["--passphrase", PASSPHRASE], "never taken from an argument"],
		["a key as an argument", env, ["--private-key", `0x${"ab".repeat(32)}`], "never taken from an argument"],
		["a key where the name of its variable belongs", env, ["--private-key-env", "ab".repeat(32)], "take a new key"],
	])("refuses %s, and makes nothing", async (_, variables, args, message) => {
		isSecret("ab".repeat(32));
		const wallet = place();
		const { code, value } = await sluiceJson(["wallet", "new", "--wallet", wallet, ...args], variables);
		expect(code).toBe(2);
		expect(value.error.message).toContain(message);
		await expect(stat(wallet)).rejects.toMatchObject({ code: "ENOENT" });
	});

	it.skipIf(!hasTerminal())("asks twice for the passphrase on a terminal, and shows neither", async () => {
		const wallet = place();
		const shown = await onTerminal(["wallet", "new", "--wallet", wallet], [PASSPHRASE, PASSPHRASE]);
		expect(shown).toContain("the same again");
		expect(shown).not.toContain(PASSPHRASE);
		const key = await decryptKeystore(await readFile(join(wallet, "keystore.json"), "utf8"), PASSPHRASE);
		expect(shown).toContain(privateKeyToAccount(key).address);
		const other = place();
		expect(await onTerminal(["wallet", "new", "--wallet", other], [PASSPHRASE, "something else"])).toContain("differ");
		await expect(stat(other)).rejects.toMatchObject({ code: "ENOENT" });
	});
});

describe("sluice wallet", () => {
	it("shows what the wallet holds, has deposited and may still spend, beside the agent that uses it", async () => {
		const { server, wallet, account, address } = await agent();
		await writeFile(join(wallet, "keystore.json"), JSON.stringify({ ...JSON.parse(await anyKeystore()), address }));
		const store = await openWallet(wallet);
		const policy = await readPolicyFile(join(wallet, "policy.json"));
		const payer = clientOf(account, policy, store);
		for (let n = 0; n < 3; n++) expect(await (await payer.fetch(server.url)).text()).toBe("served");
		const { code, value } = await sluiceJson(["wallet", "--wallet", wallet, "--rpc", proxy.url]);
		expect(code).toBe(0);
		expect(value).toMatchObject({
			wallet,
			address,
			paused: null,
			policy: join(wallet, "policy.json"),
			chains: [{ chainId: stage.chain.chainId, tokens: [{ token: stage.token, unit: "USDC", amount: "999000" }] }],
			deposits: [{ unit: "USDC", open: 1, forgotten: 0, deposit: "1000", signed: "300", unsigned: "700" }],
			limits: [{ name: "total.day", currency: "USDC", current: "300", max: "500", text: "0.0003 of 0.0005 USDC" }],
		});
		expect(BigInt(value.chains[0].gas)).toBeGreaterThan(0n);
		const { stdout } = await sluice(["wallet", "--wallet", wallet, "--rpc", proxy.url, "--table"]);
		expect(stdout).toMatch(new RegExp(`^address +${getAddress(address)}$`, "m"));
		expect(stdout).toMatch(/^USDC +1 +0 +0\.001 +0\.0003 +0\.0007$/m);
		expect(stdout).toMatch(/^total\.day +0\.0003 of 0\.0005 USDC +\d{4}-/m);
		await payer.close();
		const closed = await sluiceJson(["wallet", "show", "--wallet", wallet]);
		expect(closed.value).toMatchObject({ deposits: [], closedChannels: 1, chains: null });
		await store.close();
	});

	it("shows a wallet without a key or a policy, and says how to get them", async () => {
		const wallet = place();
		await mkdir(wallet, { mode: 0o700 });
		const { code, value, stderr } = await sluiceJson(["wallet", "--wallet", wallet]);
		expect(code).toBe(0);
		expect(value).toMatchObject({ address: null, policy: null, deposits: [], limits: [] });
		expect(stderr).toContain("sluice wallet new");
		expect(stderr).toContain("policy.yaml");
	});

	it("says where there is no wallet, and makes none", async () => {
		const wallet = place();
		const { code, value } = await sluiceJson(["wallet", "--wallet", wallet]);
		expect(code).toBe(2);
		expect(value.error.message).toContain("sluice wallet new");
		await expect(stat(wallet)).rejects.toMatchObject({ code: "ENOENT" });
	});

	it("shows the rest where the policy is wrong or a balance can't be read, and fails", async () => {
		const { wallet, key } = await agent();
		const variables = { SLUICE_PAYER_KEY: key };
		const args = ["wallet", "--wallet", wallet, "--rpc", proxy.url];
		proxy.fails = (method) => method === "eth_getBalance";
		const unread = await sluiceJson(args, variables);
		proxy.fails = () => false;
		expect(unread.code).toBe(1);
		expect(unread.value.chains).toMatchObject([{ gas: null, tokens: [{ unit: "USDC", amount: "0" }] }]);
		await writeFile(join(wallet, "policy.json"), '{"hosts":["a.com"],"maxPrise":"1"}');
		const wrong = await sluiceJson(args, variables);
		expect(wrong.code).toBe(1);
		expect(wrong.value).toMatchObject({ policyError: expect.stringContaining("policy.json:1"), limits: [] });
		expect(wrong.value.address).toBe(privateKeyToAccount(key).address.toLowerCase());
	});

	it("shows limits and channels where no node answers, of whichever of its chains, and fails", async () => {
		const { wallet, key } = await agent({ more: { chainIds: [1, stage.chain.chainId] } });
		proxy.fails = () => true;
		const args = ["wallet", "--wallet", wallet, "--rpc", proxy.url];
		const { code, value } = await sluiceJson(args, { SLUICE_PAYER_KEY: key });
		proxy.fails = () => false;
		expect(code).toBe(1);
		expect(value).toMatchObject({ limits: [{ name: "total.day" }], paused: null });
		expect(value.chains).toContainEqual({
			chainId: stage.chain.chainId,
			gas: null,
			tokens: [{ token: stage.token, unit: "USDC", amount: null, text: null }],
		});
	});

	it("tells its address from a variable, a key file or a keystore, without a passphrase", async () => {
		const key = generatePrivateKey();
		isSecret(key);
		const address = privateKeyToAccount(key).address;
		const keystore = await secretFile(await encryptKeystore(key, PASSPHRASE));
		const wallet = place();
		const asks: readonly [readonly string[], NodeJS.ProcessEnv][] = [
			[[], { SLUICE_PAYER_KEY: key }],
			[["--private-key-env", "MINE"], { MINE: key }],
			[["--private-key-file", await secretFile(key)], {}],
			[["--keystore", keystore], { SLUICE_PAYER_KEY: generatePrivateKey() }],
		];
		for (const [args, variables] of asks) {
			const { code, stdout } = await sluice(["wallet", "address", "--wallet", wallet, "--table", ...args], variables);
			expect([code, stdout]).toEqual([0, `${address}\n`]);
		}
	});

	it.skipIf(isWindows)("refuses a key file that others may read, and says what to do", async () => {
		const file = await secretFile(generatePrivateKey(), 0o644);
		const { code, value } = await sluiceJson(["wallet", "address", "--private-key-file", file]);
		expect(code).toBe(2);
		expect(value.error).toMatchObject({ code: "SIGNER", message: expect.stringContaining("chmod 600") });
	});
});

describe("sluice wallet pause", () => {
	it("stops an agent of another process at once, until unpause, and is remembered", async () => {
		const { server, wallet, account } = await agent();
		const store = await openWallet(wallet);
		const payer = clientOf(account, await readPolicyFile(join(wallet, "policy.json")), store);
		expect((await payer.fetch(server.url)).status).toBe(200);
		const paused = await sluiceJson(["wallet", "pause", "an odd bill", "--wallet", wallet]);
		expect([paused.code, paused.value]).toEqual([0, { paused: "an odd bill", before: null }]);
		await expect(payer.fetch(server.url)).rejects.toMatchObject({ message: expect.stringContaining("an odd bill") });
		expect((await sluiceJson(["wallet", "--wallet", wallet])).value.paused).toBe("an odd bill");
		const unpaused = await sluiceJson(["wallet", "unpause", "--wallet", wallet]);
		expect([unpaused.code, unpaused.value]).toEqual([0, { paused: null, before: "an odd bill" }]);
		expect((await payer.fetch(server.url)).status).toBe(200);
		await payer.close();
		await store.close();
	});

	it("needs a reason that can be shown, and a wallet", async () => {
		const { wallet } = await agent();
		expect((await sluice(["wallet", "pause", " ", "--wallet", wallet])).code).toBe(2);
		expect((await sluice(["wallet", "pause", "--wallet", place()])).code).toBe(2);
	});
});

describe("openPayer", () => {
	const hidden: string[] = [];
	const said: string[] = [];
	const runOf = (variables: NodeJS.ProcessEnv): Run => ({
		format: "json",
		out: new Output(),
		env: variables,
		say: (text) => void said.push(text),
		clean: String,
		hide: (key) => void hidden.push(key),
	});

	it("pays by a wallet's keystore and policy, hides what is secret, and gives the channels back at the end", async () => {
		const { server, wallet, relay } = await agent();
		const key = generatePrivateKey();
		const { address } = privateKeyToAccount(key);
		await stage.send(mint(address));
		await writeFile(join(wallet, "keystore.json"), await encryptKeystore(key, PASSPHRASE));
		const passphraseFile = await secretFile(PASSPHRASE);
		const open = () => openPayer(runOf({}), { wallet, rpc: [proxy.url], passphraseFile }, { retry: QUICK });
		const first = await open();
		expect(first.address).toBe(address.toLowerCase());
		expect((await first.payer.fetch(server.url)).status).toBe(200);
		await first.close();
		expect(hidden).toEqual(expect.arrayContaining([key, PASSPHRASE]));
		expect(said.join()).not.toContain(key.slice(2));
		const second = await open();
		expect((await second.payer.fetch(server.url)).status).toBe(200);
		await second.payer.close();
		await second.close();
		expect(relay.books.size).toBe(1);
		expect(await stage.balance(relay.address)).toBe(200n);
	});

	it("says what is missing: the key, the RPC, an RPC of a chain that the policy allows", async () => {
		const { wallet, key } = await agent();
		expect(await codeOf(openPayer(runOf({}), { wallet, rpc: [proxy.url] }))).toBe("USAGE");
		const variables = { SLUICE_PAYER_KEY: key };
		expect(await codeOf(openPayer(runOf(variables), { wallet }))).toBe("USAGE");
		const elsewhere = await agent({ more: { chainIds: [1, 8_453] } });
		await expect(openPayer(runOf(variables), { wallet: elsewhere.wallet, rpc: [proxy.url] })).rejects.toThrow(
			"none of the RPC endpoints serves a chain that the policy allows: 1, 8453",
		);
		proxy.fails = () => true;
		const opening = openPayer(runOf(variables), { wallet: elsewhere.wallet, rpc: [proxy.url] });
		const silent = await opening.catch((error: unknown) => error);
		proxy.fails = () => false;
		// It may well be one of them: that is a failure, and no wrong usage.
		expect(describeFailure(silent, [proxy.url]).code).toBe("RPC");
		expect(exitCodeOf(silent)).toBe(1);
		const wrong = await secretFile(await encryptKeystore(key, PASSPHRASE));
		const other = runOf({ SLUICE_PASSPHRASE: "something else" });
		expect(await codeOf(openPayer(other, { wallet, keystore: wrong, rpc: [proxy.url] }))).toBe("KEYSTORE");
	});
});

function clientOf(
	account: Awaited<ReturnType<Stage["payer"]>>,
	policy: PaymentPolicy,
	store: Awaited<ReturnType<typeof openWallet>>,
) {
	return new PaymentClient({ account, client: stage.chain.client, policy, store, retry: QUICK });
}

let kept: Promise<string> | undefined;
/** One whose key is nobody's: making one takes a while. */
function anyKeystore(): Promise<string> {
	kept ??= encryptKeystore(generatePrivateKey(), PASSPHRASE);
	return kept;
}

function mint(to: Address) {
	const word = (hex: string) => hex.replace(/^0x/, "").padStart(64, "0");
	const data: Hex = `0x40c10f19${word(to)}${word((1_000_000).toString(16))}`;
	return { to: stage.token, data };
}

/** Whether a command can be given a terminal of its own here. */
function hasTerminal(): boolean {
	try {
		return execFileSync("script", ["--version"], { encoding: "utf8" }).includes("util-linux");
	} catch {
		return false;
	}
}

/** Runs a command on a terminal, and answers its questions one after the other. What the terminal showed. */
async function onTerminal(args: readonly string[], answers: readonly string[]): Promise<string> {
	const main = new URL("../../src/cli/main.ts", import.meta.url).pathname;
	const command = [process.execPath, "--disable-warning=ExperimentalWarning", main, ...args].map((part) => `'${part}'`);
	const { promise, resolve } = Promise.withResolvers<string>();
	const child = execFile("script", ["-qec", command.join(" "), "/dev/null"], (_, stdout) => resolve(stdout));
	let shown = "";
	let asked = 0;
	child.stdout?.on("data", (text: string) => {
		shown += text;
		// A question ends in a colon and a space.
		while (asked < answers.length && shown.split(/(?:keystore|again): /).length - 1 > asked)
			child.stdin?.write(`${answers[asked++]}\r`);
	});
	return promise;
}
