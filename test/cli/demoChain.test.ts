import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createTestClient, http } from "viem";
import { afterEach, describe, expect, it, vi } from "vitest";
import { startChain } from "../../src/cli/demo/chain.ts";

let home: string | undefined;
afterEach(async () => {
	vi.unstubAllEnvs();
	if (home !== undefined) await rm(home, { recursive: true });
});

describe("a local development chain", () => {
	it("leaves nothing in the user's home, however many blocks it had", async () => {
		home = await mkdtemp(join(tmpdir(), "sluice-test-"));
		vi.stubEnv("HOME", home);
		const chain = await startChain();
		try {
			await createTestClient({ mode: "anvil", transport: http(chain.url) }).mine({ blocks: 700 });
			expect(await chain.client.getBlockNumber()).toBe(700n);
		} finally {
			await chain.stop();
		}
		expect(await readdir(home)).toEqual([]);
	});
});
