import { connect, type Socket } from "node:net";
import type { Hex } from "viem";
import type { z } from "zod";
import {
	type ChannelRecord,
	type CounterRefusal,
	type DamagedChannel,
	type HeldChannel,
	type ListedChannel,
	type ListOptions,
	type PayerStore,
	PayerStoreError,
	type PaymentRecord,
	type ReceiptRecord,
	type StoreWrite,
} from "../store/store.ts";
import { hear, lineOf, MAX_LINE_BYTES } from "./lines.ts";
import { describeOwner, isSame, type Whereabouts } from "./whereabouts.ts";
import {
	answerShapes,
	errorOf,
	type FromOwner,
	fromOwnerShape,
	greetingShape,
	type Hello,
	MAX_CALLS,
	MAX_WAIT_MS,
	plain,
	WIRE_VERSION,
	welcomeShape,
} from "./wire.ts";

/** The process that had the wallet open is gone, or has thrown this one out: whether a call was carried out is unknown. */
export class OwnerGoneError extends Error {
	override readonly name = "OwnerGoneError";
	readonly code = "OWNER_GONE";
}

/** How long the owner may take to let a holder go. */
const LEAVE_MS = 2_000;

export type DialOptions = Readonly<{
	owner: Whereabouts;
	hello: Omit<Hello, "wallet" | "token">;
	/** How long the owner may take to let this process in. */
	welcomeMs: number;
	/** How long the owner may take to answer a call. */
	answerMs: number;
}>;

type Pending = {
	shape: z.ZodType;
	parts: unknown[];
	resolve: (answer: unknown) => void;
	reject: (error: Error) => void;
	/** Nobody waits any more, but what the answer grants has to be given back. */
	isAbandoned: boolean;
	deadline: NodeJS.Timeout;
};

/** The wallet as one holder sees it whose process is not its owner: every call goes to the owner over a local socket. */
export class RemoteStore implements PayerStore {
	readonly #owner: Whereabouts;
	readonly #answerMs: number;
	readonly #socket: Socket;
	readonly #calls = new Map<number, Pending>();
	readonly #wanted = new Set<(channelId: Hex) => void>();
	readonly gone: Promise<void>;
	#lastId = 0;
	#isGone = false;
	#isClosed = false;
	#welcome: ((fault?: Error) => void) | undefined;

	/**
	 * Asks an owner to be let in.
	 *
	 * @throws OwnerGoneError when nobody is there, or it is not the owner
	 * @throws PayerStoreError when the owner is of another version
	 */
	static async dial(options: DialOptions): Promise<RemoteStore> {
		const store = new RemoteStore(options);
		await store.#introduce(options);
		return store;
	}

	private constructor({ owner, answerMs }: DialOptions) {
		this.#owner = owner;
		this.#answerMs = answerMs;
		this.#socket = connect(owner.address);
		// A wallet that nothing is asked of must not keep its process alive.
		this.#socket.unref();
		const { promise, resolve } = Promise.withResolvers<void>();
		this.gone = promise;
		hear(this.#socket, {
			message: (message) => this.#hear(message),
			gone: () => {
				this.#isGone = true;
				this.#welcome?.(new OwnerGoneError());
				for (const call of this.#calls.values()) {
					clearTimeout(call.deadline);
					call.reject(this.#goneError());
				}
				this.#calls.clear();
				resolve();
			},
		});
	}

	async #introduce({ owner, hello, welcomeMs }: DialOptions): Promise<void> {
		const timer = setTimeout(() => this.#socket.destroy(), welcomeMs);
		timer.unref();
		try {
			await new Promise<void>((resolve, reject) => {
				this.#welcome = (fault) => (fault === undefined ? resolve() : reject(fault));
				this.#send({ wallet: WIRE_VERSION, token: owner.token, ...hello });
			});
		} catch (error) {
			this.#socket.destroy();
			throw error;
		} finally {
			clearTimeout(timer);
			this.#welcome = undefined;
		}
	}

	#hear(message: unknown): void {
		if (this.#welcome !== undefined) this.#hearWelcome(message, this.#welcome);
		else this.#hearOwner(fromOwnerShape.parse(message));
	}

	#hearOwner(heard: FromOwner): void {
		if ("ping" in heard) this.#send({ pong: true });
		else if ("wanted" in heard) for (const listener of this.#wanted) listener(heard.wanted);
		else this.#hearAnswer(heard);
	}

	#hearAnswer(heard: Extract<FromOwner, { id: number }>): void {
		const call = this.#calls.get(heard.id);
		if (call === undefined) return;
		if ("part" in heard) {
			for (const item of heard.part) call.parts.push(item);
			return;
		}
		this.#calls.delete(heard.id);
		clearTimeout(call.deadline);
		if ("fault" in heard) call.reject(errorOf(heard.fault));
		else this.#settle(call, heard.answer);
	}

	#settle({ shape, parts, resolve, reject, isAbandoned }: Pending, answer: unknown): void {
		const parsed = shape.safeParse(Array.isArray(answer) ? parts.concat(answer) : answer);
		if (parsed.success) resolve(parsed.data);
		else reject(new PayerStoreError(`${describeOwner(this.#owner)} gave an answer of no use`));
		const grant = isAbandoned && shape === answerShapes.held ? answerShapes.held.safeParse(answer).data : undefined;
		if (grant) this.release(grant.record.state.channelId, grant.fence).catch(() => undefined);
	}

	#hearWelcome(message: unknown, welcome: (fault?: Error) => void): void {
		const { wallet } = greetingShape.parse(message);
		if (wallet !== WIRE_VERSION) {
			const hint = "stop it, or use the same version of sluice in both";
			welcome(new PayerStoreError(`${describeOwner(this.#owner)} has the wallet open in another version: ${hint}`));
			return;
		}
		// Whoever can't answer this may not be told anything.
		if (isSame(welcomeShape.parse(message).answer, this.#owner.answer)) welcome();
		else welcome(new OwnerGoneError());
	}

	#send(message: unknown): void {
		const line = lineOf(message);
		if (line === undefined) throw new PayerStoreError(`that is more than ${MAX_LINE_BYTES} bytes: it can't be kept`);
		this.#socket.write(line);
	}

	async #ask<Shape extends z.ZodType>(
		shape: Shape,
		ask: Readonly<{ call: string; waitMs?: number }> & Readonly<Record<string, unknown>>,
		signal?: AbortSignal,
	): Promise<z.output<Shape>> {
		signal?.throwIfAborted();
		if (this.#isClosed || this.#isGone || this.#socket.destroyed) throw this.#goneError();
		if (this.#calls.size >= MAX_CALLS)
			throw new PayerStoreError(`more than ${MAX_CALLS} calls wait for the wallet: ask for less at a time`);
		const id = ++this.#lastId;
		const { promise, resolve, reject } = Promise.withResolvers<unknown>();
		const abandon = (error: unknown) => {
			const call = this.#calls.get(id);
			if (call === undefined) return;
			call.isAbandoned = true;
			reject(error);
			this.#send({ cancel: id });
		};
		const deadline = setTimeout(() => abandon(this.#silent()), (ask.waitMs ?? 0) + this.#answerMs);
		deadline.unref();
		const onAbort = () => abandon(signal?.reason);
		signal?.addEventListener("abort", onAbort, { once: true });
		try {
			this.#send({ id, ask: plain(ask) });
			this.#calls.set(id, { shape, parts: [], resolve, reject, isAbandoned: false, deadline });
			return (await promise) as z.output<Shape>;
		} finally {
			clearTimeout(deadline);
			signal?.removeEventListener("abort", onAbort);
		}
	}

	#goneError(): Error {
		return this.#isClosed ? new PayerStoreError("this wallet is closed: open it again") : new OwnerGoneError();
	}

	#silent(): PayerStoreError {
		const { pid } = this.#owner;
		const who = describeOwner(this.#owner);
		return new PayerStoreError(
			`${who} has the wallet open and doesn't answer; if it hangs, end it (\`kill ${pid}\`): another takes over`,
		);
	}

	async take(key: string, waitMs = 0, signal?: AbortSignal): Promise<HeldChannel | undefined> {
		const ask = { call: "take", key, waitMs: bounded(waitMs) };
		return (await this.#ask(answerShapes.held, ask, signal)) ?? undefined;
	}

	async takeById(channelId: Hex, waitMs = 0, signal?: AbortSignal): Promise<HeldChannel | undefined> {
		const ask = { call: "takeById", channelId, waitMs: bounded(waitMs) };
		return (await this.#ask(answerShapes.held, ask, signal)) ?? undefined;
	}

	async add(record: ChannelRecord, max: number): Promise<HeldChannel | undefined> {
		return (await this.#ask(answerShapes.held, { call: "add", record, max })) ?? undefined;
	}

	async write({ channel, counters, isSpending }: StoreWrite): Promise<CounterRefusal | undefined> {
		return (await this.#ask(answerShapes.refusal, { call: "write", channel, counters, isSpending })) ?? undefined;
	}

	async confirm(channelId: Hex, fence: number): Promise<void> {
		await this.#ask(answerShapes.none, { call: "confirm", channelId, fence });
	}

	async release(channelId: Hex, fence: number): Promise<void> {
		await this.#ask(answerShapes.none, { call: "release", channelId, fence });
	}

	list({ isClosed }: ListOptions = {}): Promise<readonly ListedChannel[]> {
		return this.#ask(answerShapes.listed, { call: "list", isClosed });
	}

	damaged(): Promise<readonly DamagedChannel[]> {
		return this.#ask(answerShapes.damaged, { call: "damaged" });
	}

	counts(keys: readonly string[]): Promise<readonly bigint[]> {
		return this.#ask(answerShapes.counts, { call: "counts", keys });
	}

	async note(receipt: ReceiptRecord): Promise<void> {
		await this.#ask(answerShapes.none, { call: "note", receipt });
	}

	receipts(limit?: number): Promise<readonly ReceiptRecord[]> {
		return this.#ask(answerShapes.receipts, { call: "receipts", limit });
	}

	async keepPayment(key: string, payment: PaymentRecord): Promise<void> {
		await this.#ask(answerShapes.none, { call: "keepPayment", key, payment });
	}

	async takePayment(key: string, named?: string): Promise<PaymentRecord | undefined> {
		return (await this.#ask(answerShapes.payment, { call: "takePayment", key, named })) ?? undefined;
	}

	async freePayment(key: string, id: Hex): Promise<void> {
		await this.#ask(answerShapes.none, { call: "freePayment", key, id });
	}

	async dropPayment(key: string, id: Hex): Promise<void> {
		await this.#ask(answerShapes.none, { call: "dropPayment", key, id });
	}

	async setPaused(reason: string | undefined): Promise<void> {
		await this.#ask(answerShapes.none, { call: "setPaused", reason: reason ?? null });
	}

	async paused(): Promise<string | undefined> {
		return (await this.#ask(answerShapes.paused, { call: "paused" })) ?? undefined;
	}

	onWanted(listener: (channelId: Hex) => void): () => void {
		this.#wanted.add(listener);
		return () => this.#wanted.delete(listener);
	}

	/** Gives everything back, as far as the owner answers, and hangs up. */
	async close(): Promise<void> {
		const left = this.#ask(answerShapes.none, { call: "leave" }).catch(() => undefined);
		this.#isClosed = true;
		// Hanging up frees what it has just as well, when the owner notices.
		const deadline = setTimeout(() => this.hangUp(), LEAVE_MS);
		deadline.unref();
		await left;
		clearTimeout(deadline);
		this.hangUp();
	}

	/** Goes without a word, as if its process had ended. */
	hangUp(): void {
		this.#socket.destroy();
	}
}

function bounded(waitMs: number): number {
	return Math.max(0, Math.min(Math.ceil(waitMs), MAX_WAIT_MS));
}
