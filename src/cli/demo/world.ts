import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import { type Address, encodeFunctionData, type Hex, type LocalAccount, type PublicClient } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { PaymentClient, type PaymentClientOptions } from "../../client/index.ts";
import { keyAccount } from "../../client/node/index.ts";
import { approveCall, type Call } from "../../escrow/calls.ts";
import { type EscrowChannel, readBalance, readChannel } from "../../escrow/reads.ts";
import { TransactionSender } from "../../escrow/sender.ts";
import { LevelStore } from "../../server/index.ts";
import { type LocalChain, startChain } from "./chain.ts";
import { fundGas, rpc } from "./chainControl.ts";
import { type ChainRecords, chainRecords } from "./chainRecords.ts";
import { deployContracts } from "./deploy.ts";
import { testUsdcAbi } from "./generated/testUsdc.ts";
import { type PaidServer, startServer } from "./server.ts";
import type { ServerSettings, ServerVariation } from "./serverSettings.ts";
import { until } from "./until.ts";

/** What one request costs, in base units. */
export const PRICE = 100n;

/** Everything a scenario plays on: a chain with token and escrow, a payer who has tokens but no gas, a paid server. */
export type World = ChainRecords &
	Readonly<{
		chain: LocalChain;
		token: Address;
		escrow: Address;
		payer: LocalAccount;
		/** For a process of the payer's own. */
		payerKey: Hex;
		payee: LocalAccount;
		/** Everyone who was given tokens, `payer` first. */
		payers: readonly LocalAccount[];
		/** What each payer had before it paid anything, and what a channel is opened with. */
		funds: bigint;
		deposit: bigint;
		/** The parts of the charge at `/splits` that are not the payee's. */
		splits: readonly Readonly<{ recipient: Address; amount: bigint; memo: string }>[];
		storePath: string;
		server: PaidServer;
		/** What the server is started with. */
		settings: ServerSettings;
		/** A paying `fetch` for the payer, or for another account. */
		agent(options?: Partial<PaymentClientOptions>): PaymentClient;
		/** More payers with `funds` each; with `gas` if they are to send transactions of their own. */
		addPayers(count: number, options?: Readonly<{ gas?: boolean }>): Promise<readonly LocalAccount[]>;
		/** The token's balance of a holder, from the chain. */
		balance(holder: Address): Promise<bigint>;
		/** A channel as the escrow has it. */
		channelOnChain(channelId: Hex): Promise<EscrowChannel>;
		/** A transaction of somebody's own; resolves when it is mined. */
		send(account: LocalAccount, call: Call): Promise<void>;
		/** The payer lets `spender` take up to `value` of its tokens, by a transaction of its own. Gives it the gas for that. */
		approve(spender: Address, value: bigint): Promise<void>;
		/** Stops the server unless it is gone, and starts it: same folder, port and secrets, and what was changed before. */
		restartServer(changed?: ServerVariation & Partial<Pick<ServerSettings, "rpcUrl">>): Promise<PaidServer>;
		/** Stops the server, deletes its store, and starts it again with an empty one. */
		loseStore(): Promise<PaidServer>;
		/** Stops the server, which lets go of the store, and opens the store. */
		openStore(): Promise<LevelStore>;
		stop(): Promise<void>;
	}>;

/**
 * Sets a world up.
 *
 * @param requests how many requests of one channel the deposit pays twice over
 * @param variation what the server is started with besides what every scenario needs
 */
export async function createWorld(
	storePath: string,
	requests: number,
	variation: ServerVariation = {},
): Promise<World> {
	const chain = await startChain();
	try {
		return await furnish(chain, storePath, requests, variation);
	} catch (error) {
		await chain.stop();
		throw error;
	}
}

async function furnish(
	chain: LocalChain,
	storePath: string,
	requests: number,
	variation: ServerVariation,
): Promise<World> {
	const { client, chainId } = chain;
	const payeeKey = generatePrivateKey();
	const payee = privateKeyToAccount(payeeKey);
	const payerKey = generatePrivateKey();
	const payer = keyAccount(payerKey);
	const payers: LocalAccount[] = [payer];
	const deposit = 2n * PRICE * BigInt(requests);
	const funds = 2n * deposit;
	const splits = [
		{ recipient: freshAddress(), amount: PRICE / 20n, memo: "platform fee" },
		{ recipient: freshAddress(), amount: PRICE / 50n, memo: "referral" },
	];
	const { token, escrow } = await deployContracts(chain, chain.account(0), payer.address, funds);
	await fundGas(client, payee.address);
	let settings: ServerSettings = {
		rpcUrl: chain.url,
		chainId,
		escrow,
		token,
		privateKey: payeeKey,
		secret: randomBytes(32).toString("base64url"),
		folder: storePath,
		price: String(PRICE),
		smallDeposit: String(smallDeposit(requests)),
		splits: splits.map(({ amount, ...rest }) => ({ ...rest, amount: String(amount) })),
		suggestedDeposit: String(deposit),
		port: 0,
		...variation,
	};
	const records = chainRecords(client, escrow, (await client.getBlockNumber()) + 1n);
	let server = await startServer(settings);
	const { host, port } = new URL(server.url);
	settings = { ...settings, port: Number(port) };
	const policy = {
		chainIds: [chainId],
		tokens: [token],
		escrows: [escrow],
		hosts: [host],
		maxDeposit: deposit,
		maxPrice: PRICE,
		splitRecipients: splits.map(({ recipient }) => recipient),
	};
	const send = async (account: LocalAccount, call: Call) => {
		const sender = new TransactionSender({ client, account, chainId, outbox: NO_OUTBOX, pollMs: 20 });
		await sender.wait(await sender.broadcast({ ...call, purpose: { kind: "demo" } }));
	};
	return {
		...records,
		chain,
		token,
		escrow,
		payer,
		payerKey,
		payee,
		payers,
		funds,
		deposit,
		splits,
		storePath,
		get server() {
			return server;
		},
		get settings() {
			return settings;
		},
		agent: (options = {}) => new PaymentClient({ account: payer, client, policy, ...options }),
		async addPayers(count, { gas = false } = {}) {
			const added = Array.from({ length: count }, () => privateKeyToAccount(generatePrivateKey()));
			for (const { address } of added) await mint(client, chain.account(0).address, token, address, funds);
			if (gas) await Promise.all(added.map(({ address }) => fundGas(client, address)));
			payers.push(...added);
			return added;
		},
		balance: (holder) => readBalance(client, token, holder),
		async channelOnChain(channelId) {
			const channel = await readChannel(client, escrow, channelId);
			if (channel === undefined) throw new Error(`the escrow has no channel ${channelId}`);
			return channel;
		},
		send,
		async approve(spender, value) {
			await fundGas(client, payer.address);
			await send(payer, approveCall(token, spender, value));
		},
		async restartServer(changed) {
			await server.stop();
			settings = { ...settings, ...changed };
			server = await startServer(settings);
			return server;
		},
		async loseStore() {
			await server.stop();
			await rm(storePath, { recursive: true, force: true });
			server = await startServer(settings);
			return server;
		},
		async openStore() {
			await server.stop();
			return LevelStore.open({ folder: storePath });
		},
		async stop() {
			await server.stop().finally(() => chain.stop());
		},
	};
}

const NO_OUTBOX = { put: async () => undefined };

/** Half of what all requests cost, rounded up to whole requests. */
function smallDeposit(requests: number): bigint {
	return PRICE * BigInt(Math.ceil(requests / 2));
}

function freshAddress(): Address {
	return privateKeyToAccount(generatePrivateKey()).address.toLowerCase() as Address;
}

/** By an account whose key the chain itself has; mined as soon as it is sent. */
async function mint(client: PublicClient, from: Address, token: Address, to: Address, value: bigint): Promise<void> {
	const data = encodeFunctionData({ abi: testUsdcAbi, functionName: "mint", args: [to, value] });
	await rpc(client, "eth_sendTransaction", [{ from, to: token, data }]);
	await until("the payer has its tokens", async () => (await readBalance(client, token, to)) === value);
}
