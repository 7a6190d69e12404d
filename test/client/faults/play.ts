import { setTimeout as pause } from "node:timers/promises";
import { until } from "../../../src/cli/demo/until.ts";
import { OverchargeError } from "../../../src/client/index.ts";
import { type Ask, faultOf, type Happening, type Round, type Schedule } from "./plan.ts";
import { type Agent, DEAREST, type FaultStage, PRICE } from "./stage.ts";

/** How often the client may try after the faults until it is served again. */
const QUIET_TRIES = 4;

/** A schedule that takes longer than this hangs. */
const PATIENCE_MS = 30_000;

export type Played = Readonly<{
	/** How the requests have ended. */
	answered: number;
	refused: number;
	unknown: number;
	/** By status, or the error's code. */
	endings: readonly string[];
	/** What was found wrong. */
	faults: readonly string[];
}>;

/** Plays a schedule, lets things come to rest, and compares what client, server and proxy know of it. */
export async function play(stage: FaultStage, agent: Agent, schedule: Schedule): Promise<Played> {
	const timer = new AbortController();
	const tooLong = pause(PATIENCE_MS, undefined, { signal: timer.signal }).then(
		() => {
			throw new Error(`it did not end within ${PATIENCE_MS / 1_000} s`);
		},
		() => undefined as never,
	);
	try {
		return await Promise.race([new Play(stage, agent, schedule).run(), tooLong]);
	} finally {
		timer.abort();
	}
}

class Play {
	readonly #stage: FaultStage;
	readonly #agent: Agent;
	readonly #schedule: Schedule;
	readonly #faults: string[] = [];
	readonly #endings: string[] = [];
	readonly #keys: string[] = [];
	readonly #count = { answered: 0, refused: 0, unknown: 0 };

	constructor(stage: FaultStage, agent: Agent, schedule: Schedule) {
		this.#stage = stage;
		this.#agent = agent;
		this.#schedule = schedule;
	}

	async run(): Promise<Played> {
		const { proxy, reprice } = this.#agent.stand;
		proxy.trace = this.#agent.trace;
		await this.#traceBooks();
		proxy.forget();
		reprice(this.#schedule.isDear);
		for (const [index, round] of this.#schedule.rounds.entries()) await this.#round(index, round);
		await proxy.quiet();
		await this.#traceBooks();
		await this.#goOn();
		await this.#traceBooks();
		await this.#compare();
		return { ...this.#count, endings: this.#endings, faults: [...this.#faults, ...this.#agent.tally.faults] };
	}

	async #traceBooks(): Promise<void> {
		const { client, stand, trace } = this.#agent;
		for (const channel of client.channels) {
			const { channelId, deposit, signed, consumed, uncertain } = channel;
			const { acceptedCumulative, spent } = (await stand.server.ledger(channel)) ?? {};
			trace(`   ${channelId.slice(0, 8)} client ${JSON.stringify({ deposit, signed, consumed, uncertain }, texts)}`);
			trace(`   ${channelId.slice(0, 8)} server ${JSON.stringify({ acceptedCumulative, spent }, texts)}`);
		}
	}

	async #round(index: number, { asks, happening }: Round): Promise<void> {
		const { tally, stand } = this.#agent;
		const { proxy } = stand;
		const reached = Promise.withResolvers<void>();
		let others = 0;
		const names = new Map<string, string>();
		proxy.disturb(
			({ key, attempt }) => {
				// What the client sends for itself has a random key: it is named by its turn.
				const name = this.#keys.includes(key) ? key : (names.get(key) ?? `own ${others++}`);
				names.set(key, name);
				return faultOf(this.#schedule, name, attempt);
			},
			(key) => tally.strand(key),
			(count) => count >= (happening?.afterExchanges ?? 0) && reached.resolve(),
		);
		if (happening?.afterExchanges === 0) reached.resolve();
		const happened = happening && reached.promise.then(() => this.#happen(happening.what));
		await Promise.all(asks.map((ask, number) => this.#ask(`${this.#name}-${index}-${number}`, ask)));
		reached.resolve();
		await happened;
	}

	get #name(): string {
		return `${this.#schedule.seed}-${this.#schedule.index}`;
	}

	async #ask(key: string, { path, method, afterMs }: Ask): Promise<void> {
		const { client, tally, stand } = this.#agent;
		if (afterMs > 0) await pause(afterMs);
		this.#keys.push(key);
		const isCharge = path === "/charge";
		tally.begin(key, isCharge ? "charge" : "session", path === "/priced" ? DEAREST : PRICE);
		const url = `http://${stand.proxy.host}${path}?n=${key}`;
		const init = {
			method,
			headers: { "Idempotency-Key": key },
			...(method === "POST" && { body: JSON.stringify({ key }) }),
		};
		try {
			const response = await client.fetch(url, init);
			if (response.status === 200) return await this.#answered(key, response);
			await response.arrayBuffer();
			this.#ended(key, stand.proxy.trail(key).isLost ? "unknown" : "refused", String(response.status));
		} catch (error) {
			this.#ended(key, "unknown", nameOf(error));
			// A store that was lost makes a server claim what it can't know of any more (D10); one that has its books does not.
			const isHonest = error instanceof OverchargeError && !this.#agent.forgotten.has(error.channelId);
			if (isHonest) this.#faults.push(`${key} was refused what it owes: ${error.message}`);
		}
	}

	async #answered(key: string, response: Response): Promise<void> {
		const { stand } = this.#agent;
		let body: { n?: string };
		try {
			body = (await response.json()) as { n?: string };
		} catch {
			// Its head came, and with it the receipt; its body is lost, and was paid.
			this.#ended(key, "unknown", "no body");
			return;
		}
		if (body.n !== key) this.#faults.push(`${key} got the answer of ${body.n}`);
		if (response.headers.get("Payment-Receipt") === null) this.#faults.push(`${key} was answered without a receipt`);
		// The hook may be called after the answer has left.
		const price = await until(`${key} is in the server's books`, () => stand.charged.get(key)?.[0]?.amount);
		// Its client can't know better than what it has agreed to, until nothing is on its way.
		const { agreed } = stand.proxy.trail(key);
		this.#ended(key, "answered", "200", price > agreed ? price : agreed);
	}

	#ended(key: string, ending: "answered" | "refused" | "unknown", how: string, price?: bigint): void {
		this.#agent.tally.end(key, ending, price);
		this.#count[ending]++;
		this.#agent.trace(`${key} is ${ending}: ${how}`);
		this.#endings.push(how);
	}

	async #happen(what: Happening): Promise<void> {
		const { stand, client, tally } = this.#agent;
		this.#agent.trace(`now: ${what}`);
		switch (what) {
			case "restart":
				return stand.restart();
			case "crash":
				return stand.crash();
			case "reprice":
				stand.reprice();
				return;
			case "succeed":
				return this.#agent.succeed();
			case "close":
				await this.#close();
				return;
			case "forget":
			case "gone": {
				const channels = await Promise.all(
					client.channels.map(async (channel) => ({ channel, kept: await stand.server.ledger(channel) })),
				);
				await stand.forget(async () => {
					for (const { channel, kept } of channels) {
						if (what === "forget" || kept === undefined || kept.acceptedCumulative === 0n) continue;
						const { acceptedCumulative, voucherSignature: signature } = kept;
						tally.closed(channel.channelId, acceptedCumulative);
						await this.#stage.world.closeOnChain(stand.server.account, channel as never, acceptedCumulative, signature);
					}
				});
			}
		}
	}

	async #close(): Promise<void> {
		const { client, tally, forgotten } = this.#agent;
		try {
			for (const { channel, receipt } of await client.close()) {
				// A server that has lost its store takes what was on its way for spent, and settles it (D10).
				const isGuess = forgotten.has(channel.channelId);
				tally.closed(channel.channelId, isGuess ? channel.consumed : receipt.spent);
			}
		} catch (error) {
			this.#endings.push(`close: ${nameOf(error)}`);
		}
	}

	/** The faults are over: the client is served, within few tries. */
	async #goOn(): Promise<void> {
		const { client, tally, stand } = this.#agent;
		for (let tried = 0; tried < QUIET_TRIES; tried++) {
			const key = `${this.#name}-quiet-${tried}`;
			this.#keys.push(key);
			tally.begin(key, "session", PRICE);
			let how: string;
			try {
				const response = await client.fetch(`http://${stand.proxy.host}/session?n=${key}`, {
					headers: { "Idempotency-Key": key },
				});
				if (response.status === 200) return await this.#answered(key, response);
				how = `${response.status} ${(await response.text()).slice(0, 300)}`;
			} catch (error) {
				how = String(error);
			}
			this.#ended(key, "unknown", how);
			this.#endings.push(`quiet try ${tried + 1}: ${how}`);
		}
		this.#faults.push(`the client can't go on: ${this.#endings.slice(-QUIET_TRIES).join("; ")}`);
	}

	async #compare(): Promise<void> {
		const { client, store, stand, forgotten } = this.#agent;
		for (const key of this.#keys) this.#compareRequest(key);
		for (const channel of client.channels) {
			const { channelId, signed, consumed, deposit } = channel;
			const ledger = await until("nothing is on its way at the server", async () => {
				const kept = await stand.server.ledger(channel);
				return (kept?.reservations[stand.server.store.owner] ?? 0n) === 0n ? { kept } : undefined;
			});
			const { kept } = ledger;
			if (kept === undefined || forgotten.has(channelId)) continue;
			const about = (what: string, ours: bigint, theirs: bigint) =>
				ours === theirs || this.#faults.push(`${what}: the client has ${ours}, the server ${theirs}`);
			about("consumed", consumed, kept.spent);
			about("signed", signed < deposit ? signed : deposit, kept.acceptedCumulative);
			about("deposit", deposit, kept.deposit);
			const listed = (await store.list()).find(({ record }) => record.state.channelId === channelId);
			const onDisk = BigInt(listed?.record.state.signed ?? 0);
			if (onDisk < signed) this.#faults.push(`${signed} is signed, and the wallet says ${onDisk}`);
		}
	}

	#compareRequest(key: string): void {
		const { stand } = this.#agent;
		const charged = stand.charged.get(key) ?? [];
		const lives = new Set(charged.map(({ life }) => life));
		if (lives.size < charged.length) this.#faults.push(`${key} was charged ${charged.length} times`);
		const served = stand.proxy.trail(key).answers.filter(({ status }) => status === 200);
		// What answers about the channel alone, as a repeated open is answered, has no run.
		const ran = served.map(({ body }) => (JSON.parse(body.toString("utf8")) as { run?: number }).run);
		const runs = new Set(ran.filter((run) => run !== undefined));
		if (runs.size > Math.max(1, lives.size)) this.#faults.push(`${key} was served ${runs.size} times`);
	}
}

function nameOf(error: unknown): string {
	if (!(error instanceof Error)) return String(error);
	const { cause } = error as { cause?: { code?: string } };
	return "code" in error
		? `${error.name} ${error.message.slice(0, 200)}`
		: `${error.name} ${cause?.code ?? error.message}`;
}

function texts(_name: string, value: unknown): unknown {
	return typeof value === "bigint" ? String(value) : value;
}
