import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
	DepositExhaustedError,
	PaymentClient,
	type PaymentPolicy,
	PolicyRefusedError,
	StreamLimitError,
} from "../../client/index.ts";
import { openWallet } from "../../client/node/index.ts";
import { advance } from "./chainControl.ts";
import { type Play, plays, type Stage } from "./policyPlays.ts";
import { type Check, check, type Outcome } from "./report.ts";
import type { ServerVariation } from "./serverSettings.ts";
import { highestSum, spyOn } from "./signatureSpy.ts";
import { PRICE, type World } from "./world.ts";

/** The clocks go on by months: what is owed stays owed, and nobody asks the chain in between. */
export const POLICY_SERVER: ServerVariation = { settlement: false, watch: false };

/** How many requests a deposit pays twice over. */
export const POLICY_REQUESTS = 50;

/** One limit as the agent met it. Amounts in base units, as decimal strings. */
type Met = Readonly<{
	name: string;
	limit: string;
	/** The most that was signed of what the limit counts together, by the account's own signatures. `maxChannels` counts channels. */
	signed: string;
	/** How many requests the policy has refused. */
	refusals: number;
	served: number;
	/** What the last refusal said. */
	message: string;
}>;

/**
 * An agent runs into each kind of limit, one after the other, each time with another account and wallet. What it has signed is
 * counted by a spying account, and never exceeds a limit; what the limit allows is all used. A second process opens the same
 * wallet and is refused as well; when the window is over the next one begins anew.
 */
export async function policyScenario(
	world: World,
	_options: unknown,
	progress: (text: string) => void,
): Promise<Outcome> {
	const { chain, payee, token, escrow } = world;
	const folder = await mkdtemp(join(tmpdir(), "sluice-demo-policy-"));
	const { port } = new URL(world.server.url);
	const hosts = { here: `127.0.0.1:${port}`, there: `localhost:${port}` };
	const clock = new Clock(world);
	const met: Met[] = [];
	const checks: Check[] = [];
	const startedAt = performance.now();
	try {
		const lower = { payee: lowercase(payee.address), token: lowercase(token), escrow: lowercase(escrow) };
		for (const [at, play] of plays(hosts, { ...lower, chainId: chain.chainId }).entries()) {
			progress(`the agent runs into ${play.name}`);
			const outcome = await run(world, clock, { play, hosts, folder: join(folder, String(at)) });
			met.push(outcome.met);
			checks.push(...outcome.checks);
		}
	} finally {
		await rm(folder, { recursive: true, force: true });
	}
	const sum = (of: (one: Met) => number) => met.reduce((total, one) => total + of(one), 0);
	return {
		scenario: "policy",
		price: String(PRICE),
		requests: sum(({ served, refusals }) => served + refusals),
		ok: sum(({ served }) => served),
		refusals: sum(({ refusals }) => refusals),
		secondsPaid: (performance.now() - startedAt) / 1_000,
		limits: met,
		checks: [
			check("limits that were exceeded", 0, met.filter(({ limit, signed }) => BigInt(signed) > BigInt(limit)).length),
			check("limits that refused nothing", 0, met.filter(({ refusals }) => refusals === 0).length),
			...checks,
		],
	};
}

type Setting = Readonly<{ play: Play; hosts: Pick<Stage, "here" | "there">; folder: string }>;

async function run(
	world: World,
	clock: Clock,
	{ play, hosts, folder }: Setting,
): Promise<Readonly<{ met: Met; checks: readonly Check[] }>> {
	const { name, limit, course, groupOf, approve } = play;
	const [account] = await world.addPayers(1);
	if (account === undefined) throw new Error("there is no payer");
	// A window that has just begun: none ends by itself while the agent pays.
	await clock.next("hour");
	const occasion = { host: "", atMs: 0, request: 0 };
	const spy = spyOn(account, () => ({ ...occasion }));
	const open = async () => {
		const store = await openWallet(folder);
		const agent = new PaymentClient({
			account: spy.account,
			client: world.chain.client,
			policy: policyOf(world, play, hosts),
			store,
			now: clock.now,
			...(approve !== undefined && { approve: () => approve }),
		});
		return { agent, store };
	};
	let { agent, store } = await open();
	const checks: Check[] = [];
	const refusals: string[] = [];
	let served = 0;
	/** Whether one was served. */
	const ask = async (host: string, work: () => Promise<unknown>): Promise<boolean> => {
		Object.assign(occasion, { host, atMs: clock.now(), request: occasion.request + 1 });
		try {
			await work();
			served++;
			return true;
		} catch (error) {
			if (!isRefusal(error)) throw error;
			refusals.push(error.message);
			return false;
		}
	};
	const leave = async () => {
		await agent.release();
		await store.close();
	};
	try {
		await course({
			...hosts,
			async pay(host, times, path = "/session") {
				let ok = 0;
				for (let i = 0; i < times; i++) if (await ask(host, () => served200(agent, `http://${host}${path}`))) ok++;
				return ok;
			},
			async stream(host, tokens) {
				await ask(host, async () => {
					for await (const _ of agent.stream(`http://${host}/stream?tokens=${tokens}`));
				});
			},
			async reopen() {
				await leave();
				({ agent, store } = await open());
			},
			next: (window) => clock.next(window),
			async close() {
				await agent.close();
			},
			expect: (what, expected, actual) => void checks.push(check(`${name}: ${what}`, expected, actual)),
		});
	} finally {
		await leave();
	}
	const counted = {
		value: spy.values,
		deposits: spy.deposits,
		channels: spy.deposits.map((deposit) => ({ ...deposit, amount: 1n })),
	};
	const signed = highestSum(counted[play.counts ?? "value"], groupOf);
	return {
		met: {
			name,
			limit: String(limit),
			signed: String(signed),
			refusals: refusals.length,
			served,
			message: refusals.at(-1) ?? "",
		},
		checks: [
			...checks,
			check(`${name}: signed`, play.signed, signed),
			...(limit === 0n ? [check(`${name}: signatures of any kind`, 0, spy.count)] : []),
		],
	};
}

/** The policy is what ends it, in one of the ways it does that. */
function isRefusal(error: unknown): error is Error {
	return [PolicyRefusedError, StreamLimitError, DepositExhaustedError].some((kind) => error instanceof kind);
}

function policyOf({ chain, token, escrow, payee, deposit }: World, play: Play, hosts: Setting["hosts"]): PaymentPolicy {
	const usdc = {
		symbol: "USDC",
		decimals: 6,
		tokens: [{ chainId: chain.chainId, address: token }],
		maxPrice: PRICE,
		maxDeposit: deposit,
		...play.currency,
	};
	return {
		hosts: [hosts.here, hosts.there],
		payees: [payee.address],
		escrows: [escrow],
		categories: { models: { hosts: [hosts.here] } },
		...(play.policy?.tokens === undefined && { currencies: [usdc] }),
		...play.policy,
	};
}

async function served200(agent: PaymentClient, url: string): Promise<void> {
	const response = await agent.fetch(url);
	const text = await response.text();
	if (response.status !== 200) throw new Error(`${url} answered ${response.status}: ${text}`);
}

/** The clocks of the agent, the server and the chain, which go on together. */
class Clock {
	readonly #world: World;
	#aheadMs = 0;

	constructor(world: World) {
		this.#world = world;
	}

	readonly now = () => Date.now() + this.#aheadMs;

	/** To the beginning of the next window, in UTC. */
	async next(window: "hour" | "day" | "month"): Promise<void> {
		const now = new Date(this.now());
		const [year, month, day] = [now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate()];
		const ends = {
			hour: Date.UTC(year, month, day, now.getUTCHours() + 1),
			day: Date.UTC(year, month, day + 1),
			month: Date.UTC(year, month + 1),
		};
		const seconds = Math.ceil((ends[window] - now.getTime()) / 1_000) + 1;
		this.#aheadMs += seconds * 1_000;
		await advance(this.#world.chain.client, seconds);
		await this.#world.server.command({ aheadMs: this.#aheadMs });
	}
}

function lowercase(address: string) {
	return address.toLowerCase() as `0x${string}`;
}
