import { extname } from "node:path";
import { setImmediate } from "node:timers";
import { Worker, type WorkerOptions } from "node:worker_threads";
import type { Secp256k1 } from "../../voucher/index.ts";
import type { EngineLog } from "../context.ts";
import type { Crypto } from "../crypto.ts";
import { describeError } from "../describeError.ts";
import { Gate } from "./gate.ts";
import { END, packQuestions, type Question, unpackAnswers } from "./messages.ts";

/**
 * How many signatures go to a thread at a time: few enough that this thread has the first answers to work on while the other
 * one makes the next, many enough that the message costs each of them little.
 */
const BATCH = 16;

/** How many signatures a thread may have got at a time: it finds the next message when it is done with one. */
const MOST_ASKED = 2 * BATCH;

/** How many signatures may wait for each thread, those it has got among them. What comes beyond them is done where it comes. */
const MOST_WAITING = 512;

/** How often signatures have to have come together before threads are started for them: an idle server needs none. */
const START_AFTER = 100;

/** How long a thread may take for a message, in ms: a thousand times what the native library takes, seventy times what JavaScript does. */
const ANSWER_MS = 2_000;

type Recovered = Uint8Array | undefined;
type Asked = Question & Readonly<{ resolve(key: Recovered): void }>;

export type RecoveryThreadsOptions = Readonly<{
	/** How many threads. */
	threads: number;
	/** This thread's own arithmetic: the same. */
	secp256k1: Secp256k1;
	/** Its name: theirs has to be the same. */
	curve: Crypto["curve"];
	log: EngineLog;
	/** What they run. */
	script?: URL;
	/** They start when so many signatures have come together with others (default 100). */
	startAfter?: number;
	/** How long one may take for a message, in ms (default 2,000). */
	answerMs?: number;
}>;

/** Compiled, it is JavaScript as this file is then. */
const ownScript = () => new URL(`./thread${extname(import.meta.url)}`, import.meta.url);

/** What is for the main thread alone: with it a thread would not start. */
const MAIN_THREADS_OWN = /^(?:--(?:input-type|eval|print)|-p?e|-p)\b/;

/** What it makes is forgotten at once: without this V8 gives it as much room for that as a whole server has. */
const resourceLimits = { maxYoungGenerationSizeMb: 4 };

let gate: Gate | undefined;

/** For all threads of the process; it is shut when that ends. */
function onlyGate(): Gate {
	if (gate === undefined) {
		const made = new Gate();
		process.prependOnceListener("exit", () => made.shut());
		gate = made;
	}
	return gate;
}

/** A thread takes over the process's options by itself; if they are named, those of V8 are refused. */
function threadOptions(): WorkerOptions {
	const options = { resourceLimits, workerData: onlyGate().shared };
	return process.execArgv.some((option) => MAIN_THREADS_OWN.test(option)) ? { ...options, execArgv: [] } : options;
}

/**
 * Recovers the keys of signatures on other threads: nearly half of what a paid request costs, which then takes its time beside
 * the rest. Only arithmetic goes there. Where a signature comes alone, handing it over would take longer than the answer, so
 * the first one of a turn of the event loop is left to whoever asks, unless others wait already, and where all come alone no
 * thread is started.
 *
 * Nor does this thread wait for the others while signatures are all there is: after a turn in which none was taken and none came
 * back it takes one of those that wait.
 */
export class RecoveryThreads {
	readonly #options: RecoveryThreadsOptions;
	readonly #threads: Thread[] = [];
	/** What no thread has got yet. */
	readonly #waiting: Asked[] = [];
	/** A signature came in this turn of the event loop, or one is waiting. */
	#isBusy = false;
	/** No signature was taken in this turn, and none came back. */
	#isQuiet = true;
	#stopping: Promise<void> | undefined;
	/** How many more signatures have to come together with others; 0: the threads were started. */
	#toStart: number;

	constructor(options: RecoveryThreadsOptions) {
		this.#options = options;
		this.#toStart = options.startAfter ?? START_AFTER;
		if (this.#toStart === 0) this.#start();
	}

	/** How many threads there are, and how many of them take questions. */
	get started(): number {
		return this.#threads.length;
	}

	get ready(): number {
		let ready = 0;
		for (const { isReady } of this.#threads) if (isReady) ready++;
		return ready;
	}

	/** Like `Secp256k1.recover`, on another thread; `undefined`: do it here. Never rejects. */
	recover(compact: Uint8Array, recovery: 0 | 1, digest: Uint8Array): Promise<Recovered> | undefined {
		if (!this.#isBusy) {
			this.#isBusy = true;
			setImmediate(this.#endTurn);
			return undefined;
		}
		if (this.#toStart > 0 && --this.#toStart === 0 && this.#stopping === undefined) this.#start();
		if (this.#waiting.length >= (MOST_WAITING - MOST_ASKED) * this.ready) return undefined;
		this.#isQuiet = false;
		return new Promise((resolve) => {
			this.#waiting.push({ compact, recovery, digest, resolve });
			if (this.#waiting.length >= BATCH) this.#handOver();
		});
	}

	/** Ends the threads, once they have answered what they have got; what none of them has got yet is answered here. */
	stop(): Promise<void> {
		this.#stopping ??= this.#stopAll();
		return this.#stopping;
	}

	async #stopAll(): Promise<void> {
		const stopped = this.#threads.splice(0).map((thread) => thread.stop());
		this.#answerWaiting();
		await Promise.all(stopped);
	}

	#start(): void {
		const { threads } = this.#options;
		const onAnswer = () => {
			this.#isQuiet = false;
			if (this.#waiting.length >= BATCH) this.#handOver();
		};
		const onLost = (thread: Thread) => this.#lost(thread);
		try {
			for (let n = 0; n < threads; n++) this.#threads.push(new Thread(this.#options, { onAnswer, onLost }));
		} catch (error) {
			this.#warn(error);
		}
	}

	readonly #endTurn = (): void => {
		this.#handOver();
		const first = this.#isQuiet ? this.#waiting.shift() : undefined;
		if (first !== undefined) answerHere(first, this.#options.secp256k1);
		this.#isQuiet = true;
		this.#isBusy = this.#waiting.length > 0;
		if (this.#isBusy) setImmediate(this.#endTurn);
	};

	/** To the threads that have got the fewest, as far as they take more. */
	#handOver(): void {
		while (this.#waiting.length > 0) {
			const thread = this.#freest();
			if (thread === undefined) return;
			thread.ask(this.#waiting.splice(0, Math.min(BATCH, MOST_ASKED - thread.asked)));
		}
	}

	#freest(): Thread | undefined {
		let freest: Thread | undefined;
		for (const thread of this.#threads) {
			if (thread.asked < (freest?.asked ?? MOST_ASKED) && thread.isReady) freest = thread;
		}
		return freest;
	}

	#answerWaiting(): void {
		for (const asked of this.#waiting.splice(0)) answerHere(asked, this.#options.secp256k1);
	}

	/** It ended by itself: without it this thread does the work, as it would without any. */
	#lost(thread: Thread): void {
		const at = this.#threads.indexOf(thread);
		if (at >= 0) this.#threads.splice(at, 1);
		if (this.ready === 0) this.#answerWaiting();
		if (this.#stopping === undefined) this.#warn(thread.fault);
	}

	#warn(fault: unknown): void {
		this.#options.log.warn(
			{ left: this.#threads.length, reason: describeError(fault) },
			"a thread that verifies signatures does not run; the others, or the server's own, do its work until the next start",
		);
	}
}

class Thread {
	/** How many signatures it has got and not answered. */
	asked = 0;
	isReady = false;
	fault: unknown;
	#isOver = false;
	#patience: NodeJS.Timeout | undefined;
	readonly #worker: Worker;
	readonly #exited: Promise<void>;
	readonly #messages: (readonly Asked[])[] = [];
	readonly #answerMs: number;
	readonly #secp256k1: Secp256k1;
	readonly #onLost: (thread: Thread) => void;

	constructor(
		{ secp256k1, curve, script = ownScript(), answerMs = ANSWER_MS }: RecoveryThreadsOptions,
		{ onAnswer, onLost }: Readonly<{ onAnswer(): void; onLost(thread: Thread): void }>,
	) {
		this.#answerMs = answerMs;
		this.#secp256k1 = secp256k1;
		this.#onLost = onLost;
		this.#worker = new Worker(script, threadOptions());
		this.#worker.on("message", (message: Readonly<{ curve: string }> | Uint8Array) => {
			if (this.#isOver) return;
			if (message instanceof Uint8Array) {
				this.#answer(unpackAnswers(message));
				onAnswer();
			} else if (message.curve === curve) this.isReady = true;
			// A slower one would hold up what this thread does quickly.
			else this.#letGo(new Error(`it verifies by ${message.curve}, and not by ${curve}`));
		});
		// Not before: whoever begins to listen has the process wait for it again.
		this.#worker.unref();
		this.#worker.on("error", (error) => {
			this.fault ??= error;
		});
		this.#exited = new Promise((resolve) => {
			this.#worker.on("exit", () => {
				this.#over();
				resolve();
			});
		});
	}

	ask(message: readonly Asked[]): void {
		this.#messages.push(message);
		this.asked += message.length;
		const packed = packQuestions(message);
		this.#worker.postMessage(packed, [packed.buffer]);
		this.#patience ??= this.#losePatience();
	}

	/** Asks it to end, and lets it go where it does not in time. */
	async stop(): Promise<void> {
		this.#worker.ref();
		this.#worker.postMessage(END);
		let patience: NodeJS.Timeout | undefined;
		const patienceLost = new Promise((resolve) => {
			patience = setTimeout(resolve, this.#answerMs);
		});
		await Promise.race([this.#exited, patienceLost]);
		clearTimeout(patience);
		this.#worker.unref();
		this.#over();
	}

	/**
	 * It is asked nothing more, and ends by itself when it can. Never by `Worker.terminate()`: that fails whatever native code
	 * calls in the thread just then, and libsecp256k1's addon ends the whole process over it.
	 */
	#letGo(fault: Error): void {
		this.fault ??= fault;
		this.#worker.postMessage(END);
		this.#over();
	}

	/** What it has not answered is answered here. */
	#over(): void {
		if (this.#isOver) return;
		this.#isOver = true;
		this.isReady = false;
		clearTimeout(this.#patience);
		for (const asked of this.#messages.splice(0).flat()) answerHere(asked, this.#secp256k1);
		this.#onLost(this);
	}

	#losePatience(): NodeJS.Timeout {
		return setTimeout(() => this.#letGo(new Error("it did not answer in time")), this.#answerMs).unref();
	}

	/** Answers come in the order of the messages. */
	#answer(keys: readonly Recovered[]): void {
		const message = this.#messages.shift();
		if (message === undefined) return;
		this.asked -= message.length;
		clearTimeout(this.#patience);
		this.#patience = this.#messages.length > 0 ? this.#losePatience() : undefined;
		for (const [place, { resolve }] of message.entries()) resolve(keys[place]);
	}
}

function answerHere({ compact, recovery, digest, resolve }: Asked, secp256k1: Secp256k1): void {
	resolve(secp256k1.recover(compact, recovery, digest));
}
