import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { harmless } from "../../src/cli/fetch/ask.ts";
import { withMaxPrice } from "../../src/cli/fetch/limits.ts";
import { type RequestOptions, typedRequest } from "../../src/cli/fetch/request.ts";
import { openWallet, readPolicyFile } from "../../src/client/node/index.ts";
import { transferCall } from "../../src/escrow/calls.ts";
import { meterOf } from "../../src/server/index.ts";
import { useWorld } from "../support/useWorld.ts";
import { FUNDS, type PaidServer, type Payer, PRICE, type Routes, sendFrom } from "../support/world.ts";
import { isSecret, type Ran, sluice, sluiceJson } from "./support.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;
const BYTES = Buffer.from([0, 255, 10, 13, 128, 1]);
const DEPOSIT = 10_000n;

/** Bodies and fields that came. */
const came: { method: string; body: string; type: string | undefined; mark: string | undefined }[] = [];
let held = Promise.withResolvers<void>();

const routes: Routes = (app, { handler }) => {
	app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
	app.removeContentTypeParser(["application/json", "text/plain"]);
	const payment = { price: PRICE, suggestedDeposit: DEPOSIT, description: "one quote" };
	const config = { payment };
	app.get("/quote", { config }, handler("/quote"));
	app.route({
		method: ["POST", "PUT"],
		url: "/echo",
		config,
		handler: async (request) => {
			const { "content-type": type, "x-mark": mark } = request.headers;
			came.push({ method: request.method, body: String(request.body), type, mark: mark?.toString() });
			return { came: came.length };
		},
	});
	app.get("/bytes", { config }, async (_request, reply) => {
		reply.type("application/octet-stream");
		return BYTES;
	});
	app.get("/missing", { config }, async (_request, reply) => reply.status(404).send({ missing: true }));
	app.get("/slow", { config }, async () => {
		await held.promise;
		return { slow: true };
	});
	app.get("/report", { config: { payment: { price: 250n, intent: "charge" as const } } }, handler("/report"));
	app.get("/dear", { config: { payment: { ...payment, price: 5_000n } } }, handler("/dear"));
	app.get("/moved", async (_request, reply) => reply.redirect("/quote", 302));
	app.get("/free", async () => ({ free: true }));
	const metered = { price: PRICE, unitType: "token", suggestedDeposit: DEPOSIT, metered: { blockUnits: 2 } };
	app.get("/tokens", { config: { payment: metered } }, (request) => {
		const meter = meterOf(request.payment);
		return (async function* () {
			for (let i = 1; i <= 5; i++) {
				await meter.charge(1);
				yield { data: `token ${i}` };
				if (i === 2) await held.promise;
			}
		})();
	});
};

const world = useWorld();
let server: PaidServer;
/** Fills the wallets. */
let bank: Payer;
let folder: string;
let wallets = 0;

beforeAll(async () => {
	bank = await world.payer({ gas: true, funds: 100n * FUNDS });
	server = await world.serve({ routes });
	folder = await mkdtemp(join(tmpdir(), "sluice-fetch-"));
});
afterAll(async () => {
	held.resolve();
	await rm(folder, { recursive: true, force: true });
});

type Currency = Readonly<Record<string, unknown>>;

/** A wallet of its own, with a payer's key and money. */
async function walletWith(currency: Currency = {}) {
	const key = generatePrivateKey();
	const { address } = privateKeyToAccount(key);
	await sendFrom(world.chain, bank.account, transferCall(world.token, address, FUNDS));
	const wallet = join(folder, `wallet-${wallets++}`);
	await mkdir(wallet, { mode: 0o700 });
	const document = {
		hosts: [new URL(server.url).host],
		escrows: [world.escrow],
		currencies: [
			{
				...{ symbol: "USDC", decimals: 6, tokens: [{ chainId: world.chain.chainId, address: world.token }] },
				...{ maxPrice: "0.001", maxDeposit: "0.01", ...currency },
			},
		],
	};
	await writeFile(join(wallet, "policy.json"), JSON.stringify(document));
	isSecret(key);
	const env = { SLUICE_WALLET: wallet, SLUICE_PAYER_KEY: key, SLUICE_RPC_URL: server.rpc.url };
	const run = async (...args: readonly string[]) => clean(await sluice(["fetch", ...args], env));
	const runJson = async (...args: readonly string[]) => clean(await sluiceJson(["fetch", ...args, "--json"], env));
	return { wallet, address, env, run, runJson, spent: async () => FUNDS - (await world.balance(address)) };
}

/** No output holds a credential, or a signature. */
function clean<R extends Ran>(ran: R): R {
	const shown = `${ran.stdout}${ran.stderr}`;
	expect(shown).not.toMatch(/0x[0-9a-f]{130}/i);
	expect(shown).not.toMatch(/authorization: ?payment/i);
	return ran;
}

const url = (path: string) => `${server.url}${path}`;

describe("sluice fetch", () => {
	it("writes the body to stdout and tells of price, payee, deposit and payment on stderr; the next one uses the channel", async () => {
		const { run, spent, wallet } = await walletWith();
		const first = await run(url("/quote"), "--session-keys", "always");
		expect(first.code, first.stderr).toBe(0);
		expect(JSON.parse(first.stdout)).toMatchObject({ served: expect.any(Number) });
		expect(first.stderr).toContain("0.0001 USDC each request, by channel");
		expect(first.stderr).toContain("0.01 USDC in a new channel");
		expect(first.stderr).toContain(`to       ${server.payee}`);
		expect(first.stderr).toContain(`paid 0.0001 USDC to ${server.payee}`);
		expect(first.stderr).toContain('"one quote", as the server says');
		const [channel] = await channelsOf(wallet);
		expect(channel?.record.sessionKey).toMatch(/^0x/);
		isSecret(channel?.record.sessionKey ?? "");
		const second = await run(url("/quote"), "--close");
		expect(second.stderr).not.toContain("new channel");
		expect(second.stderr).toContain("closed the channel: 0.0098 USDC came back");
		expect(await spent()).toBe(2n * PRICE);
	});

	it("hands bytes on as they are, also into a file, with the head before them, or in silence", async () => {
		const { run, runJson, wallet } = await walletWith();
		const { stdout } = await run(url("/bytes"), "--include", "--silent");
		expect(stdout).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
		expect(stdout).toContain("payment-receipt: ");
		const file = join(wallet, "out.bin");
		const written = await run(url("/bytes"), "-o", file, "-s");
		expect(written).toMatchObject({ code: 0, stdout: "", stderr: "" });
		expect(await readFile(file)).toEqual(BYTES);
		const { value } = await runJson(url("/bytes"));
		expect(value).toMatchObject({ bodyEncoding: "base64", body: BYTES.toString("base64") });
	});

	it("gives one JSON object, with what was paid, the receipt and the close", async () => {
		const { runJson, spent } = await walletWith();
		const { code, value } = await runJson(url("/quote"), "--close");
		expect(code).toBe(0);
		expect(value).toMatchObject({
			status: 200,
			headers: { "content-type": expect.stringContaining("json") },
			bodyEncoding: "text",
			paid: {
				intent: "session",
				amount: "100",
				text: "0.0001 USDC",
				payee: server.payee,
				deposit: "10000",
				left: "9900",
			},
			receipt: { intent: "session", spent: "100" },
			closed: { spent: "100", returned: "9900", txHash: expect.stringMatching(/^0x/) },
		});
		expect(JSON.parse(value.body)).toMatchObject({ served: expect.any(Number) });
		expect(await spent()).toBe(PRICE);
	});

	it("pays by a charge, and nothing where nothing is asked", async () => {
		const { runJson, spent } = await walletWith();
		const charged = await runJson(url("/report"));
		expect(charged.value.paid).toMatchObject({ intent: "charge", amount: "250", text: "0.00025 USDC" });
		const free = await runJson(url("/free"));
		expect(free.value).toMatchObject({ status: 200, paid: null, receipt: null });
		expect(await spent()).toBe(250n);
	});

	it("sends what it is given: data, a file, stdin, fields and methods", async () => {
		const { run, env, wallet } = await walletWith();
		came.length = 0;
		await writeFile(join(wallet, "data.txt"), "from a file\n");
		await run(url("/echo"), "-d", "a=1", "-d", "b=2", "-H", "X-Mark: one");
		await run(url("/echo"), "-X", "PUT", "-d", `@${join(wallet, "data.txt")}`, "-H", "Content-Type: text/x");
		const child = start(["fetch", url("/echo"), "-d", "-"], env, "from stdin");
		expect(await child.ended).toBe(0);
		expect(came).toEqual([
			{ method: "POST", body: "a=1&b=2", type: "application/x-www-form-urlencoded", mark: "one" },
			{ method: "PUT", body: "from a file\n", type: "text/x", mark: undefined },
			{ method: "POST", body: "from stdin", type: "application/x-www-form-urlencoded", mark: undefined },
		]);
	});

	it("follows a redirect where it is told to", async () => {
		const { runJson } = await walletWith();
		expect((await runJson(url("/moved"))).value).toMatchObject({ status: 302, paid: null });
		expect((await runJson(url("/moved"), "-L")).value).toMatchObject({ status: 200, paid: { amount: "100" } });
	});

	it("hands events on as they come, and has paid for as many", async () => {
		const { env, spent, run } = await walletWith({ maxStream: "0.005" });
		held = Promise.withResolvers();
		const child = start(["fetch", url("/tokens")], env, "");
		await child.until("token 2");
		expect(child.stdout).not.toContain("token 3");
		held.resolve();
		expect(await child.ended).toBe(0);
		expect(child.stdout.match(/data: token/g)).toHaveLength(5);
		expect(child.stdout).not.toContain("payment-");
		expect(child.stderr).toContain("at most 0.005 USDC for all of it");
		expect(child.stderr).toContain("paid 0.0005 USDC");
		await run(url("/quote"), "--close");
		expect(await spent()).toBe(6n * PRICE);
	});
});

describe("an answer that is an error", () => {
	it("is handed on like any other, or a failure with --fail", async () => {
		const { run } = await walletWith();
		expect(await run(url("/missing"))).toMatchObject({ code: 0, stdout: '{"missing":true}' });
		const failed = await run(url("/missing"), "-f");
		expect(failed).toMatchObject({ code: 22, stdout: "" });
		expect(failed.stderr).toContain("answered 404");
	});
});

describe("before it pays", () => {
	it("is refused by the policy, and then nothing was signed (I11)", async () => {
		const { run, runJson, wallet } = await walletWith();
		const before = await server.transactions();
		const dear = await run(url("/dear"));
		expect(dear.code).toBe(4);
		expect(dear.stderr).toContain("policy: a price of 0.005 USDC is over the limit of 0.001 USDC");
		const limited = await runJson(url("/quote"), "--max-price", "0.00005");
		expect(limited).toMatchObject({ code: 4, value: { error: { code: "POLICY_REFUSED" }, rule: "price" } });
		expect(await server.transactions()).toBe(before);
		expect(await kept(wallet)).toEqual({ channels: 0, receipts: 0 });
	});

	it("is only asked for above approveAbove: without a terminal that is refused, unless --yes was said", async () => {
		const { run, wallet } = await walletWith({ approveAbove: "0.0005" });
		const refused = await run(url("/quote"));
		expect(refused.code).toBe(4);
		expect(refused.stderr).toContain("there is no terminal to ask on");
		expect(await kept(wallet)).toEqual({ channels: 0, receipts: 0 });
		// A charge of less needs no leave, the deposit of a channel does.
		for (const args of [["/report"], ["/quote", "--yes"], ["/quote"]]) {
			const [path = "", ...more] = args;
			const { code, stderr } = await run(url(path), ...more);
			expect(code, stderr).toBe(0);
		}
	});

	it.each([
		["y\n", 0],
		["n\n", 4],
		["", 4],
	])("asks on a terminal, and is told %j", async (answer, code) => {
		const { env, wallet } = await walletWith();
		const child = start(["fetch", url("/quote")], env);
		await child.until("Pay? [y/N]");
		expect(child.stderr).toContain("0.0001 USDC each request");
		child.type(answer);
		expect(await child.ended, child.stderr).toBe(code);
		expect((await kept(wallet)).channels).toBe(code === 0 ? 1 : 0);
		expect(child.stdout === "").toBe(code !== 0);
	});

	it("gives up asking with --max-time, and ends", async () => {
		const { env, wallet } = await walletWith();
		const child = start(["fetch", url("/quote"), "--max-time", "8"], env);
		await child.until("Pay? [y/N]");
		expect(await child.ended, child.stderr).toBe(1);
		expect(child.stderr).toContain("not done within 8 s");
		expect(await kept(wallet)).toEqual({ channels: 0, receipts: 0 });
	});

	it("is refused while the wallet is paused, as by any rule of the policy", async () => {
		const { runJson, wallet } = await walletWith();
		const store = await openWallet(wallet);
		await store.setPaused("an odd bill");
		await store.close();
		const { code, value } = await runJson(url("/quote"));
		expect(code).toBe(4);
		expect(value).toMatchObject({
			error: { code: "PAUSED", message: expect.stringContaining("an odd bill") },
			rule: "paused",
		});
	});

	it("shows by a dry run what would be paid, to whom, how and whether; nothing is signed, no handler runs", async () => {
		const { run, runJson, wallet } = await walletWith({ approveAbove: "0.0005" });
		const calls = server.calls();
		const { code, value } = await runJson(url("/quote?api_key=1"), "--dry-run");
		expect(code).toBe(0);
		expect(value.chosen.url).toBe(url("/quote"));
		expect(value).toMatchObject({
			dryRun: true,
			status: 402,
			offers: [{ intent: "session", amount: "100", text: "0.0001 USDC", payee: server.payee, isAllowed: true }],
			chosen: { kind: "open", amount: "10000", amountText: "0.01 USDC", payee: server.payee },
			verdict: { isAllowed: true, needsApproval: true },
		});
		const dear = await runJson(url("/dear"), "--dry-run");
		expect(dear).toMatchObject({ code: 4, value: { chosen: null, verdict: { isAllowed: false, rule: "price" } } });
		const { stdout } = await run(url("/quote"), "--dry-run");
		expect(stdout).toContain("would be paid, once it is approved; nothing was signed");
		expect((await run(url("/free"), "--dry-run")).stdout).toContain("nothing to pay");
		expect(server.calls()).toBe(calls);
		expect(await kept(wallet)).toEqual({ channels: 0, receipts: 0 });
	});

	it("says in a dry run which limit is reached", async () => {
		const { runJson } = await walletWith({ limits: { total: { day: "0.0001" } } });
		const paid = await runJson(url("/quote"));
		expect(paid.code, paid.stderr).toBe(0);
		const { code, value } = await runJson(url("/quote"), "--dry-run");
		expect(code).toBe(4);
		expect(value.verdict).toMatchObject({ isAllowed: false, rule: "limit" });
		expect(value.verdict.message).toContain("over its daily limit");
	});
});

describe("a lost answer", () => {
	it("ends with --max-time, and the same --idempotency-key fetches it at no second price (I6)", async () => {
		const { run, runJson, spent } = await walletWith();
		held = Promise.withResolvers();
		await run(url("/quote"));
		const key = ["--idempotency-key", "the-same"];
		const late = await runJson(url("/slow"), "--max-time", "3", ...key);
		expect(late, late.stderr).toMatchObject({ code: 1, value: { error: { code: "MAX_TIME" } } });
		held.resolve();
		const again = await runJson(url("/slow"), ...key, "--close");
		expect(again.value).toMatchObject({ status: 200, closed: { spent: "200" } });
		expect(await spent()).toBe(2n * PRICE);
	});
});

it("shows texts of a server so that they can do nothing to a terminal", () => {
	expect(harmless("a\u001b[31m b\r\n\u202ec\u2028")).toBe("a [31m b c");
	expect(harmless("x".repeat(1_000))).toHaveLength(201);
});

describe("what is typed wrong", () => {
	it.each<readonly [string, string, RequestOptions, string]>([
		["an address without a scheme", "example.com/quote", {}, "begins with https://"],
		["a name in the address", "https://me:hunter2hunter2@example.com/", {}, "does not belong into the URL"],
		["a field that is none", "https://example.com/", { header: ["hunter2hunter2"] }, "--header is"],
		["a field that ends the head", "https://example.com/", { header: ["A: b\r\nC: hunter2"] }, "--header is"],
		["a body that can't be sent", "https://example.com/", { request: "get", data: ["x"] }, "a method that has a body"],
		["a file that is not there", "https://example.com/", { data: ["@/nowhere"] }, "can't be read (ENOENT)"],
		["a method that is none", "https://example.com/", { request: "G T" }, "--request is a method"],
		["a method that is no request", "https://example.com/", { request: "connect" }, "can't be sent"],
	])("is wrong usage, without what was typed: %s", async (_name, address, options, hint) => {
		const typed = typedRequest(address, options, Readable.from([]));
		await expect(typed).rejects.toMatchObject({ code: "USAGE", message: expect.stringContaining(hint) });
		await expect(typed).rejects.not.toThrow("hunter2");
	});

	it.each([
		["cheap", "--max-price is a number"],
		["0", "a number above 0"],
		["0.0000001", "at most 6 decimals"],
	])("is no --max-price: %s", async (amount, hint) => {
		const { wallet } = await walletWith();
		const policy = await readPolicyFile(join(wallet, "policy.json"));
		expect(() => withMaxPrice(policy, amount)).toThrow(hint);
	});

	it("is told to whoever typed it, before anything is sent", async () => {
		const { run } = await walletWith();
		const { code, stderr, stdout } = await run(url("/quote"), "-o", "/");
		expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
		expect(stderr).toContain("--output is a folder");
	});

	it("is a wallet without a policy, which pays nothing", async () => {
		const { env } = await walletWith();
		const { code, stderr } = await sluice(["fetch", url("/quote")], { ...env, SLUICE_WALLET: join(folder, "none") });
		expect(code).toBe(2);
		expect(stderr).toContain("there is no policy");
	});
});

type Started = {
	stdout: string;
	stderr: string;
	ended: Promise<number>;
	until(text: string): Promise<void>;
	type(text: string): void;
};

/** Runs a command that can be watched; without an `input`, one that takes its pipes for a terminal. */
function start(args: readonly string[], env: NodeJS.ProcessEnv, input?: string): Started {
	const terminal = input === undefined;
	const asTerminal = "process.stdin.isTTY = process.stderr.isTTY = true";
	const options = terminal ? ["--import", `data:text/javascript,${encodeURIComponent(asTerminal)}`] : [];
	const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", ...options, MAIN, ...args], {
		env: { PATH: process.env.PATH, ...env },
	});
	const started: Started = {
		stdout: "",
		stderr: "",
		ended: new Promise((resolve) => child.on("close", (code) => resolve(code ?? -1))),
		async until(text) {
			const deadline = Date.now() + 30_000;
			while (!`${started.stdout}${started.stderr}`.includes(text)) {
				if (Date.now() > deadline) throw new Error(`${text} did not come: ${started.stdout}${started.stderr}`);
				await new Promise((resolve) => setTimeout(resolve, 10));
			}
		},
		type: (text) => void child.stdin.end(text),
	};
	child.stdout.setEncoding("utf8").on("data", (text) => {
		started.stdout += text;
	});
	child.stderr.setEncoding("utf8").on("data", (text) => {
		started.stderr += text;
	});
	if (!terminal) child.stdin.end(input);
	return started;
}

async function channelsOf(wallet: string) {
	const store = await openWallet(wallet);
	try {
		return await store.list();
	} finally {
		await store.close();
	}
}

/** What a wallet keeps, once the command that used it has ended. */
async function kept(wallet: string) {
	const store = await openWallet(wallet);
	try {
		const [channels, receipts] = await Promise.all([store.list(), store.receipts()]);
		return { channels: channels.length, receipts: receipts.length };
	} finally {
		await store.close();
	}
}
