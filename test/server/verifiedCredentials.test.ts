import { describe, expect, it } from "vitest";
import { VerifiedCredentials } from "../../src/server/verifiedCredentials.ts";

describe("what is remembered of verified credentials", () => {
	it("is bounded, and what was not asked for longest is forgotten first", () => {
		const verified = new VerifiedCredentials(3);
		for (const key of ["a", "b", "c"]) verified.add(key);
		expect(verified.has("a")).toBe(true);
		verified.add("d");
		expect(["a", "b", "c", "d"].map((key) => verified.has(key))).toEqual([true, false, true, true]);
	});
});
