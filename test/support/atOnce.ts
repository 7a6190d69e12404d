/** One credential in many requests at the same time. */
import { expect } from "vitest";
import type { ProblemName } from "../../src/protocol/index.ts";
import { expectRefusal } from "./expect.ts";
import type { Answer, Draft, PaidServer } from "./world.ts";

/** The same credential in ten requests at once. */
export function tenTimes(server: PaidServer, path: string, draft: Draft): Promise<Answer[]> {
	return Promise.all(Array.from({ length: 10 }, () => server.pay(path, draft)));
}

/** One request was served, and every other one refused under the name `others`. */
export function expectOneServed(answers: readonly Answer[], others: ProblemName, message?: string): void {
	expect(answers.filter(({ status }) => status === 200).length, message).toBe(1);
	for (const answer of answers) if (answer.status !== 200) expectRefusal(answer, others);
}
