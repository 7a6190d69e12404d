import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { retryAfterMs } from "../../src/client/answer.ts";
import { sendWithRetries } from "../../src/client/retry.ts";

const comeBack = (status: number, after = "1") => new Response("later", { status, headers: { "retry-after": after } });

/** Sends the answers one after the other; the last one again and again. */
function sender(...answers: readonly (Response | Error)[]) {
	let sent = 0;
	const send = async () => {
		const answer = answers[Math.min(sent++, answers.length - 1)];
		if (answer instanceof Error) throw answer;
		if (answer === undefined) throw new Error("nothing to answer");
		return answer.clone();
	};
	return { send, sent: () => sent };
}

describe("sending again", () => {
	beforeEach(() => void vi.useFakeTimers());
	afterEach(() => void vi.useRealTimers());

	/** The outcome, with the clock turned as far as it takes. */
	async function outcome(promise: Promise<Response>): Promise<Response | Error> {
		const settled = promise.catch((error: Error) => error);
		await vi.runAllTimersAsync();
		return settled;
	}

	it("happens after a broken connection, until there is an answer", async () => {
		const { send, sent } = sender(new TypeError("fetch failed"), new TypeError("fetch failed"), new Response("ok"));
		expect(await outcome(sendWithRetries(send, retryAfterMs, {}))).toMatchObject({ status: 200 });
		expect(sent()).toBe(3);
	});

	it("ends with the connection's own error when all tries are used up", async () => {
		const broken = new TypeError("fetch failed");
		const { send, sent } = sender(broken);
		expect(await outcome(sendWithRetries(send, retryAfterMs, { retries: 3 }))).toBe(broken);
		expect(sent()).toBe(4);
	});

	it.each([409, 425, 429, 503])("happens when the server asks for it with %i and Retry-After", async (status) => {
		const { send, sent } = sender(comeBack(status), new Response("ok"));
		expect(await outcome(sendWithRetries(send, retryAfterMs, {}))).toMatchObject({ status: 200 });
		expect(sent()).toBe(2);
	});

	it("hands the last answer on, unread, when the server never stops asking", async () => {
		const { send, sent } = sender(comeBack(503));
		const last = await outcome(sendWithRetries(send, retryAfterMs, { retries: 2 }));
		expect(last).toMatchObject({ status: 503 });
		expect(last instanceof Response && (await last.text())).toBe("later");
		expect(sent()).toBe(3);
	});

	it.each([
		["409 without Retry-After", new Response(null, { status: 409 })],
		["503 with a Retry-After that is no number", comeBack(503, "tomorrow")],
		["500 with Retry-After", comeBack(500)],
		["402 with Retry-After", comeBack(402)],
	])("does not happen for %s", async (_name, answer) => {
		const { send, sent } = sender(answer);
		expect(await outcome(sendWithRetries(send, retryAfterMs, {}))).toMatchObject({ status: answer.status });
		expect(sent()).toBe(1);
	});

	it("never waits longer than the bound, whatever the server asks for (I10)", async () => {
		const { send, sent } = sender(comeBack(503, "999999999"));
		const sending = sendWithRetries(send, retryAfterMs, { retries: 5 });
		// Five waits of at most 10 s for Retry-After and 5 s of its own.
		await vi.advanceTimersByTimeAsync(5 * 15_000);
		expect(await sending).toMatchObject({ status: 503 });
		expect(sent()).toBe(6);
	});

	it.each(["-1", "NaN", "Infinity", "soon", "1,5"])("takes no Retry-After of %s", (after) => {
		expect(retryAfterMs(comeBack(503, after))).toBeUndefined();
	});

	it.each([
		["0", 0],
		["2", 2_000],
		["10", 10_000],
		["86400", 10_000],
		["1e300", 10_000],
	])("reads Retry-After %s as %i ms", (after, ms) => {
		expect(retryAfterMs(comeBack(503, after))).toBe(ms);
	});

	it.each([
		[3_000, 3_000],
		[-60_000, 0],
		[86_400_000, 10_000],
	])("reads a Retry-After that is a moment, %i ms from now, as %i ms", (fromNow, ms) => {
		vi.setSystemTime(1_800_000_000_000);
		expect(retryAfterMs(comeBack(503, new Date(Date.now() + fromNow).toUTCString()))).toBe(ms);
	});

	it("never happens twice after the same pause: those that failed together do not come back together", async () => {
		const pauses: number[] = [];
		for (let i = 0; i < 20; i++) {
			const { send } = sender(new TypeError("fetch failed"), new Response("ok"));
			const begun = Date.now();
			await outcome(sendWithRetries(send, retryAfterMs, { minDelayMs: 1_000 }));
			pauses.push(Date.now() - begun);
		}
		expect(Math.min(...pauses)).toBeGreaterThanOrEqual(1_000);
		expect(Math.max(...pauses)).toBeLessThanOrEqual(2_000);
		expect(new Set(pauses).size).toBeGreaterThan(5);
	});

	it("lets go of the answers it does not hand on", async () => {
		const cancelled = vi.fn();
		const held = new Response(new ReadableStream({ cancel: cancelled }), {
			status: 503,
			headers: { "retry-after": "1" },
		});
		const answers = [held, new Response("ok")];
		const sending = sendWithRetries(async () => answers.shift() ?? new Response(), retryAfterMs, {});
		expect(await outcome(sending)).toMatchObject({ status: 200 });
		expect(cancelled).toHaveBeenCalledOnce();
	});

	it("ends at once with the caller's abort: while it waits for Retry-After", async () => {
		const { send, sent } = sender(comeBack(503, "10"));
		const controller = new AbortController();
		const sending = sendWithRetries(send, retryAfterMs, { signal: controller.signal }).catch((error: Error) => error);
		await vi.advanceTimersByTimeAsync(1);
		controller.abort();
		await vi.advanceTimersByTimeAsync(0);
		expect(await sending).toMatchObject({ name: "AbortError" });
		expect(sent()).toBe(1);
		expect(vi.getTimerCount()).toBe(0);
	});

	it("ends at once with the caller's abort: before anything is sent", async () => {
		const { send, sent } = sender(new Response("ok"));
		const aborted = AbortSignal.abort(new Error("the caller's reason"));
		expect(await outcome(sendWithRetries(send, retryAfterMs, { signal: aborted }))).toMatchObject({
			message: "the caller's reason",
		});
		expect(sent()).toBe(0);
	});
});
