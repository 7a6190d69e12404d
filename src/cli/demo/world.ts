import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import type { Address, Hex, LocalAccount } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { PaymentClient, type PaymentClientOptions } from "../../client/index.ts";
import { approveCall } from "../../escrow/calls.ts";
import { paymentChannelEscrowAbi } from "../../escrow/generated/escrow.ts";
import { type EscrowChannel, readBalance, readChannel } from "../../escrow/reads.ts";
import { TransactionSender } from "../../escrow/sender.ts";
import { LevelStore } from "../../server/index.ts";
import { type LocalChain, startChain } from "./chain.ts";
import { deployContracts } from "./deploy.ts";
import { type PaidServer, startServer } from "./server.ts";

/** What one request costs, in base units. */
export const PRICE = 100n;

/** Everything a scenario plays on: a chain with token and escrow, a payer who has tokens but no gas, a paid server. */
export type World = Readonly<{
	chain: LocalChain;
	token: Address;
	escrow: Address;
	payer: LocalAccount;
	payee: LocalAccount;
	/** What the payer had before it paid anything, and what a channel is opened with. */
	funds: bigint;
	deposit: bigint;
	/** The parts of the charge at `/splits` that are not the payee's. */
	splits: readonly Readonly<{ recipient: Address; amount: bigint; memo: string }>[];
	storePath: string;
	/** First block after the set-up. */
	firstBlock: bigint;
	server: PaidServer;
	/** A paying `fetch` for the payer. */
	agent(options?: Partial<PaymentClientOptions>): PaymentClient;
	/** The token's balance of a holder, from the chain. */
	balance(holder: Address): Promise<bigint>;
	/** A channel as the escrow has it. */
	channelOnChain(channelId: Hex): Promise<EscrowChannel>;
	/** What was added to a channel after it was opened, in base units, from the escrow's events. */
	toppedUp(channelId: Hex): Promise<bigint>;
	/** A transaction of the payer's own: lets `spender` take up to `value` of its tokens. Gives it the gas for that. */
	approve(spender: Address, value: bigint): Promise<void>;
	/** Transactions since the set-up that were sent to `address`, counted in the chain's blocks. */
	transactionsTo(address: Address): Promise<number>;
	/** The server again, after it was stopped or killed: same folder, same port, same secrets. */
	restartServer(): Promise<PaidServer>;
	/** Stops the server, deletes its store, and starts it again with an empty one. */
	loseStore(): Promise<PaidServer>;
	/** Stops the server, which lets go of the store, and opens the store. */
	openStore(): Promise<LevelStore>;
	stop(): Promise<void>;
}>;

/** Sets a world up for `requests` paid requests. */
export async function createWorld(storePath: string, requests: number): Promise<World> {
	const chain = await startChain();
	try {
		return await furnish(chain, storePath, requests);
	} catch (error) {
		await chain.stop();
		throw error;
	}
}

async function furnish(chain: LocalChain, storePath: string, requests: number): Promise<World> {
	const payeeKey = generatePrivateKey();
	const payee = privateKeyToAccount(payeeKey);
	const payer = privateKeyToAccount(generatePrivateKey());
	const deposit = 2n * PRICE * BigInt(requests);
	const funds = 2n * deposit;
	const splits = [
		{ recipient: freshAddress(), amount: PRICE / 20n, memo: "platform fee" },
		{ recipient: freshAddress(), amount: PRICE / 50n, memo: "referral" },
	];
	const { token, escrow } = await deployContracts(chain, chain.account(0), payer.address, funds);
	await fundGas(chain, payee.address);
	const settings = {
		rpcUrl: chain.url,
		chainId: chain.chainId,
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
	};
	const firstBlock = (await chain.client.getBlockNumber()) + 1n;
	let server = await startServer(settings);
	const { host, port } = new URL(server.url);
	const policy = {
		chainIds: [chain.chainId],
		tokens: [token],
		escrows: [escrow],
		hosts: [host],
		maxDeposit: deposit,
		maxPrice: PRICE,
		splitRecipients: splits.map(({ recipient }) => recipient),
	};
	return {
		chain,
		token,
		escrow,
		payer,
		payee,
		funds,
		deposit,
		splits,
		storePath,
		firstBlock,
		get server() {
			return server;
		},
		agent: (options = {}) => new PaymentClient({ account: payer, client: chain.client, policy, ...options }),
		balance: (holder) => readBalance(chain.client, token, holder),
		async channelOnChain(channelId) {
			const channel = await readChannel(chain.client, escrow, channelId);
			if (channel === undefined) throw new Error(`the escrow has no channel ${channelId}`);
			return channel;
		},
		async toppedUp(channelId) {
			const events = await chain.client.getContractEvents({
				address: escrow,
				abi: paymentChannelEscrowAbi,
				eventName: "ToppedUp",
				args: { channelId },
				fromBlock: firstBlock,
			});
			return events.reduce((sum, { args }) => sum + (args.amount ?? 0n), 0n);
		},
		async approve(spender, value) {
			await fundGas(chain, payer.address);
			const { client, chainId } = chain;
			const sender = new TransactionSender({ client, account: payer, chainId, outbox: NO_OUTBOX, pollMs: 20 });
			const call = approveCall(token, spender, value);
			await sender.wait(await sender.broadcast({ ...call, purpose: { kind: "approve" } }));
		},
		transactionsTo: (address) => countTransactions(chain, firstBlock, address),
		async restartServer() {
			server = await startServer({ ...settings, port: Number(port) });
			return server;
		},
		async loseStore() {
			await server.stop();
			await rm(storePath, { recursive: true, force: true });
			server = await startServer({ ...settings, port: Number(port) });
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

async function fundGas({ client }: LocalChain, address: Address): Promise<void> {
	const value: Hex = "0x8ac7230489e80000"; // 10 of the native coin
	await client.request({ method: "anvil_setBalance", params: [address, value] } as never);
}

async function countTransactions({ client }: LocalChain, firstBlock: bigint, address: Address): Promise<number> {
	const lastBlock = await client.getBlockNumber();
	let count = 0;
	for (let blockNumber = firstBlock; blockNumber <= lastBlock; blockNumber++) {
		const { transactions } = await client.getBlock({ blockNumber, includeTransactions: true });
		count += transactions.filter(({ to }) => to?.toLowerCase() === address).length;
	}
	return count;
}
