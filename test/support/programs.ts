/** The README's two programs, each run in a process of its own against a chain. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import type { Address } from "viem";
import { generatePrivateKey, type HDAccount, privateKeyToAccount } from "viem/accounts";
import { expect } from "vitest";
import type { LocalChain } from "../../src/cli/demo/chain.ts";
import { deployContracts } from "../../src/cli/demo/deploy.ts";
import { readBalance } from "../../src/escrow/index.ts";

const FUNDS = 30_000n;
/** What the client buys: ten quotes over one channel, and one report. */
const QUOTES = { count: 10, price: 100n };
const REPORT = { count: 1, price: 2_500n };
const SPENT = BigInt(QUOTES.count) * QUOTES.price;

export type Programs = Readonly<{
	/** Paths of the two. */
	server: string;
	client: string;
	/** Where both run; the server keeps its store there. */
	folder: string;
	nodeArgs?: readonly string[];
}>;

/** What the client prints for each thing that it has bought. */
const PRINTED = { quote: /quote: 42/g, report: /pages: 7/g };

/** A program that serves, and where its money is. */
export type ServedPrograms = Readonly<{
	url: string;
	token: Address;
	escrow: Address;
	payee: Address;
	/** What a client's program is told besides its key and `API`. */
	env: Readonly<Record<string, string | undefined>>;
	stop(): void;
}>;

/** Runs a server's program on contracts of its own. */
export async function serve(
	chain: LocalChain,
	{
		server,
		folder,
		nodeArgs = [],
		payer,
		funds = FUNDS,
	}: Omit<Programs, "client"> & { payer: Address; funds?: bigint },
): Promise<ServedPrograms> {
	const payee = chain.account(1);
	const { token, escrow } = await deployContracts(chain, chain.account(0), payer, funds);
	const env = {
		PATH: process.env.PATH,
		RPC_URL: chain.url,
		CHAIN_ID: String(chain.chainId),
		ESCROW: escrow,
		TOKEN: token,
	};
	const serving = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", ...nodeArgs, server], {
		cwd: folder,
		env: { ...env, PAYEE_KEY: keyOf(payee), SECRET: "an example of a secret, 32 bytes long", PORT: "0" },
		stdio: ["ignore", "pipe", "inherit"],
	});
	const stop = () => void serving.kill("SIGKILL");
	try {
		const url = (await firstLine(serving)).replace("[::1]", "127.0.0.1");
		return { url, token, escrow, payee: payee.address, env, stop };
	} catch (error) {
		stop();
		throw error;
	}
}

/** Runs both: what the client prints, and who has the money on the chain when it has closed. @returns what it has printed */
export async function expectPaid(
	chain: LocalChain,
	{ client, ...programs }: Programs,
	printed = PRINTED,
): Promise<string> {
	const { folder, nodeArgs = [] } = programs;
	const payerKey = generatePrivateKey();
	const payer = privateKeyToAccount(payerKey).address;
	const { url, token, escrow, payee, env, stop } = await serve(chain, { ...programs, payer });
	try {
		const args = ["--disable-warning=ExperimentalWarning", ...nodeArgs, client];
		const { stdout } = await promisify(execFile)(process.execPath, args, {
			cwd: folder,
			env: { ...env, PAYER_KEY: payerKey, API: url },
		});
		expect(stdout.match(printed.quote)).toHaveLength(QUOTES.count);
		expect(stdout.match(printed.report)).toHaveLength(REPORT.count);
		expect(stdout).toContain(`spent: ${SPENT}n`);
		const earned = SPENT + REPORT.price;
		expect(await readBalance(chain.client, token, payee)).toBe(earned);
		expect(await readBalance(chain.client, token, payer)).toBe(FUNDS - earned);
		expect(await readBalance(chain.client, token, escrow)).toBe(0n);
		return stdout;
	} finally {
		stop();
	}
}

/** The block of code under a heading of a page. */
export function codeUnder(page: string, heading: string): string {
	const [, section] = page.split(`\n## ${heading}\n`);
	const code = section?.match(/```(?:ts|sh)\n([\s\S]*?)```/)?.[1];
	if (code === undefined) throw new Error(`no code under the heading "${heading}"`);
	return code;
}

async function firstLine(child: ChildProcess): Promise<string> {
	if (child.stdout === null) throw new Error("the server has no output");
	const ended = once(child, "exit").then(([code]) => {
		throw new Error(`the server ended with code ${code} before it listened`);
	});
	ended.catch(() => undefined);
	const [line] = (await Promise.race([once(createInterface({ input: child.stdout }), "line"), ended])) as [string];
	return line;
}

/** A development chain's accounts come from words, so their keys can be had. */
export function keyOf(account: HDAccount): string {
	const key = account.getHdKey().privateKey;
	if (!key) throw new Error("not a development account");
	return `0x${Buffer.from(key).toString("hex")}`;
}
