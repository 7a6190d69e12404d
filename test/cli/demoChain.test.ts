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

/** More than it keeps the states of in memory. */
const BLOCKS = 700;

describe("a local development chain", () => {
	it("leaves nothing in the user's home, however many blocks it had", async () => {
		home = await mkdtemp(join(tmpdir(), "sluice-test-"));
		vi.stubEnv("HOME", home);
		const chain = await startChain();
		try {
			await createTestClient({ mode: "anvil", transport: http(chain.url) }).mine({ blocks: BLOCKS });
			expect(await chain.client.getBlockNumber()).toBe(BigInt(BLOCKS));
		} finally {
			await chain.stop();
		}
		expect(await readdir(home)).toEqual([]);
	});
});
