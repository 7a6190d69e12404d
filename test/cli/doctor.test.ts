import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Level } from "level";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { useWorld } from "../support/useWorld.ts";
import { RpcProxy } from "../support/world.ts";
import { giveGas, openShop, type Ran, rpc, type Shop, sluice, sluiceJson } from "./support.ts";

const world = useWorld();
let folder: string;
let shop: Shop;

beforeAll(async () => {
	folder = await mkdtemp(join(tmpdir(), "sluice-doctor-"));
	shop = await openShop(world, [300n, 400n]);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

type Check = Readonly<{
	name: string;
	status: string;
	detail: string;
	hint?: string;
	values?: Record<string, unknown>;
}>;
const statuses = ({ value }: Ran & { value: { checks: readonly Check[] } }) =>
	Object.fromEntries(value.checks.map(({ name, status }) => [name, status]));
const find = ({ value }: { value: { checks: readonly Check[] } }, name: string) =>
	value.checks.find((check) => check.name === name);

const named = () => {
	const { chainId } = world.chain;
	return [
		"--chain-id",
		String(chainId),
		"--escrow",
		world.escrow,
		"--token",
		world.token,
		"--payee",
		shop.payee.address,
	];
};

it("finds nothing wrong with a good server, beside which it runs", async () => {
	const args = ["doctor", "--rpc", shop.server.rpc.url, ...named(), "--data", shop.server.folder];
	const ran = await sluiceJson(args);
	expect(ran.code, JSON.stringify(ran.value, undefined, 1)).toBe(0);
	expect(ran.value).toMatchObject({ outcome: "ok", failed: 0 });
	expect(statuses(ran)).toEqual({
		signatures: "ok",
		rpc: "ok",
		"rpc head": "ok",
		clock: "ok",
		escrow: "ok",
		"grace period": "ok",
		"voucher domain": "ok",
		"relayed profile": "ok",
		Permit2: expect.stringMatching(/ok|warn/),
		// No release records an escrow of a development chain.
		"deployments record": "warn",
		[`token ${world.token}`]: "ok",
		"gas price": "ok",
		"payee's gas": "ok",
		store: "ok",
		owed: "ok",
		"pending transactions": "ok",
		"damaged records": "ok",
		"close requests": "ok",
	});
	expect(find(ran, "owed")?.values).toEqual({ [world.token]: "700" });
	expect(find(ran, "gas price")?.values).toMatchObject({ settlementCost: expect.stringMatching(/^[1-9]\d*$/) });
	expect(find(ran, "payee's gas")?.values).toMatchObject({ address: shop.payee.address });
	// The rest it knows from the store.
	const short = await sluiceJson(["doctor", "--rpc", shop.server.rpc.url, "--data", shop.server.folder]);
	expect(statuses(short)).toEqual(statuses(ran));
});

it("shows people one line a check, and what to do", async () => {
	const { code, stdout } = await sluice(["doctor", "--rpc", world.chain.url, ...named(), "--table"]);
	expect(code).toBe(0);
	expect(stdout).toMatch(/^ok {4}rpc: http:\/\/127\.0\.0\.1:\d+ serves chain 31337$/m);
	expect(stdout).toMatch(/^warn {2}deployments record: .*\n {6}-> .*sluice deploy/m);
	expect(stdout).toMatch(/\d+ checks: 0 failed, \d+ warnings\n$/);
});

it("holds a file of deployments against the escrow", async () => {
	const file = join(folder, "deployments.json");
	const entry = { escrow: world.escrow, permit2: `0x${"22".repeat(20)}`, closeGracePeriodSeconds: 900 };
	await writeFile(file, JSON.stringify({ [world.chain.chainId]: entry }));
	const args = ["doctor", "--rpc", world.chain.url, ...named(), "--record", file];
	expect(statuses(await sluiceJson(args))["deployments record"]).toBe("ok");
	await writeFile(file, "{ not json");
	const damaged = await sluiceJson(args);
	expect(damaged.code).toBe(1);
	expect(statuses(damaged)["deployments record"]).toBe("fail");
});

describe("says what is wrong, and exits with 1", () => {
	const doctor = async (...args: string[]) => {
		const ran = await sluiceJson(["doctor", ...args]);
		expect(ran.code, JSON.stringify(ran.value)).toBe(1);
		expect(ran.value.outcome).toBe("failed");
		for (const { status, hint } of ran.value.checks) if (status === "fail") expect(hint).toMatch(/\S/);
		return ran;
	};

	test("an RPC that is down; another one is asked in its place", async () => {
		const dead = await RpcProxy.start(world.chain.url);
		dead.down();
		const alone = await doctor("--rpc", dead.url, ...named());
		expect(statuses(alone)).toMatchObject({ rpc: "fail", escrow: "skip", "gas price": "skip" });
		const two = await doctor("--rpc", dead.url, world.chain.url, ...named());
		expect(statuses(two)).toMatchObject({ "rpc 1": "fail", "rpc 2": "ok", escrow: "ok" });
		await dead.stop();
	});

	test("an RPC of another chain", async () => {
		const ran = await doctor("--rpc", world.chain.url, ...named(), "--chain-id", "8453");
		expect(statuses(ran)).toMatchObject({ rpc: "fail" });
		expect(find(ran, "rpc")?.detail).toContain("serves chain 31337, not 8453");
	});

	test("an escrow and a token that are none", async () => {
		const { address } = shop.payee;
		const ran = await doctor("--rpc", world.chain.url, "--escrow", address, "--token", address, "--payee", address);
		expect(statuses(ran)).toMatchObject({ escrow: "fail", [`token ${address}`]: "fail" });
		const swapped = await doctor("--rpc", world.chain.url, "--escrow", world.token, "--token", world.escrow);
		expect(statuses(swapped)).toMatchObject({
			escrow: "fail",
			[`token ${world.escrow}`]: "fail",
			"payee's gas": "skip",
		});
	});

	test("a payee that can't pay for a single settlement; one that can't for a hundred is warned", async () => {
		const { address } = (await world.payer()).account;
		const args = ["--rpc", world.chain.url, ...named(), "--payee", address];
		expect(statuses(await doctor(...args))).toMatchObject({ "payee's gas": "fail" });
		const { values } = find(await doctor(...args), "gas price") ?? {};
		await giveGas(world, address, 5n * BigInt(String(values?.settlementCost)));
		const warned = await sluiceJson(["doctor", ...args]);
		expect(warned.code).toBe(0);
		expect(statuses(warned)).toMatchObject({ "payee's gas": "warn" });
		// With a relayer, it needs none.
		const relayed = await sluiceJson(["doctor", ...args, "--relayer", shop.payee.address]);
		expect(statuses(relayed)).toMatchObject({ "relayer's gas": "ok" });
	});

	test("no store, or a damaged record in it", async () => {
		const none = await doctor("--data", join(folder, "none"));
		expect(statuses(none)).toEqual({ signatures: "ok", store: "fail" });
		const { server, channels } = await openShop(world, [100n]);
		await server.stop();
		const disk = new Level<string, string>(server.folder);
		await disk.put(`c:${channels[0]?.channelId}`, "nonsense");
		await disk.close();
		const damaged = await doctor("--data", server.folder);
		expect(statuses(damaged)).toMatchObject({ "damaged records": "fail" });
		expect(find(damaged, "damaged records")?.detail).toContain(channels[0]?.channelId);
	});

	test("a close request whose time runs out: a warning first, then a failure (I9)", async () => {
		const { server, channels } = await openShop(world, [250n]);
		const [channel] = channels;
		if (channel === undefined) throw new Error("there is one");
		await channel.by.requestClose(channel);
		// The server reads the chain, and has no time to settle.
		server.clock.advance(20_000);
		await server.pay("/session", await channel.by.voucher(await server.challenge("/session"), channel, 400n));
		expect(await server.ledger(channel)).toMatchObject({ closeRequestedAt: expect.any(Number) });
		await server.stop();
		const args = ["--rpc", world.chain.url, "--data", server.folder];
		const warned = await sluiceJson(["doctor", ...args]);
		expect(statuses(warned)).toMatchObject({ "close requests": "warn" });
		expect(find(warned, "close requests")?.values).toMatchObject({ closing: 1, secondsLeft: expect.any(Number) });
		await rpc(world.chain.client, "evm_increaseTime", [600]);
		await rpc(world.chain.client, "evm_mine");
		expect(statuses(await doctor(...args))).toMatchObject({ "close requests": "fail" });
	});
});

test("wrong usage exits with 2", async () => {
	expect((await sluice(["doctor"])).code).toBe(2);
	expect((await sluice(["doctor", "--rpc", "rpc-api-key-0f9d5c1b"])).code).toBe(2);
	expect((await sluice(["doctor", "--rpc", world.chain.url, "--payee", "nobody"])).code).toBe(2);
	expect((await sluice(["doctor", "--json", "--table", "--rpc", world.chain.url])).code).toBe(2);
});
