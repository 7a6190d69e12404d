import { describe, expect, it } from "vitest";
import { checkAgainstGrace, DEFAULT_LIMITS } from "../../../src/server/options.ts";

const GRACE_SECONDS = 900;

describe("periods that a close request has to wait for", () => {
	it("leave most of the shortest grace period by default", () => {
		expect(() => checkAgainstGrace(DEFAULT_LIMITS, GRACE_SECONDS)).not.toThrow();
	});

	it.each([
		["maxChainStateAgeMs", 45_000],
		["stuckAfterMs", 45_000],
		["transactionTimeoutMs", 90_000],
		["drainDeadlineMs", 225_000],
	] as const)("%s is at most %i, and more is refused by its name", (name, largest) => {
		expect(() => checkAgainstGrace({ ...DEFAULT_LIMITS, [name]: largest }, GRACE_SECONDS)).not.toThrow();
		expect(() => checkAgainstGrace({ ...DEFAULT_LIMITS, [name]: largest + 1 }, GRACE_SECONDS)).toThrow(
			`option limits.${name} must be at most ${largest}`,
		);
	});
});
