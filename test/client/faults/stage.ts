/** Where schedules are played: a chain, a server that takes any step and one that wants a least one, a proxy before each. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MemoryPayerStore, type PayerStore, PaymentClient } from "../../../src/client/index.ts";
import { openWallet } from "../../../src/client/node/index.ts";
import type { ChargedEvent } from "../../../src/server/index.ts";
import { createWorld, type PaidServer, type Payer, type Routes, type World } from "../../support/world.ts";
import type { Schedule } from "./plan.ts";
import { FaultProxy } from "./proxy.ts";
import { Tally } from "./tally.ts";

export const PRICE = 100n;
/** What `/priced` costs by turns. */
export const PRICES = [100n, 150n] as const;
export const DEAREST = PRICES[1];
/** What the stepped server wants vouchers to rise by. */
export const STEP = 250n;

const DEPOSITS = { large: 1_000_000n, small: 700n } as const;
const FUNDS = 10_000_000n;

/** What a server has charged for one request, in which life of its store. */
export type Charged = ChargedEvent & Readonly<{ life: number }>;

export type Stand = Readonly<{
	server: PaidServer;
	proxy: FaultProxy;
	step: bigint;
	/** By the request's number, as its URL has it. */
	charged: ReadonlyMap<string, readonly Charged[]>;
	/** What `/priced` costs now. */
	price(): bigint;
	reprice(isDear?: boolean): bigint;
	/** How often the store was lost. */
	life(): number;
	restart(): Promise<void>;
	crash(): Promise<void>;
	/** Kills it, does something without it, and starts it again with an empty store. */
	forget(meanwhile?: () => Promise<void>): Promise<void>;
	/** Who pays here. */
	agents: Set<Agent>;
}>;

/** A client, and what is known of it. */
export type Agent = {
	readonly stand: Stand;
	readonly payer: Payer;
	readonly tally: Tally;
	/** The one that goes on: `succeed` puts another in its place. */
	client: PaymentClient;
	store: PayerStore;
	/** Closes the client's wallet under it, and gives the wallet to another client. */
	readonly succeed: () => Promise<void>;
	/** Of its channels, those that a server has lost its record of. */
	readonly forgotten: Set<string>;
	/** Its tokens when it began. */
	readonly funds: bigint;
	/** Hears of each message and signature. */
	trace: (text: string) => void;
};

export type FaultStage = Readonly<{
	world: World;
	stands: Readonly<Record<Schedule["server"], Stand>>;
	agent(kind: Pick<Schedule, "server" | "deposit" | "wallet">): Promise<Agent>;
	stop(): Promise<void>;
}>;

export async function createFaultStage(): Promise<FaultStage> {
	const world = await createWorld();
	const folder = await mkdtemp(join(tmpdir(), "sluice-faults-"));
	const stands = { plain: await createStand(world, 0n), stepped: await createStand(world, STEP) };
	let wallets = 0;
	return {
		world,
		stands,
		async agent({ server, deposit, wallet }) {
			const stand = stands[server];
			const payer = await world.payer({ funds: FUNDS });
			const inMemory = new MemoryPayerStore();
			const place = join(folder, String(++wallets));
			const open = async () => (wallet === "memory" ? inMemory.share() : openWallet(place));
			const tally = new Tally(payer.account, stand.step, (text) => agent.trace(text));
			const clientOf = (store: PayerStore) =>
				new PaymentClient({
					account: tally.account,
					client: world.chain.client,
					policy: {
						chainIds: [world.chain.chainId],
						tokens: [world.token],
						escrows: [world.escrow],
						hosts: [stand.proxy.host],
						maxDeposit: DEPOSITS[deposit],
						maxPrice: stand.step > DEAREST ? stand.step : DEAREST,
						maxChannels: 1_000,
					},
					retry: { retries: 6, minDelayMs: 1, maxDelayMs: 20 },
					store,
				});
			const store = await open();
			const agent: Agent = {
				...{ stand, payer, tally, store, client: clientOf(store), forgotten: new Set(), funds: FUNDS },
				trace: () => undefined,
				async succeed() {
					await agent.store.close();
					agent.store = await open();
					agent.client = clientOf(agent.store);
				},
			};
			stand.agents.add(agent);
			return agent;
		},
		async stop() {
			await Promise.all(Object.values(stands).map(({ proxy }) => proxy.stop()));
			await world.stop();
			await rm(folder, { recursive: true, force: true });
		},
	};
}

async function createStand(world: World, step: bigint): Promise<Stand> {
	const charged = new Map<string, Charged[]>();
	let price: bigint = PRICES[0];
	let life = 0;
	const agents = new Set<Agent>();
	const onCharged = (event: ChargedEvent) => {
		const key = new URL(event.url, "http://any").searchParams.get("n") ?? "";
		charged.set(key, [...(charged.get(key) ?? []), { ...event, life }]);
	};
	const server = await world.serve({
		engine: { hooks: { onCharged }, minVoucherDelta: step },
		routes: routesAt(() => price),
	});
	return {
		server,
		proxy: await FaultProxy.start(() => server.url),
		step,
		charged,
		price: () => price,
		reprice(isDear = price === PRICES[0]) {
			price = isDear ? PRICES[1] : PRICES[0];
			return price;
		},
		life: () => life,
		agents,
		restart: () => server.restart(),
		async crash() {
			await server.crash();
			await server.restart();
		},
		async forget(meanwhile) {
			await server.crash();
			life++;
			for (const { client, forgotten, tally } of agents) {
				for (const { channelId, signed, consumed } of client.channels) {
					forgotten.add(channelId);
					tally.lostRecord(signed - consumed);
				}
			}
			await rm(server.folder, { recursive: true, force: true });
			await meanwhile?.();
			await server.restart();
		},
	};
}

/** Each answer says which request it is for, and which run of the handler made it. */
function routesAt(priced: () => bigint): Routes {
	let runs = 0;
	return (app, { handler }) => {
		const answer = (request: { query: unknown }) => ({ n: (request.query as { n?: string }).n, run: ++runs });
		const session = { payment: { price: PRICE, unitType: "request", suggestedDeposit: DEPOSITS.large } };
		const changing = { payment: () => ({ price: priced(), unitType: "request", suggestedDeposit: DEPOSITS.large }) };
		const charge = { payment: { price: PRICE, intent: "charge" as const } };
		for (const [path, config] of Object.entries({ "/session": session, "/priced": changing, "/charge": charge }))
			app.route({ method: ["GET", "POST"], url: path, config, handler: handler(path, answer) });
	};
}
