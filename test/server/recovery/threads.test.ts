import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { bytesToHex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type Crypto, loadCrypto } from "../../../src/server/crypto.ts";
import {
	packAnswers,
	packQuestions,
	type Question,
	unpackAnswers,
	unpackQuestions,
} from "../../../src/server/recovery/messages.ts";
import { RecoveryThreads, type RecoveryThreadsOptions } from "../../../src/server/recovery/threads.ts";
import { parseSignature } from "../../../src/voucher/index.ts";

const account = privateKeyToAccount(generatePrivateKey());
let crypto: Crypto;
let threads: RecoveryThreads;
let warned: unknown[];
const log = { info: () => undefined, error: () => undefined, warn: (values: object) => void warned.push(values) };

beforeEach(async () => {
	crypto = await loadCrypto();
	warned = [];
	threads = threadsOf();
	await allReady();
});
afterEach(async () => {
	await threads.stop();
	expect(terminate).not.toHaveBeenCalled();
});

/** Whatever native code calls in a thread just then fails, and libsecp256k1's addon ends the whole process over it. */
const terminate = vi.spyOn(Worker.prototype, "terminate");

function threadsOf(options: Partial<RecoveryThreadsOptions> = {}): RecoveryThreads {
	const { secp256k1, curve } = crypto;
	return new RecoveryThreads({ threads: 2, secp256k1, curve, log, startAfter: 0, ...options });
}

const allReady = () => vi.waitFor(() => expect(threads.ready).toBe(2), { timeout: 30_000 });

async function signed(): Promise<Question> {
	const digest = randomBytes(32);
	const { compact, recovery } = parseSignature(await account.sign({ hash: bytesToHex(digest) }));
	return { compact, recovery, digest };
}

/** Some that are good, some that no key fits. */
function questions(count: number): Promise<Question[]> {
	const garbage = (): Question => ({ compact: randomBytes(64).fill(255, 0, 32), recovery: 0, digest: randomBytes(32) });
	return Promise.all(Array.from({ length: count }, async (_, n) => (n % 5 === 4 ? garbage() : signed())));
}

const here = ({ compact, recovery, digest }: Question) => crypto.secp256k1.recover(compact, recovery, digest);
const there = ({ compact, recovery, digest }: Question) => threads.recover(compact, recovery, digest);

type Asked = readonly [answer: ReturnType<typeof there>, question: Question];

const STARTER = new URL("./starter.ts", import.meta.url);

/** What a process of its own says about its threads. It has to end by itself. */
async function saidBy(args: readonly string[]): Promise<unknown> {
	const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 40_000 });
	return JSON.parse(stdout);
}

describe("threads that recover keys", () => {
	it("answer what this thread would, each question its own answer", async () => {
		const all = await questions(100);
		const answers = await Promise.all(all.map(there));
		expect(answers[0]).toBeUndefined();
		expect(answers.slice(1).map((key) => key && Buffer.from(key))).toEqual(
			all.slice(1).map((question) => {
				const key = here(question);
				return key && Buffer.from(key);
			}),
		);
	});

	it("leave the first question of each turn of the event loop to whoever asks", async () => {
		const question = await signed();
		for (let turn = 0; turn < 3; turn++) {
			expect(there(question)).toBeUndefined();
			const second = there(question);
			expect(second).toBeInstanceOf(Promise);
			await second;
			await setImmediate();
		}
	});

	it("start when signatures have come together, and not before", async () => {
		await threads.stop();
		threads = threadsOf({ startAfter: 3 });
		const question = await signed();
		for (let alone = 0; alone < 10; alone++) {
			expect(there(question)).toBeUndefined();
			await setImmediate();
		}
		for (let together = 0; together < 2; together++) expect(there(question)).toBeUndefined();
		expect(threads.started).toBe(0);
		for (let together = 0; together < 2; together++) expect(there(question)).toBeUndefined();
		expect(threads.started).toBe(2);
		await allReady();
	});

	it("have a bound: what is beyond it is done here", async () => {
		const question = await signed();
		there(question);
		const asked = Array.from({ length: 5_000 }, () => there(question));
		const waiting = asked.filter((answer) => answer !== undefined);
		expect(waiting.length).toBeGreaterThan(0);
		expect(waiting.length).toBeLessThanOrEqual(2 * 512);
		const expected = here(question);
		for (const key of await Promise.all(waiting))
			expect(key && Buffer.from(key)).toEqual(expected && Buffer.from(expected));
	});

	it("are not waited for by this one while it has nothing else to do: it takes what none of them has got yet", async () => {
		await threads.stop();
		threads = threadsOf({ script: new URL("./silent.ts", import.meta.url), answerMs: 600_000 });
		await allReady();
		const all = await questions(100);
		let ofTheirs = 0;
		const asked = all.map((question, place) => {
			const answer = there(question);
			if (place < 60) void answer?.then(() => ofTheirs++);
			return answer;
		});
		const answers = await Promise.all(asked.slice(-20));
		expect(answers.map((key) => key && Buffer.from(key))).toEqual(all.slice(-20).map(ofHere));
		expect(ofTheirs).toBe(0);
	});

	it.each([
		["end by themselves", "broken"],
		["do not answer", "silent"],
	])("that %s are replaced by this one, and nobody waits for ever (I10)", async (_, name) => {
		await threads.stop();
		threads = threadsOf({ script: new URL(`./${name}.ts`, import.meta.url) });
		await allReady();
		const all = await questions(60);
		const asked = againAndAgain(all, 600);
		expect(asked.filter(([answer]) => answer !== undefined).length).toBeGreaterThan(500);
		await expectAnswers(asked);
		await vi.waitFor(() => expect(warned).toHaveLength(2), { timeout: 30_000 });
		await setImmediate();
		there(all[0] as Question);
		expect(there(all[1] as Question)).toBeUndefined();
	});

	it("of which none is left leave nobody waiting, while others come in every turn (I10)", async () => {
		await threads.stop();
		threads = threadsOf({ threads: 1, script: new URL("./silent.ts", import.meta.url), answerMs: 200 });
		await vi.waitFor(() => expect(threads.ready).toBe(1), { timeout: 30_000 });
		const all = await questions(60);
		const asked = againAndAgain(all, 400);
		const answered = expectAnswers(asked);
		const state = { isOver: false };
		void answered.finally(() => {
			state.isOver = true;
		});
		const later: Asked[] = [];
		while (!state.isOver) {
			later.push(...againAndAgain(all, 2));
			await setImmediate();
		}
		await answered;
		await expectAnswers(later);
		expect(warned).toHaveLength(1);
	});

	it("that verify by another curve, or can't be made, are not used", async () => {
		await threads.stop();
		for (const script of [new URL("./otherCurve.ts", import.meta.url), new URL("https://example.com/")]) {
			warned = [];
			threads = threadsOf({ script });
			await vi.waitFor(() => expect(warned.length).toBeGreaterThan(0), { timeout: 30_000 });
			await vi.waitFor(() => expect(threads.started).toBe(0), { timeout: 30_000 });
			const question = await signed();
			expect([there(question), there(question)]).toEqual([undefined, undefined]);
			await threads.stop();
		}
	});

	it.each([
		["of V8", ["--expose-gc", "--max-semi-space-size=8"]],
		["of Node", ["--disable-warning=ExperimentalWarning"]],
	])("run in a process that was started with options %s", async (_, options) => {
		expect(await saidBy([...options, STARTER.pathname])).toEqual({ ready: 1, warned: [] });
	});

	it("run in a process that was given its program on the command line", async () => {
		const program = `await import(${JSON.stringify(STARTER.href)})`;
		expect(await saidBy(["--expose-gc", "--input-type=module", "--eval", program])).toEqual({
			ready: 1,
			warned: [],
		});
		expect(await saidBy(["--input-type=module", "-e", program])).toEqual({ ready: 1, warned: [] });
	});

	it("that are stopped have answered first, also what none of them has got yet", async () => {
		const asked = againAndAgain(await questions(60), 400);
		expect(asked.filter(([answer]) => answer !== undefined).length).toBeGreaterThan(300);
		await threads.stop();
		await expectAnswers(asked);
		expect(warned).toEqual([]);
	});

	it("that are stopped in the middle of their work never take the process with them", async () => {
		const { pathname } = new URL("./stopper.ts", import.meta.url);
		expect(await saidBy([pathname])).toEqual({ curve: "libsecp256k1", unanswered: 0, warned: [] });
	});

	it("that are at work when the process ends let it end with the exit code that it was given", async () => {
		const { pathname } = new URL("./exiter.ts", import.meta.url);
		const exits = Array.from({ length: 4 }, () =>
			promisify(execFile)(process.execPath, [pathname], { timeout: 40_000 }).catch(
				(error) => error.code ?? error.signal,
			),
		);
		expect(await Promise.all(exits)).toEqual(exits.map(() => 7));
	});

	it.each(["let go", "stopped", "left alone"])("that are %s keep no process from ending", async (how) => {
		const { pathname } = new URL("./ender.ts", import.meta.url);
		expect(await saidBy([pathname, how])).toEqual({ started: how === "left alone" ? 1 : 0 });
	});

	it("that are only starting when they are stopped are waited for", async () => {
		await threads.stop();
		threads = threadsOf();
		expect(threads.ready).toBe(0);
		await Promise.all([threads.stop(), threads.stop()]);
		expect([threads.ready, threads.started, warned]).toEqual([0, 0, []]);
	});

	it("that do not end when they are stopped are let go, and nobody waits for ever (I10)", async () => {
		await threads.stop();
		threads = threadsOf({ script: new URL("./deaf.ts", import.meta.url), answerMs: 200 });
		await allReady();
		const asked = againAndAgain(await questions(20), 100);
		await threads.stop();
		await expectAnswers(asked);
		expect(warned).toEqual([]);
	});

	/** Asks so many in one turn, from the beginning again where there are fewer. */
	function againAndAgain(all: readonly Question[], count: number): Asked[] {
		return Array.from({ length: count }, (_, n) => {
			const question = all[n % all.length] as Question;
			return [there(question), question] as const;
		});
	}

	async function expectAnswers(asked: readonly Asked[]): Promise<void> {
		for (const [answer, question] of asked) {
			if (answer === undefined) continue;
			const key = await answer;
			expect(key && Buffer.from(key)).toEqual(ofHere(question));
		}
	}

	function ofHere(question: Question) {
		const key = here(question);
		return key && Buffer.from(key);
	}
});

describe("messages", () => {
	it("carry questions and answers as they are", async () => {
		const all = await questions(7);
		expect(unpackQuestions(packQuestions(all)).map(plain)).toEqual(all.map(plain));
		const keys = all.map(here);
		expect(unpackAnswers(packAnswers(keys)).map((key) => key && bytesToHex(key))).toEqual(
			keys.map((key) => key && bytesToHex(key)),
		);
	});

	const plain = ({ compact, recovery, digest }: Question) => [bytesToHex(compact), recovery, bytesToHex(digest)];
});
