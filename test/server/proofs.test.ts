import { describe, expect, it } from "vitest";
import { credentialKey, expiryOf, sessionChallengeKey } from "../../src/server/proofs.ts";

describe("what proves that something was used", () => {
	it("has the same key whenever it is looked for, also of a challenge that never expires (D9, I4)", async () => {
		for (const challenge of [{}, { expires: "2030-01-01T00:00:00Z" }]) {
			const keys = () => [
				credentialKey("Payment abc", { ...challenge }),
				sessionChallengeKey("id", expiryOf({ ...challenge })),
			];
			const before = keys();
			await new Promise((resolve) => setTimeout(resolve, 5));
			expect(keys()).toEqual(before);
		}
	});

	it("is kept a little longer than its challenge, which another clock may take for good still", () => {
		expect(expiryOf({ expires: "2030-01-01T00:00:00Z" })).toBeGreaterThan(Date.parse("2030-01-01T00:00:00Z"));
	});
});
