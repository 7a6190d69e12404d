import { describe, expect, it } from "vitest";
import { CUTS, faultOf, scheduleOf } from "./plan.ts";
import { failureText, runSchedules } from "./run.ts";

/** As `npm run test:long` plays ten thousand of. */
const SEED = "sample";
const SCHEDULES = 60;

describe("random faults between a client and a server", () => {
	it(`leave the books of both in order, charge nothing twice, and sign no more than was delivered and one price for each request on its way (${SCHEDULES} schedules, I6, I11)`, async () => {
		const { failures, requests } = await runSchedules({ seed: SEED, from: 0, to: SCHEDULES });
		expect(failures.map(failureText)).toEqual([]);
		expect(requests.answered).toBeGreaterThan(2 * SCHEDULES);
		expect(requests.unknown).toBeGreaterThan(0);
	});

	it("are found to charge twice, or to be asked to pay twice, where no Idempotency-Key gets through: the check can fail", async () => {
		const { failures } = await runSchedules({ seed: SEED, from: 0, to: 20, sabotage: "dropKeys" });
		// What was charged twice is found in the server's records, or by the payer, who then refuses to pay for it.
		const twice = /was (charged|served) 2 times|was refused what it owes/;
		expect(failures.flatMap(({ faults }) => faults).join("\n")).toMatch(twice);
	});

	it("follow from the seed, and reach every boundary of a message", () => {
		const schedules = Array.from({ length: 500 }, (_, index) => scheduleOf("boundaries", index));
		expect(schedules).toEqual(Array.from({ length: 500 }, (_, index) => scheduleOf("boundaries", index)));
		const faults = schedules.flatMap((schedule) => [0, 1, 2].map((attempt) => faultOf(schedule, "request", attempt)));
		expect(new Set(faults.map(({ cut }) => cut))).toEqual(new Set([undefined, ...CUTS]));
		const copies = faults.map(({ copy }) => (typeof copy === "number" ? "later" : copy));
		expect(new Set(copies)).toEqual(new Set([undefined, "before", "beside", "after", "later"]));
		expect(faults.some(({ holdRequest }) => holdRequest?.untilOvertaken)).toBe(true);
		expect(faults.some(({ holdResponse }) => holdResponse?.untilOvertaken)).toBe(true);
		const happenings = schedules.flatMap(({ rounds }) => rounds.map(({ happening }) => happening?.what));
		const all = ["restart", "crash", "forget", "gone", "reprice", "close", "succeed"];
		expect(new Set(happenings)).toEqual(new Set([undefined, ...all]));
		expect(new Set(schedules.flatMap(({ rounds }) => rounds.map(({ asks }) => asks.length)))).toEqual(
			new Set([1, 2, 3, 4]),
		);
	});
});
