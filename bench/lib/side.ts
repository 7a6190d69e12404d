/**
 * What is measured runs in a process of its own, its side: it is started once, does its rounds when it is told to, and ends.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { profileArguments } from "./profiling.ts";
import type { Round } from "./round.ts";

/** A side in its own process: what it told when it was ready, and its rounds. */
export type RunningSide<Order, Info> = Readonly<{
	info: Info;
	pid: number;
	/** One at a time. */
	round(order: Order): Promise<Round>;
	/** Ends the process, after the side's own `stop`. */
	stop(): Promise<void>;
}>;

/** Whatever has to be stopped. */
export type Stoppable = Readonly<{ stop(): Promise<void> }>;

/**
 * Waits for sides that start at the same time. Where one fails the others are stopped.
 *
 * @throws what the first one failed with
 * @example
 * const [ours, theirs] = await together(startSide(script, start), startPeer(script, start, { progress }));
 */
export async function together<Starts extends readonly Promise<Stoppable | undefined>[]>(
	...starts: Starts
): Promise<{ -readonly [Name in keyof Starts]: Awaited<Starts[Name]> }> {
	const ended = await Promise.allSettled(starts);
	const failed = ended.find((one) => one.status === "rejected");
	const started = ended.map((one) => (one.status === "fulfilled" ? one.value : undefined));
	if (failed === undefined) return started as { -readonly [Name in keyof Starts]: Awaited<Starts[Name]> };
	await Promise.all(started.map((one) => one?.stop()));
	throw failed.reason;
}

/** What a side's script hands to `serveSide`. */
export type Side<Order, Info> = Readonly<{
	info: Info;
	round(order: Order): Promise<Round>;
	stop?(): Promise<void>;
}>;

export type SideOptions = Readonly<{
	/** Variables of its environment besides this process's. */
	env?: Readonly<Record<string, string>>;
	execArgv?: readonly string[];
}>;

type Told = Readonly<{ start: unknown } | { round: unknown } | { stop: true }>;
type Answer = Readonly<{ value: unknown } | { error: string }>;

/**
 * For every side, ours or a peer's. Without pretenuring: V8 takes what requests make at the start, while their channels are new,
 * for what will live long, and from then on makes it where only a major collection looks for garbage (docs/performance.md).
 */
const NODE_FLAGS = ["--expose-gc", "--disable-warning=ExperimentalWarning", "--no-allocation-site-pretenuring"];

/** How long a side may take to stop by itself. */
const STOP_MS = 30_000;

/** How long a process may take to end after that: it writes its profile, where it makes one. */
const END_MS = 10_000;

/**
 * Starts a side's script in a process of its own.
 *
 * @param script its file, which calls `serveSide`
 * @param start what its `start` gets; anything that can be cloned
 * @throws what the side failed with, or that it ended
 * @example
 * const side = await startSide<Order, Info>(new URL("./ours.ts", import.meta.url), { channels: 200 });
 * const round = await side.round({ count: 10_000 });
 * await side.stop();
 */
export async function startSide<Order, Info>(
	script: URL,
	start: unknown,
	{ env = {}, execArgv = [] }: SideOptions = {},
): Promise<RunningSide<Order, Info>> {
	const child = fork(script, {
		execArgv: [...NODE_FLAGS, ...profileArguments(script), ...execArgv],
		serialization: "advanced",
		env: { ...process.env, NODE_ENV: "production", ...env },
	});
	try {
		const info = (await tell(child, { start })) as Info;
		return {
			info,
			pid: child.pid ?? 0,
			round: async (order) => (await tell(child, { round: order })) as Round,
			async stop() {
				if (!child.connected) return;
				await Promise.race([
					tell(child, { stop: true }),
					once(child, "exit", { signal: AbortSignal.timeout(STOP_MS) }),
				]);
				await end(child);
			},
		};
	} catch (error) {
		await end(child);
		throw error;
	}
}

/**
 * Serves this process's side to whoever started it.
 *
 * @example
 * serveSide(async ({ channels }: Start) => ({ info: {}, round: ({ count }: Order) => measureRound(count, () => work(channels)) }));
 */
export function serveSide<Start, Order, Info>(start: (start: Start) => Promise<Side<Order, Info>>): void {
	let side: Side<Order, Info> | undefined;
	const obey = async (told: Told): Promise<unknown> => {
		if ("start" in told) {
			side = await start(told.start as Start);
			return side.info;
		}
		if (side === undefined) throw new Error("this side was not started");
		if ("round" in told) return side.round(told.round as Order);
		await side.stop?.();
		return undefined;
	};
	// Whoever started it has let go of it, or is gone itself.
	process.on("disconnect", () => process.exit());
	process.on("message", (told: Told) => {
		obey(told).then(
			(value) => process.send?.({ value }),
			(error: unknown) =>
				process.send?.({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
		);
	});
}

async function tell(child: ChildProcess, told: Told): Promise<unknown> {
	const over = new AbortController();
	const { signal } = over;
	const answered = once(child, "message", { signal });
	const gone = once(child, "exit", { signal }).then(() => {
		throw new Error(`a side of the bench ended at "${Object.keys(told).join()}"`);
	});
	child.send(told);
	try {
		const [answer] = (await Promise.race([answered, gone])) as [Answer];
		if ("error" in answer) throw new Error(answer.error);
		return answer.value;
	} finally {
		over.abort();
		answered.catch(() => undefined);
		gone.catch(() => undefined);
	}
}

async function end(child: ChildProcess): Promise<void> {
	if (child.exitCode !== null || child.signalCode !== null) return;
	const ended = once(child, "exit");
	if (child.connected) child.disconnect();
	const late = setTimeout(() => child.kill("SIGKILL"), END_MS);
	await ended;
	clearTimeout(late);
}
