/** Runs `sluice` as a shell does: a process of its own, without a terminal, over stores that real servers have made. */
import { execFile } from "node:child_process";
import { type Address, type Hex, type LocalAccount, type PublicClient, toHex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { expect } from "vitest";
import {
	type PaidServer,
	type Payer,
	PRICE,
	RpcProxy,
	type ServerOptions,
	type TestChannel,
	type World,
} from "../support/world.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

export type Ran = Readonly<{ code: number; stdout: string; stderr: string }>;

/** A command's output read as JSON; what it holds is looked at member by member. */
// biome-ignore lint/suspicious/noExplicitAny: the tests say what they expect of it.
export type RanJson = Ran & Readonly<{ value: any }>;

/** What no output may hold, whatever command writes it: keys, the RPC's key, signatures. */
const secrets = new Set<string>([RpcProxy.API_KEY]);

export function isSecret(...values: readonly string[]): void {
	for (const value of values) secrets.add(value.toLowerCase().replace(/^0x/, ""));
}

/** Runs a command. */
export async function sluice(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ran> {
	const ran = await runExposed(args, env);
	const shown = `${ran.stdout}${ran.stderr}`.toLowerCase();
	for (const secret of secrets) expect(shown).not.toContain(secret);
	return ran;
}

/** The same, for what is meant to show a secret. */
export function runExposed(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ran> {
	const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("SLUICE_")));
	const command = ["--disable-warning=ExperimentalWarning", MAIN, ...args];
	const options = { env: { ...clean, ...env }, maxBuffer: 64 * 1024 * 1024 };
	return new Promise((resolve) => {
		execFile(process.execPath, command, options, (error, stdout, stderr) => {
			resolve({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr });
		});
	});
}

/** Runs a command whose output is one JSON document. */
export async function sluiceJson(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<RanJson> {
	const ran = await sluice(args, env);
	try {
		return { ...ran, value: JSON.parse(ran.stdout) };
	} catch {
		throw new Error(`this is no JSON: ${ran.stdout}\n${ran.stderr}`);
	}
}

/** An account whose key no output may hold, and how a command is told of it. */
export type Keyed = Readonly<{ account: LocalAccount; address: Address; key: Hex; env: NodeJS.ProcessEnv }>;

export function keyed(): Keyed {
	const key = generatePrivateKey();
	isSecret(key);
	const account = privateKeyToAccount(key);
	return { key, account, address: account.address.toLowerCase() as Address, env: { SLUICE_PAYEE_KEY: key } };
}

/** A server, its payee's key, and channels that owe what they were told to. */
export type Shop = Readonly<{ server: PaidServer; payee: Keyed; channels: readonly OwingChannel[] }>;
export type OwingChannel = TestChannel & Readonly<{ owes: bigint; by: Payer; signature: Hex }>;

/** Opens a channel of a payer of its own for each amount, and takes a voucher for it. Each owes at least `PRICE`. */
export async function openShop(
	world: World,
	amounts: readonly bigint[],
	options: Partial<ServerOptions> = {},
): Promise<Shop> {
	const payee = keyed();
	const server = await world.serve({ account: payee.account, ...options });
	const channels: OwingChannel[] = [];
	for (const owes of amounts) {
		const by = await world.payer({ gas: true });
		const channel = await server.open(by);
		if (owes > 0n) {
			const answer = await server.pay("/session", await by.voucher(await server.challenge("/session"), channel, owes));
			expect(answer.status, answer.text).toBe(200);
		}
		const signature = (await server.ledger(channel))?.voucherSignature ?? "0x";
		isSecret(signature);
		channels.push({ ...channel, owes, by, signature });
	}
	expect(amounts.every((amount) => amount === 0n || amount >= PRICE)).toBe(true);
	return { server, payee, channels };
}

/** Where the money of a shop is, all of it: what it sums up to never changes. */
export async function books(world: World, { payee, channels }: Shop) {
	const [earned, escrow] = await Promise.all([world.balance(payee.address), world.balance(world.escrow)]);
	let payers = 0n;
	for (const { by } of channels) payers += await world.balance(by.address);
	return { earned, escrow, payers, sum: earned + escrow + payers };
}

export function rpc<T>(client: PublicClient, method: string, params: readonly unknown[] = []): Promise<T> {
	return client.request({ method, params } as never) as Promise<T>;
}

/** No block is made while `work` runs. */
export async function withoutMining<T>({ chain: { client } }: World, work: () => Promise<T>): Promise<T> {
	await rpc(client, "evm_setAutomine", [false]);
	try {
		return await work();
	} finally {
		await rpc(client, "evm_setAutomine", [true]);
		await rpc(client, "evm_mine");
	}
}

/** How many transactions an account has had mined. */
export function transactionsOf({ chain: { client } }: World, address: Address): Promise<number> {
	return client.getTransactionCount({ address });
}

export async function giveGas({ chain: { client } }: World, address: Address, wei = 10n ** 19n): Promise<void> {
	await rpc(client, "anvil_setBalance", [address, toHex(wei)]);
}
