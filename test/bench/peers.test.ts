import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { peersInstalled } from "../../bench/lib/peers.ts";
import type { Round } from "../../bench/lib/round.ts";
import { type RunningSide, startSide } from "../../bench/lib/side.ts";

const FOLDER = new URL("../../bench/peers/", import.meta.url);
const PRICE = 100n;

const running: RunningSide<unknown, unknown>[] = [];

afterEach(async () => {
	for (const side of running.splice(0)) await side.stop();
});

async function start<Info>(script: string, told: unknown): Promise<RunningSide<unknown, Info>> {
	const side = await startSide<unknown, Info>(new URL(script, FOLDER), told);
	running.push(side);
	return side;
}

test("the peers' versions are pinned, and their lockfile names no registry", async () => {
	const { dependencies, overrides } = JSON.parse(await readFile(new URL("package.json", FOLDER), "utf8"));
	for (const version of Object.values({ ...dependencies, ...overrides })) expect(version).toMatch(/^\d+\.\d+\.\d+$/);
	const { packages } = JSON.parse(await readFile(new URL("package-lock.json", FOLDER), "utf8"));
	for (const [place, entry] of Object.entries<Record<string, unknown>>(packages)) {
		expect(entry, place).not.toHaveProperty("resolved");
		if (place !== "") expect(entry, place).toHaveProperty("integrity");
	}
	for (const [name, version] of Object.entries(dependencies))
		expect(packages[`node_modules/${name}`]).toMatchObject({ version });
});

describe.runIf(peersInstalled(FOLDER))("with the peers installed", () => {
	// Each throws where the peer refuses, or has accounted another sum than was signed.
	test.each([
		["mppxVerify.mjs", { channels: 2 }, {}],
		["mppxVerify.mjs", { channels: 2 }, { whole: true }],
		["x402Verify.mjs", { channels: 2 }, {}],
		["mppxSign.mjs", {}, {}],
		["mppxChargeVerify.mjs", {}, {}],
		["x402ChargeVerify.mjs", {}, {}],
	])("%s does its rounds, one after the other (%j, %j)", async (script, told, order) => {
		const side = await start(script, told);
		for (const count of [5, 3]) {
			const round: Round = await side.round({ ...order, count });
			expect(round.count).toBe(count);
			expect(round.cpuSeconds).toBeGreaterThan(0);
			expect(round.p50Ms).toBeLessThanOrEqual(round.p99Ms ?? 0);
		}
	});

	test("x402 keeps its books in files where it is told to", async () => {
		const folder = await mkdtemp(join(tmpdir(), "sluice-peers-"));
		try {
			const { round } = await start("x402Verify.mjs", { channels: 2, folder });
			expect(await round({ count: 3 })).toMatchObject({ count: 3 });
			expect(await readdir(join(folder, "server"))).toHaveLength(2);
		} finally {
			await rm(folder, { recursive: true, force: true });
		}
	});

	test("x402 serves the requests that were made ahead for it, and has each paid for once", async () => {
		const channels = 2;
		const { info, round } = await start<Readonly<{ url: string }>>("x402Http.mjs", { channels });
		const { url } = info;
		const { prepare } = await import(new URL("x402Requests.mjs", FOLDER).href);
		let served = 0;
		for (const count of [3, 4]) {
			const requests: readonly Record<string, string>[] = await prepare({ url, count, channels });
			expect(await round("begin")).toMatchObject({ spent: PRICE * BigInt(served) });
			for (const headers of requests) {
				const response = await fetch(url, { headers });
				expect(response.status).toBe(200);
				expect(await response.json()).toEqual({ quote: 42 });
			}
			served += count;
			expect(await round({ count })).toMatchObject({ count, spent: PRICE * BigInt(served) });
			// Paid for already.
			expect((await fetch(url, { headers: requests[0] ?? {} })).status).toBe(402);
		}
	});
});
