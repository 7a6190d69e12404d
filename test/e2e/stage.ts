import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import {
	type Address,
	encodeFunctionData,
	type Hex,
	type LocalAccount,
	type PublicClient,
	parseTransaction,
} from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { type LocalChain, startChain } from "../../src/cli/demo/chain.ts";
import type { Order } from "../../src/cli/demo/crash.ts";
import { deployContracts } from "../../src/cli/demo/deploy.ts";
import { testUsdcAbi } from "../../src/cli/demo/generated/testUsdc.ts";
import { PRICE } from "../../src/cli/demo/world.ts";
import { PaymentClient, type PaymentClientOptions } from "../../src/client/index.ts";
import { Nodes } from "../../src/client/nodes.ts";
import { CredentialSigner } from "../../src/client/sign.ts";
import type { Call } from "../../src/escrow/calls.ts";
import { readBalance, readChannel } from "../../src/escrow/reads.ts";
import { TransactionSender } from "../../src/escrow/sender.ts";
import {
	AUTHORIZATION,
	type Challenge,
	decodeReceipt,
	encodeChargePayload,
	encodeSessionPayload,
	IDEMPOTENCY_KEY,
	PAYMENT_RECEIPT,
	parseChallenges,
	parseChargeRequest,
	type Receipt,
	WWW_AUTHENTICATE,
} from "../../src/protocol/index.ts";
import { LevelStore } from "../../src/server/index.ts";
import {
	type ChannelParameters,
	chargeNonce,
	computeChannelId,
	openAuthorizationNonce,
	ZERO_ADDRESS,
} from "../../src/voucher/index.ts";
import type { CrashSettings, Inspection } from "./crashServer.ts";

export { PRICE };

/** What every channel is opened with. */
export const DEPOSIT = 50n * PRICE;
/** What every payer has. */
export const FUNDS = 4n * DEPOSIT;

const CRASH_DEADLINE_MS = 20_000;

/** An answer, read to its end. */
export type Answer = Readonly<{
	status: number;
	body: Record<string, unknown>;
	receipt: Receipt | undefined;
	retryAfter: string | null;
}>;

type Running = Readonly<{ child: ChildProcess; url: string; nextLine: () => Promise<Record<string, string>> }>;

/**
 * A server that can be told where to die, its folder, its account, and its chain. It keeps folder, port, secrets and
 * account over its restarts.
 */
export class Stage {
	readonly chain: LocalChain;
	readonly token: Address;
	readonly escrow: Address;
	readonly payee: LocalAccount;
	readonly folder: string;
	#settings: CrashSettings;
	#running: Running | undefined;

	/** @param variation what the server is started with besides what every test needs */
	static async create(variation: Pick<CrashSettings, "settlement" | "limits"> = {}): Promise<Stage> {
		const chain = await startChain();
		try {
			const deployer = chain.account(0);
			const contracts = await deployContracts(chain, deployer, deployer.address, 1n);
			const payeeKey = generatePrivateKey();
			await rpc(chain.client, "anvil_setBalance", [privateKeyToAccount(payeeKey).address, "0x8ac7230489e80000"]);
			return new Stage(chain, contracts, payeeKey, await mkdtemp(join(tmpdir(), "sluice-e2e-")), variation);
		} catch (error) {
			await chain.stop();
			throw error;
		}
	}

	private constructor(
		chain: LocalChain,
		{ token, escrow }: Readonly<{ token: Address; escrow: Address }>,
		privateKey: Hex,
		folder: string,
		variation: Partial<CrashSettings>,
	) {
		this.chain = chain;
		this.token = token;
		this.escrow = escrow;
		this.payee = privateKeyToAccount(privateKey);
		this.folder = folder;
		this.#settings = {
			rpcUrl: chain.url,
			chainId: chain.chainId,
			escrow,
			token,
			privateKey,
			secret: randomBytes(32).toString("base64url"),
			folder: join(folder, "store"),
			price: String(PRICE),
			suggestedDeposit: String(DEPOSIT),
			port: 0,
			...variation,
		};
	}

	get url(): string {
		if (this.#running === undefined) throw new Error("no server runs");
		return this.#running.url;
	}

	/** Makes sure that a server runs; with other settings it is started anew. */
	async up(changed?: Pick<CrashSettings, "transactionTimeoutMs" | "clockAheadMs">): Promise<void> {
		const isRunning = this.#running?.child.exitCode === null && this.#running.child.signalCode === null;
		if (isRunning && changed === undefined) return;
		await this.down();
		this.#running = await startServer({ ...this.#settings, ...changed });
		this.#settings = { ...this.#settings, port: Number(new URL(this.#running.url).port) };
	}

	/** SIGKILL, unless it is dead already. */
	async down(): Promise<void> {
		const child = this.#running?.child;
		if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
		const ended = once(child, "exit");
		child.kill("SIGKILL");
		await ended;
	}

	/** The running server will do that at the next opportunity. */
	async arm(order: Order): Promise<void> {
		const running = this.#running;
		if (running === undefined) throw new Error("no server runs");
		running.child.stdin?.write(`${JSON.stringify(order)}\n`);
		const { armed } = await running.nextLine();
		if (armed !== `${order.kind} ${order.point}`) throw new Error(`the server said ${armed}`);
	}

	/** Runs the settlement policy; resolves when that is over, or, to where, when the server has killed itself meanwhile. */
	async settle(): Promise<string | undefined> {
		const running = this.#running;
		if (running === undefined) throw new Error("no server runs");
		running.child.stdin?.write(`${JSON.stringify({ settle: true })}\n`);
		const { died } = await running.nextLine();
		if (died !== undefined && running.child.exitCode === null && running.child.signalCode === null)
			await once(running.child, "exit");
		return died;
	}

	/** Resolves when the server has killed itself; to where. */
	async died(): Promise<string> {
		const running = this.#running;
		if (running === undefined) throw new Error("no server runs");
		const { died } = await running.nextLine();
		if (running.child.exitCode === null && running.child.signalCode === null) await once(running.child, "exit");
		return String(died);
	}

	async stop(): Promise<void> {
		await this.down();
		await this.chain.stop();
		await rm(this.folder, { recursive: true, force: true });
	}

	/** A payer with tokens and no gas. */
	async payer(): Promise<Payer> {
		const account = privateKeyToAccount(generatePrivateKey());
		const data = encodeFunctionData({ abi: testUsdcAbi, functionName: "mint", args: [account.address, FUNDS] });
		await this.sendAs(this.chain.account(0), { to: this.token, data });
		return new Payer(this, account);
	}

	/** Somebody who saw our transaction on its way copies its call and is first. The server must be down. */
	async copyPendingTransaction(): Promise<void> {
		const store = await LevelStore.open({ folder: this.#settings.folder });
		const raws: Hex[] = [];
		for await (const { raw } of store.outbox({ state: "pending" })) raws.push(raw);
		await store.close();
		const [raw, second] = raws;
		if (raw === undefined || second !== undefined) throw new Error(`${raws.length} transactions are pending`);
		const { to, data } = parseTransaction(raw);
		if (to == null || data === undefined) throw new Error("the pending transaction is no call");
		await this.sendAs(this.chain.account(9), { to, data });
	}

	async sendAs(account: LocalAccount, call: Call): Promise<void> {
		const { client, chainId } = this.chain;
		const outbox = { put: async () => undefined };
		const sender = new TransactionSender({ client, account, chainId, outbox, pollMs: 10 });
		await sender.wait(await sender.broadcast({ ...call, purpose: { kind: "test" } }));
	}

	/** How many transactions the payee's account has had mined. */
	transactions(): Promise<number> {
		return this.chain.client.getTransactionCount({ address: this.payee.address });
	}

	balance(holder: Address): Promise<bigint> {
		return readBalance(this.chain.client, this.token, holder);
	}

	channelOnChain(channelId: Hex) {
		return readChannel(this.chain.client, this.escrow, channelId);
	}

	async inspect(channelId: Hex = "0x"): Promise<Inspection> {
		const response = await fetch(`${this.url}/inspect/${channelId}`);
		return (await response.json()) as Inspection;
	}

	async send(path: string, credential?: string, key?: string): Promise<Answer> {
		const headers = new Headers();
		if (credential !== undefined) headers.set(AUTHORIZATION, credential);
		if (key !== undefined) headers.set(IDEMPOTENCY_KEY, key);
		const response = await fetch(`${this.url}${path}`, { headers });
		const receipt = response.headers.get(PAYMENT_RECEIPT);
		return {
			status: response.status,
			body: (await response.json()) as Record<string, unknown>,
			receipt: receipt === null ? undefined : decodeReceipt(receipt),
			retryAfter: response.headers.get("retry-after"),
		};
	}

	/** A fresh challenge for a path, with its request. */
	async challenge(path: string): Promise<Readonly<{ challenge: Challenge; request: unknown }>> {
		const response = await fetch(`${this.url}${path}`);
		const [offered] = parseChallenges(response.headers.get(WWW_AUTHENTICATE) ?? "");
		if (response.status !== 402 || offered === undefined) throw new Error(`${path} asks for no payment`);
		return offered;
	}

	/** Deletes what has expired, as the housekeeping of a later time does. The server must be down. */
	async pruneAt(now: number): Promise<void> {
		const store = await LevelStore.open({ folder: this.#settings.folder });
		await store.prune(now);
		await store.close();
	}

	/** While `work` runs, nothing is mined unless it calls `mine`. */
	async withoutMining<T>(work: (mine: () => Promise<void>) => Promise<T>): Promise<T> {
		const { client } = this.chain;
		const mine = async () => void (await rpc(client, "evm_mine"));
		await rpc(client, "evm_setAutomine", [false]);
		try {
			return await work(mine);
		} finally {
			await rpc(client, "evm_setAutomine", [true]);
			await mine();
		}
	}

	async pooled(): Promise<number> {
		const { pending } = (await rpc(this.chain.client, "txpool_status")) as { pending: Hex };
		return Number(pending);
	}
}

/** A channel as its payer has it. */
export type OpenedChannel = Readonly<{ channelId: Hex; parameters: ChannelParameters; challenge: Challenge }>;

/** Signs for one account. Sends nothing by itself. */
export class Payer {
	readonly address: Address;
	readonly #stage: Stage;
	readonly #account: LocalAccount;
	readonly #signer: CredentialSigner;

	constructor(stage: Stage, account: LocalAccount) {
		this.#stage = stage;
		this.#account = account;
		this.address = account.address;
		const nodes = new Nodes({ account, client: stage.chain.client, clients: {}, now: Date.now });
		this.#signer = new CredentialSigner({ account, nodes, now: Date.now });
	}

	/** A credential that opens a channel and pays `cumulativeAmount`. */
	async opening(cumulativeAmount = PRICE): Promise<OpenedChannel & Readonly<{ credential: string }>> {
		const { token, escrow, payee, chain } = this.#stage;
		const { challenge } = await this.#stage.challenge("/session");
		const parameters = {
			payer: this.#signer.payer,
			payee: payee.address.toLowerCase() as Address,
			token,
			salt: `0x${randomBytes(32).toString("hex")}` as Hex,
			authorizedSigner: ZERO_ADDRESS,
			escrow,
			chainId: chain.chainId,
		};
		const channelId = computeChannelId(parameters);
		const nonce = openAuthorizationNonce({ from: parameters.payer, ...parameters });
		const transfer = { to: escrow, value: DEPOSIT, nonce };
		const { signature, ...authorization } = await this.#signer.authorize("receive", challenge, parameters, transfer);
		const payload = encodeSessionPayload({
			action: "open",
			type: "authorization",
			channelId,
			authorization,
			signature,
			cumulativeAmount,
			voucherSignature: await this.#signer.voucher({ channelId, parameters }, cumulativeAmount),
			authorizedSigner: parameters.authorizedSigner,
			salt: parameters.salt,
		});
		const credential = this.#signer.credential(challenge, payload);
		return { channelId, parameters, challenge, credential };
	}

	/** Opens a channel and pays the first request. */
	async open(): Promise<OpenedChannel> {
		const { credential, ...channel } = await this.opening();
		const { status } = await this.#stage.send("/session", credential, randomUUID());
		if (status !== 200) throw new Error(`the open was answered with ${status}`);
		return channel;
	}

	voucher(channel: OpenedChannel, cumulativeAmount: bigint): Promise<string> {
		return this.#vouching("voucher", channel.challenge, channel, cumulativeAmount);
	}

	closing(channel: OpenedChannel, cumulativeAmount: bigint, challenge = channel.challenge): Promise<string> {
		return this.#vouching("close", challenge, channel, cumulativeAmount);
	}

	async #vouching(
		action: "voucher" | "close",
		challenge: Challenge,
		channel: OpenedChannel,
		cumulativeAmount: bigint,
	): Promise<string> {
		const { channelId } = channel;
		const signature = await this.#signer.voucher(channel, cumulativeAmount);
		const payload = encodeSessionPayload({ action, channelId, cumulativeAmount, signature });
		return this.#signer.credential(challenge, payload);
	}

	async charging(): Promise<string> {
		const { challenge, request } = await this.#stage.challenge("/charge");
		const { currency: token, recipient: to, amount: value, methodDetails } = parseChargeRequest(request);
		const { chainId } = methodDetails;
		const nonce = chargeNonce(challenge.id, challenge.realm);
		const transfer = { to, value, nonce };
		const authorization = await this.#signer.authorize("transfer", challenge, { chainId, token }, transfer);
		const payload = encodeChargePayload({ type: "authorization", ...authorization });
		return this.#signer.credential(challenge, payload, chainId);
	}

	/** The product's own client. */
	agent(options: Partial<PaymentClientOptions> = {}): PaymentClient {
		const { chain, token, escrow, url } = this.#stage;
		const policy = {
			chainIds: [chain.chainId],
			tokens: [token],
			escrows: [escrow],
			hosts: [new URL(url).host],
			maxDeposit: DEPOSIT,
			maxPrice: PRICE,
		};
		return new PaymentClient({ account: this.#account, client: chain.client, policy, ...options });
	}
}

async function startServer(settings: CrashSettings): Promise<Running> {
	const script = join(import.meta.dirname, "crashServer.ts");
	const flags = ["--experimental-strip-types", "--disable-warning=ExperimentalWarning"];
	const child = spawn(process.execPath, [...flags, script], {
		stdio: ["pipe", "pipe", "inherit"],
		env: { ...process.env, NODE_COMPILE_CACHE: join(tmpdir(), "sluice-e2e-compile-cache") },
	});
	child.stdin.on("error", () => undefined);
	child.stdin.write(`${JSON.stringify(settings)}\n`);
	const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
	const nextLine = async () => {
		const late = AbortSignal.timeout(CRASH_DEADLINE_MS);
		const lateness = once(late, "abort").then(() => {
			throw new Error("the server process said nothing in time");
		});
		const { value, done } = await Promise.race([lines.next(), lateness]);
		if (done) throw new Error(`the server process ended (${child.exitCode ?? child.signalCode}) and said nothing`);
		return JSON.parse(value) as Record<string, string>;
	};
	const { url = "" } = await nextLine();
	return { child, url, nextLine };
}

function rpc(client: PublicClient, method: string, params: readonly unknown[] = []): Promise<unknown> {
	return client.request({ method, params } as never);
}
