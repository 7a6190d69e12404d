/** The README's two programs, each run in a process of its own against a chain. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
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

/** Runs both: what the client prints, and who has the money on the chain when it has closed. @returns what it has printed */
export async function expectPaid(
	chain: LocalChain,
	{ server, client, folder, nodeArgs = [] }: Programs,
	printed = PRINTED,
): Promise<string> {
	const args = ["--disable-warning=ExperimentalWarning", ...nodeArgs];
	const payee = chain.account(1);
	const payerKey = generatePrivateKey();
	const payer = privateKeyToAccount(payerKey).address;
	const { token, escrow } = await deployContracts(chain, chain.account(0), payer, FUNDS);
	const shared = {
		PATH: process.env.PATH,
		RPC_URL: chain.url,
		CHAIN_ID: String(chain.chainId),
		ESCROW: escrow,
		TOKEN: token,
	};
	const serving = spawn(process.execPath, [...args, server], {
		cwd: folder,
		env: { ...shared, PAYEE_KEY: keyOf(payee), SECRET: "an example of a secret, 32 bytes long", PORT: "0" },
		stdio: ["ignore", "pipe", "inherit"],
	});
	try {
		const url = await firstLine(serving);
		const { stdout } = await promisify(execFile)(process.execPath, [...args, client], {
			cwd: folder,
			env: { ...shared, PAYER_KEY: payerKey, API: url.replace("[::1]", "127.0.0.1") },
		});
		expect(stdout.match(printed.quote)).toHaveLength(QUOTES.count);
		expect(stdout.match(printed.report)).toHaveLength(REPORT.count);
		expect(stdout).toContain(`spent: ${SPENT}n`);
		const earned = SPENT + REPORT.price;
		expect(await readBalance(chain.client, token, payee.address)).toBe(earned);
		expect(await readBalance(chain.client, token, payer)).toBe(FUNDS - earned);
		expect(await readBalance(chain.client, token, escrow)).toBe(0n);
		return stdout;
	} finally {
		serving.kill("SIGKILL");
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
