/**
 * Where agents die and go on: a chain, paid servers in this process that note all that arrives, and processes of agents
 * (payingProcess.ts) with a wallet on disk each.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { type Address, encodeFunctionData, type Hex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { testUsdcAbi } from "../../src/cli/demo/generated/testUsdc.ts";
import { openWallet } from "../../src/client/node/wallet.ts";
import { counterKey } from "../../src/client/spending.ts";
import type { ChannelRecord } from "../../src/client/store/store.ts";
import { readEscrowEvents } from "../../src/escrow/index.ts";
import {
	type Credential,
	decodeReceipt,
	PAYMENT_RECEIPT,
	PROBLEM_CONTENT_TYPE,
	parseCredential,
	problem,
} from "../../src/protocol/index.ts";
import type { ChargedEvent } from "../../src/server/index.ts";
import { sendFrom } from "../support/payer.ts";
import { createWorld, type PaidServer, PRICE, type Routes, type World } from "../support/world.ts";
import type { Moment, Order, Said, Step } from "./payingProcess.ts";

export { PRICE };

/** What a channel is opened with, and topped up by: four requests; one request by the payer's own transactions. */
export const DEPOSIT = 4n * PRICE;
/** What every agent has. */
export const FUNDS = 100n * PRICE;
/** What the stepped server wants vouchers to rise by. */
export const STEP = (5n * PRICE) / 2n;

const CHARGE_TYPES = ["authorization", "transaction", "hash"] as const;

const LIFE_MS = 45_000;
const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** `plain` takes authorizations, `own` the payer's own transactions alone, `stepped` vouchers that rise by `STEP` at least. */
export type ServerKind = "plain" | "own" | "stepped";

/** A request as it reached a server. */
export type Arrival = {
	readonly name: string;
	readonly method: string;
	readonly channelId: string | undefined;
	readonly action: string;
	readonly amount: bigint;
	status?: number;
	spent?: bigint;
};

/** What a server has charged for. */
export type Charged = ChargedEvent & Readonly<{ name: string }>;

/** What one process has told. */
export type Life = Readonly<{
	died: string | undefined;
	isDone: boolean;
	failed: string | undefined;
	/** What happened, in order, and in which step. */
	moments: readonly Readonly<{ moment: string; step: number }>[];
	begun: readonly string[];
	ended: ReadonlyMap<string, Readonly<{ status?: number; body?: unknown; error?: string }>>;
	vouchers: readonly Readonly<{ channelId: Hex; amount: bigint }>[];
	charges: readonly bigint[];
	closed: readonly Hex[];
}>;

/** A process that lives. */
export type Living = Readonly<{ kill(): void; ended: Promise<Life> }>;

/** What is on disk of an agent. */
export type Kept = Readonly<{
	records: readonly ChannelRecord[];
	/** What was counted of the limits, of all that was ever signed. */
	counted: bigint;
	receipts: number;
}>;

export type Agent = Readonly<{
	name: string;
	address: Address;
	server: PaidServer;
	live(steps: readonly Step[], dieAt?: Moment): Living;
	kept(): Promise<Kept>;
}>;

export type AgentOptions = Readonly<{ server: ServerKind; gas?: boolean; limit?: bigint; types?: readonly string[] }>;

export class CrashStage {
	readonly world: World;
	readonly servers: Readonly<Record<ServerKind, PaidServer>>;
	readonly arrivals: readonly Arrival[];
	readonly charged: readonly Charged[];
	/** Channels that the server has lost its record of. */
	readonly forgotten: ReadonlySet<string>;
	readonly #folder: string;
	readonly #program: string;
	#agents = 0;
	#minting: Promise<unknown> = Promise.resolve();

	static async create(): Promise<CrashStage> {
		const arrivals: Arrival[] = [];
		const charged: Charged[] = [];
		const forgotten = new Set<string>();
		const folder = await mkdtemp(join(tmpdir(), "sluice-client-crash-"));
		const program = await bundle();
		const world = await createWorld();
		try {
			const hooks = { onCharged: (event: ChargedEvent) => void charged.push({ ...event, name: nameOf(event.url) }) };
			const before = recording(arrivals, forgotten);
			const serve = (engine: object, deposit = DEPOSIT) =>
				world.serve({ engine: { hooks, ...engine }, before, routes: routesFor(deposit) });
			const servers = {
				plain: await serve({}),
				own: await serve({ feePayer: false }, PRICE),
				stepped: await serve({ minVoucherDelta: STEP }),
			};
			return new CrashStage({ world, servers, arrivals, charged, forgotten, folder, program });
		} catch (error) {
			await world.stop();
			throw error;
		}
	}

	private constructor(
		parts: Pick<CrashStage, "world" | "servers" | "arrivals" | "charged" | "forgotten"> &
			Readonly<{ folder: string; program: string }>,
	) {
		this.world = parts.world;
		this.servers = parts.servers;
		this.arrivals = parts.arrivals;
		this.charged = parts.charged;
		this.forgotten = parts.forgotten;
		this.#folder = parts.folder;
		this.#program = parts.program;
	}

	/** A new payer with a wallet of its own. */
	async agent({ server: kind, gas = false, limit, types }: AgentOptions): Promise<Agent> {
		const { chain, token, escrow } = this.world;
		const key = generatePrivateKey();
		const { address } = privateKeyToAccount(key);
		await this.#mint(address);
		if (gas)
			await chain.client.request({ method: "anvil_setBalance", params: [address, "0x8ac7230489e80000"] } as never);
		const name = `a${++this.#agents}`;
		const wallet = join(this.#folder, name);
		const server = this.servers[kind];
		let lives = 0;
		const order = {
			...{ rpcUrl: chain.url, chainId: chain.chainId, token, escrow, url: server.url, wallet, key },
			maxDeposit: String(3n * DEPOSIT),
			...(types !== undefined && { types }),
			...(limit !== undefined && { limit: String(limit) }),
		};
		return {
			name,
			address: address.toLowerCase() as Address,
			server,
			live: (steps, dieAt) =>
				live(this.#program, { ...order, life: `${name}.${++lives}`, steps, ...(dieAt && { dieAt }) }),
			kept: async () => {
				const store = await openWallet(wallet);
				try {
					const total = counterKey({ unit: `${chain.chainId}:${token}`, scope: "total", window: "ever" });
					const [counted = -1n] = await store.counts([total]);
					const records = (await store.list()).map(({ record }) => record);
					return { records, counted, receipts: (await store.receipts()).length };
				} finally {
					await store.close();
				}
			},
		};
	}

	/** What was charged of an agent. */
	chargedOf({ name }: Pick<Agent, "name">): readonly Charged[] {
		return this.charged.filter((charged) => charged.name.startsWith(`${name}.`));
	}

	/** What arrived about these channels. */
	arrivedAt(channelIds: readonly string[]): readonly Arrival[] {
		return this.arrivals.filter(({ channelId }) => channelId !== undefined && channelIds.includes(channelId));
	}

	/** How often the escrow has taken a deposit for each of these channels, by its events. */
	async deposits(channelIds: readonly Hex[]): Promise<readonly (readonly string[])[]> {
		const { chain, escrow } = this.world;
		const toBlock = await chain.client.getBlockNumber({ cacheTime: 0 });
		return Promise.all(
			channelIds.map(async (channelId) =>
				(await readEscrowEvents(chain.client, escrow, { fromBlock: 0n, toBlock, channelId })).map(({ name }) => name),
			),
		);
	}

	async stop(): Promise<void> {
		await this.world.stop();
		await rm(this.#folder, { recursive: true, force: true });
		await rm(join(this.#program, ".."), { recursive: true, force: true });
	}

	/** One nonce sequence. */
	#mint(to: Address): Promise<unknown> {
		const { chain, token } = this.world;
		const data = encodeFunctionData({ abi: testUsdcAbi, functionName: "mint", args: [to, FUNDS] });
		const minted = this.#minting.then(() => sendFrom(chain, chain.account(0), { to: token, data }));
		this.#minting = minted.catch(() => undefined);
		return minted;
	}
}

/** The process's program in one file: hundreds of processes are started, and most of their time would go by reading sources. */
async function bundle(): Promise<string> {
	// Where its native packages are found.
	const parent = join(ROOT, "node_modules", ".cache");
	await mkdir(parent, { recursive: true });
	const outfile = join(await mkdtemp(join(parent, "client-crash-")), "payingProcess.mjs");
	await build({
		absWorkingDir: ROOT,
		entryPoints: ["test/e2e/payingProcess.ts"],
		bundle: true,
		format: "esm",
		platform: "node",
		target: "node22",
		conditions: ["sluice-source"],
		external: ["level", "classic-level", "browser-level", "undici"],
		banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
		outfile,
		logLevel: "silent",
	});
	return outfile;
}

function live(program: string, order: Order): Living {
	const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", program], {
		stdio: ["pipe", "pipe", "inherit"],
		env: { ...process.env, NODE_COMPILE_CACHE: join(program, "..", "compiled") },
	});
	const timer = setTimeout(() => child.kill("SIGKILL"), LIFE_MS);
	const said: Said[] = [];
	createInterface({ input: child.stdout }).on("line", (line) => said.push(JSON.parse(line) as Said));
	child.stdin.on("error", () => undefined);
	child.stdin.end(`${JSON.stringify(order)}\n`);
	const ended = once(child, "close").then(() => {
		clearTimeout(timer);
		return lifeOf(said);
	});
	return { kill: () => child.kill("SIGKILL"), ended };
}

function lifeOf(said: readonly Said[]): Life {
	const ended = new Map<string, Readonly<{ status?: number; body?: unknown; error?: string }>>();
	const vouchers: { channelId: Hex; amount: bigint }[] = [];
	const charges: bigint[] = [];
	let died: string | undefined;
	let failed: string | undefined;
	for (const one of said) {
		if ("ends" in one) ended.set(one.ends, one);
		if ("signs" in one && one.signs === "voucher")
			vouchers.push({ channelId: one.channelId, amount: BigInt(one.amount) });
		if ("signs" in one && one.signs === "charge") charges.push(BigInt(one.amount));
		if ("died" in one) died = one.died;
		if ("failed" in one) failed = one.failed;
	}
	return {
		...{ died, failed, ended, vouchers, charges },
		isDone: said.some((one) => "done" in one),
		moments: said.flatMap((one) => ("moment" in one ? [one] : [])),
		begun: said.flatMap((one) => ("begins" in one ? [one.begins] : [])),
		closed: said.flatMap((one) => ("closed" in one ? one.closed : [])),
	};
}

const nameOf = (url: string) => new URL(url, "http://any").searchParams.get("n") ?? "";

/** Notes what arrives and what is answered. What was forgotten is answered as a server does that has lost its store. */
function recording(arrivals: Arrival[], forgotten: Set<string>): Routes {
	return (app) => {
		const open = new WeakMap<object, Arrival>();
		app.addHook("onRequest", async (request, reply) => {
			if (request.url.startsWith("/forget"))
				for (const id of String((request.query as { channels?: string }).channels).split(",")) forgotten.add(id);
			const { authorization = "" } = request.headers;
			if (!authorization.startsWith("Payment ")) return;
			const { payload } = parseCredential(authorization) as Credential;
			const channelId = payload.channelId === undefined ? undefined : String(payload.channelId);
			const arrival: Arrival = {
				name: nameOf(request.url),
				method: request.method,
				channelId,
				action: String(payload.action ?? payload.type),
				amount: BigInt(String(payload.cumulativeAmount ?? 0)),
			};
			arrivals.push(arrival);
			open.set(request, arrival);
			if (channelId === undefined || !forgotten.has(channelId)) return;
			const body = problem("session/channel-not-found", "This server has lost its record of the channel.");
			return reply.code(body.status).type(PROBLEM_CONTENT_TYPE).send(JSON.stringify(body));
		});
		app.addHook("onResponse", async (request, reply) => {
			const arrival = open.get(request);
			if (arrival === undefined) return;
			arrival.status = reply.statusCode;
			const receipt = reply.getHeader(PAYMENT_RECEIPT);
			const decoded = typeof receipt === "string" ? decodeReceipt(receipt) : undefined;
			if (decoded?.intent === "session") arrival.spent = decoded.spent;
		});
	};
}

const routesFor =
	(suggestedDeposit: bigint): Routes =>
	(app, { handler }) => {
		const session = { config: { payment: { price: PRICE, unitType: "request", suggestedDeposit } } };
		const charge = { config: { payment: { price: PRICE, intent: "charge" as const, credentialTypes: CHARGE_TYPES } } };
		app.get("/session", session, handler("/session"));
		app.get("/held", session, handler("/held"));
		app.get("/charge", charge, handler("/charge"));
		app.get("/forget", handler("/forget"));
	};
