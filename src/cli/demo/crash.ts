/** Points at which a server kills itself, to show that nothing is lost or done twice whatever the moment. */
import { type Hex, keccak256, type Transport } from "viem";
import { type OutboxEntry, versionsOf } from "../../escrow/outbox.ts";
import type { ChannelStore, Committed, Turn, TurnKeys, TurnView } from "../../server/store/store.ts";
import { say } from "./asChild.ts";

/** Where a server can die, in the order of what happens to one transaction of ours. */
export const CRASH_POINTS = {
	/** Everything is checked, the transaction is signed, nothing of it is on disk. */
	record: "before the outbox write",
	/** It is on disk; no node has heard of it. */
	recorded: "after the outbox write, before the broadcast",
	/** A node has it; nobody has looked at its outcome. */
	broadcast: "after the broadcast",
	/** It is mined and its receipt has been read; nothing follows from it yet. */
	mined: "after the receipt was read, before it is processed",
	/** What follows from it is on disk. */
	concluded: "after the conclusion is on disk",
	/** The request that is paid with it is running. */
	handler: "while the handler runs",
	/** Its answer, receipt included, is about to leave. */
	answer: "before the answer leaves",
} as const;

export type CrashPoint = keyof typeof CRASH_POINTS;

/** One order to die. `lost-answer` is no crash: the node that took the transaction fails, and the next one knows it as mined. */
export type Order = Readonly<{
	kind: "open" | "topUp" | "close" | "charge" | "settle" | "retire";
	point: CrashPoint | "lost-answer";
}>;

/**
 * Carries out an order to die: sees every transaction pass through the store and to the node.
 *
 * @example
 * const crash = new Crash();
 * const store = await crash.watchStore(await LevelStore.open({ folder }));
 * const client = createPublicClient({ transport: crash.watchNode(http(rpcUrl)) });
 * crash.arm({ kind: "settle", point: "broadcast" });
 */
export class Crash {
	#order: Order | undefined;
	/** What transactions are for, by the hash of each version. */
	readonly #kinds = new Map<string, string>();

	/** The next opportunity is taken. */
	arm(order: Order): void {
		this.#order = order;
		say({ armed: `${order.kind} ${order.point}` });
	}

	/** The kind of transaction that this process is to die at. */
	get kind(): Order["kind"] | undefined {
		return this.#order?.kind;
	}

	dieIfDue(kind: string | undefined, point: CrashPoint): void {
		if (!this.#isDue(kind, point)) return;
		say({ died: `${kind} ${point}` });
		process.kill(process.pid, "SIGKILL");
		for (;;); // Not one step further.
	}

	/** The same store, which tells of each outbox entry before it is handed over, and after it is on disk. */
	async watchStore(store: ChannelStore): Promise<ChannelStore> {
		for await (const entry of store.outbox({ state: "pending" })) this.#know(entry);
		return watched(
			store,
			(entry) => {
				this.#know(entry);
				if (entry.state === "pending") this.dieIfDue(entry.purpose.kind, "record");
			},
			(entry) => {
				if (entry.state !== "pending") this.dieIfDue(entry.purpose.kind, "concluded");
			},
		);
	}

	/** The same node; what is sent to it, and what it says of transactions, is seen on the way. */
	watchNode(node: Transport): Transport {
		return (parameters) => {
			const inner = node(parameters);
			const ask = (args: unknown) => inner.request(args as never) as Promise<unknown>;
			const request = async (args: { method: string; params?: readonly unknown[] }): Promise<unknown> => {
				const [first] = args.params ?? [];
				if (args.method === "eth_sendRawTransaction") return this.#send(args, keccak256(first as Hex), ask);
				const answer = await ask(args);
				if (args.method === "eth_getTransactionReceipt" && answer !== null)
					this.dieIfDue(this.#kinds.get(first as Hex), "mined");
				return answer;
			};
			return { ...inner, request: request as typeof inner.request };
		};
	}

	async #send(args: unknown, hash: Hex, ask: (args: unknown) => Promise<unknown>): Promise<unknown> {
		const kind = this.#kinds.get(hash);
		this.dieIfDue(kind, "recorded");
		const answer = await ask(args);
		this.dieIfDue(kind, "broadcast");
		if (!this.#isDue(kind, "lost-answer")) return answer;
		this.#order = undefined;
		for (let mined: unknown = null; mined === null; ) {
			mined = await ask({ method: "eth_getTransactionReceipt", params: [hash] });
		}
		return ask(args);
	}

	#know(entry: OutboxEntry): void {
		for (const { hash } of versionsOf(entry)) this.#kinds.set(hash, entry.purpose.kind);
	}

	#isDue(kind: string | undefined, point: Order["point"]): boolean {
		return this.#order?.point === point && this.#order.kind === kind;
	}
}

function watched(
	store: ChannelStore,
	beforeWrite: (entry: OutboxEntry) => void,
	afterWrite: (entry: OutboxEntry) => void,
): ChannelStore {
	return {
		owner: store.owner,
		isGone: (owner) => store.isGone(owner),
		async transact<T>(keys: TurnKeys, turn: (view: TurnView) => Turn<T>): Promise<Committed<T>> {
			let entries: readonly OutboxEntry[] = [];
			const { value, durable } = await store.transact(keys, (view) => {
				const step = turn(view);
				entries = step.writes?.outbox ?? [];
				for (const entry of entries) beforeWrite(entry);
				return step;
			});
			const told = durable.then(() => entries.forEach(afterWrite));
			told.catch(() => undefined);
			return { value, durable: told };
		},
		peek: (channelId) => store.peek(channelId),
		channel: (channelId) => store.channel(channelId),
		due: (order, options) => store.due(order, options),
		channels: (options) => store.channels(options),
		outbox: (options) => store.outbox(options),
		cursor: (name) => store.cursor(name),
		putCursor: (cursor) => store.putCursor(cursor),
		audit: (options) => store.audit(options),
		quarantined: () => store.quarantined(),
		prune: (now) => store.prune(now),
		close: () => store.close(),
	};
}
