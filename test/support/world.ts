/**
 * A real world for tests: a chain in a process of its own (one per test file), the contracts, payers with tokens and
 * without gas, and paid servers in this process, each on a real socket over a real LevelDB.
 *
 * @example
 * const world = await createWorld();
 * const server = await world.serve();
 * const payer = await world.payer();
 * const channel = await server.open(payer);
 * const draft = await payer.voucher(await server.challenge("/session"), channel, PRICE);
 * expect((await server.pay("/session", draft)).status).toBe(200);
 * await world.stop();
 */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Address, encodeFunctionData, type Hex, type LocalAccount } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { type LocalChain, startChain } from "../../src/cli/demo/chain.ts";
import { deployContracts } from "../../src/cli/demo/deploy.ts";
import { testUsdcAbi } from "../../src/cli/demo/generated/testUsdc.ts";
import { closeCall, settleCall } from "../../src/escrow/payeeCalls.ts";
import { type EscrowChannel, readBalance, readChannel, readTokenDomain } from "../../src/escrow/reads.ts";
import { TransactionNotSentError } from "../../src/escrow/sender.ts";
import { PaidServer, type ServerOptions } from "./paidServer.ts";
import { Payer, sendFrom, type TestChannel } from "./payer.ts";
import { RpcProxy } from "./rpcProxy.ts";

export type { Answer, Send } from "./http.ts";
export {
	Clock,
	DEPOSIT,
	type Handlers,
	type LogLine,
	PaidServer,
	PRICE,
	type Routes,
	type ServerOptions,
	type Snapshot,
	standardRoutes,
	transactionOf,
} from "./paidServer.ts";
export * from "./payer.ts";
export { RpcProxy } from "./rpcProxy.ts";

/** What a new payer has, in base units of the token. */
export const FUNDS = 1_000_000n;

export type World = Readonly<{
	chain: LocalChain;
	token: Address;
	escrow: Address;
	/** A new payer with `FUNDS` (or `funds`) of the token; `gas` if it is to send transactions of its own. */
	payer(options?: Readonly<{ funds?: bigint; gas?: boolean }>): Promise<Payer>;
	/** A new paid server: its own payee with gas, store folder, clock and RPC proxy. */
	serve(options?: Partial<ServerOptions>): Promise<PaidServer>;
	/** What `serve` starts a server with, for starts that are meant to fail. */
	serverOptions(options?: Partial<ServerOptions>): Promise<ServerOptions>;
	/** The token's balance of a holder. */
	balance(holder: Address): Promise<bigint>;
	/** A channel as the escrow has it. */
	onChain(channel: Pick<TestChannel, "channelId">): Promise<EscrowChannel | undefined>;
	/** Settles or closes on chain past the server, with the payee's key: its voucher is then public. */
	settle(account: LocalAccount, channel: TestChannel, amount: bigint, signature: Hex): Promise<Hex>;
	closeOnChain(account: LocalAccount, channel: TestChannel, amount: bigint, signature: Hex): Promise<Hex>;
	/** Stops whatever still runs and deletes the folders. */
	stop(): Promise<void>;
}>;

export async function createWorld(): Promise<World> {
	const chain = await startChain();
	const deployer = chain.account(0);
	const { client, chainId } = chain;
	const { token, escrow } = await deploy(chain);
	const { name, version } = await readTokenDomain(client, token, chainId);
	const tokenDomain = { name, version, chainId, verifyingContract: token };
	const servers: PaidServer[] = [];
	const proxies: RpcProxy[] = [];
	const folders: string[] = [];
	// One nonce sequence: whoever wants something of the deployer waits for the one before.
	let deployerTurn: Promise<unknown> = Promise.resolve();

	const giveGas = (address: Address) =>
		client.request({ method: "anvil_setBalance", params: [address, "0x8ac7230489e80000"] } as never);

	const mint = (to: Address, value: bigint) => {
		const data = encodeFunctionData({ abi: testUsdcAbi, functionName: "mint", args: [to, value] });
		const minted = deployerTurn.then(() => sendFrom({ client, chainId }, deployer, { to: token, data }));
		deployerTurn = minted;
		return minted;
	};

	const serverOptions = async (options: Partial<ServerOptions> = {}): Promise<ServerOptions> => {
		const account = options.account ?? privateKeyToAccount(generatePrivateKey());
		await giveGas(account.address);
		const rpc = options.rpc ?? (await RpcProxy.start(chain.url));
		proxies.push(rpc);
		const parent = await mkdtemp(join(tmpdir(), "sluice-test-"));
		folders.push(parent);
		return {
			account,
			rpc,
			folder: join(parent, "store"),
			chainId,
			escrow,
			token,
			...options,
			engine: { secrets: [randomBytes(32).toString("base64url")], ...options.engine },
		};
	};

	return {
		chain,
		token,
		escrow,
		async payer({ funds = FUNDS, gas = false } = {}) {
			const account = privateKeyToAccount(generatePrivateKey());
			if (gas) await giveGas(account.address);
			if (funds > 0n) await mint(account.address, funds);
			return new Payer({ account, client, chainId, escrow, token, tokenDomain });
		},
		serverOptions,
		async serve(options) {
			const server = await PaidServer.start(await serverOptions(options));
			servers.push(server);
			return server;
		},
		balance: (holder) => readBalance(client, token, holder),
		onChain: ({ channelId }) => readChannel(client, escrow, channelId),
		settle(account, { channelId }, amount, signature) {
			return sendFrom({ client, chainId }, account, settleCall(escrow, channelId, amount, signature));
		},
		closeOnChain(account, { channelId }, amount, signature) {
			return sendFrom({ client, chainId }, account, closeCall(escrow, channelId, amount, signature));
		},
		async stop() {
			await Promise.allSettled(servers.map((server) => server.stop()));
			await Promise.allSettled(proxies.map((proxy) => proxy.stop()));
			await chain.stop();
			await Promise.all(folders.map((folder) => rm(folder, { recursive: true, force: true })));
		},
	};
}

/** The product's sender may take a mined transaction for a dropped one (see faults.test.ts): then once more. */
async function deploy(chain: LocalChain, attempts = 5): ReturnType<typeof deployContracts> {
	const deployer = chain.account(0);
	try {
		return await deployContracts(chain, deployer, deployer.address, 1n);
	} catch (error) {
		if (attempts === 1 || !(error instanceof TransactionNotSentError)) throw error;
		return deploy(chain, attempts - 1);
	}
}
