import { expect } from "vitest";
import { type ProblemName, problemStatus, problemType } from "../../src/protocol/index.ts";
import type { Answer } from "./http.ts";
import type { PaidServer } from "./paidServer.ts";
import type { TestChannel } from "./payer.ts";

/**
 * The answer is the refusal of that name, and all that a refusal has to be: a problem body, no receipt, never cached, a
 * fresh challenge with 402 and `Retry-After` with 503.
 */
export function expectRefusal(answer: Answer, name: ProblemName): void {
	expect(answer.problem ?? answer.text, name).toMatchObject({ type: problemType(name), status: problemStatus(name) });
	expectProblem(answer);
}

/** The answer is some refusal below 500, in the form that all of them have. */
export function expectProblem(answer: Answer): void {
	const { status, problem, receipt, challenges } = answer;
	expect(status).toBeGreaterThanOrEqual(400);
	expect(problem).toMatchObject({ status, type: expect.any(String), title: expect.any(String) });
	expect(receipt).toBeUndefined();
	expect(answer.header("cache-control")).toBe("no-store");
	expect(challenges.length > 0, "a challenge comes with 402 and only with 402").toBe(status === 402);
	if (status === 503) expect(answer.header("retry-after")).toMatch(/^[1-9]\d*$/);
}

/** The answer is a paid one: 2xx, with a receipt, and out of shared caches. */
export function expectPaid(answer: Answer): void {
	expect(answer.status, answer.text).toBeGreaterThanOrEqual(200);
	expect(answer.status, answer.text).toBeLessThan(300);
	expect(answer.receipt).toMatchObject({ method: "evm", status: "success" });
	expect(answer.header("cache-control")).toMatch(/^private\b/);
}

/** Runs `action`, after which the ledger of `channels`, the payee's transactions and the handlers' counts are what they were. */
export async function unchanged<T>(
	server: PaidServer,
	channels: readonly Pick<TestChannel, "channelId">[],
	action: () => Promise<T>,
): Promise<T> {
	const before = await server.snapshot(channels);
	const result = await action();
	expect(await server.snapshot(channels)).toEqual(before);
	return result;
}

/** As `unchanged`, but the server may have asked the chain for the channels meanwhile: it is the money that did not move. */
export async function unmoved<T>(
	server: PaidServer,
	channels: readonly Pick<TestChannel, "channelId">[],
	action: () => Promise<T>,
): Promise<T> {
	const look = async () => {
		const { channels: found, ...rest } = await server.snapshot(channels);
		return { ...rest, channels: found.map((channel) => channel && { ...channel, chainReadAt: 0, blockNumber: 0 }) };
	};
	const before = await look();
	const result = await action();
	expect(await look()).toEqual(before);
	return result;
}
