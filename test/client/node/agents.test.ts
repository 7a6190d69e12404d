/** That the processes of one agent share a wallet: real processes, LevelDB on disk, signals. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { openWallet } from "../../../src/client/node/index.ts";
import { type Agent, endAll, newFolder, startAgent, until } from "./walletProcesses.ts";
import { idOf, KEY, recordOf } from "./walletRecords.ts";

afterEach(endAll);

async function ownerOf(folder: string, agents: readonly Agent[]): Promise<Agent> {
	const { pid } = JSON.parse(await readFile(join(folder, "owner.json"), "utf8"));
	const owner = agents.find((agent) => agent.pid === pid);
	if (owner === undefined) throw new Error(`no agent is the owner, process ${pid}`);
	return owner;
}

async function countIn(folder: string, key: string): Promise<bigint> {
	const store = await openWallet(folder);
	const [count = 0n] = await store.counts([key]);
	await store.close();
	return count;
}

async function start(folder: string, count: number, options = {}): Promise<readonly [Agent, Agent, ...Agent[]]> {
	return (await Promise.all(Array.from({ length: count }, () => startAgent(folder, options)))) as [Agent, Agent];
}

describe("one limit", () => {
	it.each([2, 4])("%i processes that count against it at once never exceed it, and use all of it", async (count) => {
		const folder = await newFolder();
		const agents = await start(folder, count);
		await Promise.all(agents.map((agent) => agent.get("count", "day", 1_000, 300, 4)));
		const counted = agents.map((agent) => agent.counted("day"));
		expect(counted.reduce((a, b) => a + b)).toBe(300);
		expect(await agents[1].get("counts", ["day"])).toEqual(["300"]);
		for (const agent of agents) expect(await agent.end()).toBe(0);
		expect(await countIn(folder, "day")).toBe(300n);
	});

	it("stands when its owner is killed in the middle of writes: nothing acknowledged is lost, nothing counts twice", async () => {
		const folder = await newFolder();
		const agents = [...(await start(folder, 4))];
		// Each into a key of its own too: what was acknowledged to one can't hide what was lost of another.
		const counting = agents.map((agent) => agent.ask("count", `by ${agent.pid}`, 400, 1_000_000, 8));
		const acknowledged = (agent: Agent) => agent.counted(`by ${agent.pid}`);
		const killed: Agent[] = [];
		for (const enough of [50, 100]) {
			const alive = agents.filter((agent) => !killed.includes(agent));
			await until(`${enough} counts of each`, () => alive.every((agent) => acknowledged(agent) > enough));
			const owner = await ownerOf(folder, alive);
			await owner.kill();
			killed.push(owner);
		}
		await Promise.allSettled(counting);
		const others = agents.filter((agent) => !killed.includes(agent));
		expect(others.map(acknowledged)).toEqual([400, 400]);
		for (const other of others) expect(await other.end()).toBe(0);
		for (const agent of agents) {
			const counted = Number(await countIn(folder, `by ${agent.pid}`));
			expect(counted).toBeGreaterThanOrEqual(acknowledged(agent));
			// A killed one was not told of what it had on its way: eight calls at most.
			expect(counted).toBeLessThanOrEqual(acknowledged(agent) + (killed.includes(agent) ? 8 : 0));
		}
	});

	it("counts once what its owner had written, but not said, when it was killed", async () => {
		const folder = await newFolder();
		const owner = await startAgent(folder, { deadlyKey: "day" });
		const [agent, other] = await start(folder, 2);
		await agent.get("add", recordOf(1), 10);
		const record = recordOf(1, 7n);
		const day = { key: "day", add: "7", max: "7" };
		expect(await agent.get("write", { channel: { record, fence: 1 }, counters: [day] })).toBeNull();
		await until("the owner is gone", () => owner.child.signalCode === "SIGKILL");
		expect(await other.get("counts", ["day"])).toEqual(["7"]);
		expect(await agent.get("list")).toMatchObject([{ isHeld: true, record: { state: { signed: "7" } } }]);
		expect(await agent.get("write", { counters: [{ ...day, add: "1" }] })).toEqual({
			key: "day",
			current: "7",
			max: "7",
		});
	});

	it("is paused for all of them by one of them, and stays so when they all end", async () => {
		const folder = await newFolder();
		const [one, other] = await start(folder, 2);
		await one.get("setPaused", "lost my laptop");
		for (const agent of [one, other]) {
			expect(await agent.ask("count", "day", 1, 10)).toMatchObject({
				error: { name: "PausedError", code: "PAUSED", message: expect.stringContaining("lost my laptop") },
			});
		}
		await one.kill();
		await other.kill();
		const later = await startAgent(folder);
		expect(await later.get("paused")).toBe("lost my laptop");
		await later.get("setPaused");
		expect(await later.get("count", "day", 1, 10)).toBe(1);
	});
});

describe("one channel", () => {
	it("is never held by two processes; the other is given it when the first gives it back", async () => {
		const folder = await newFolder();
		const [one, other] = await start(folder, 2);
		expect(await one.get("add", recordOf(1), 10)).toMatchObject({ fence: 1 });
		expect(await other.get("take", KEY, 0)).toBeNull();
		expect(await other.get("list")).toMatchObject([{ isHeld: true }]);
		const taking = other.get("take", KEY, 20_000);
		await until("the other wants it", () => one.wanted().includes(idOf(1)));
		await one.get("release", idOf(1), 1);
		const taken = (await taking) as { fence: number };
		expect(taken.fence).toBeGreaterThan(1);
		expect(await one.ask("write", { channel: { record: recordOf(1, 5n), fence: 1 } })).toMatchObject({
			error: { code: "HOLDER_LOST" },
		});
	});

	it("goes round among four processes, each of which finds what the others signed", async () => {
		const folder = await newFolder();
		const agents = await start(folder, 4);
		await agents[0].get("add", recordOf(1), 10);
		await agents[0].get("release", idOf(1), 1);
		let signed = 0n;
		const sign = async (agent: Agent) => {
			for (let times = 0; times < 10; times++) {
				let held = null as null | { record: { state: { signed: string } }; fence: number };
				while (held === null) held = (await agent.get("take", KEY, 5_000)) as typeof held;
				expect(BigInt(held.record.state.signed)).toBe(signed);
				signed += 1n;
				await agent.get("write", { channel: { record: recordOf(1, signed), fence: held.fence } });
				await agent.get("release", idOf(1), held.fence);
			}
		};
		await Promise.all(agents.map(sign));
		expect(signed).toBe(40n);
	});

	it("is free at once when the process that held it is killed, owner or not", async () => {
		const folder = await newFolder();
		// Longer than the test: nobody waits for it.
		const options = { holderGraceMs: 600_000 };
		const first = await startAgent(folder, options);
		const second = await startAgent(folder, options);
		await second.get("add", recordOf(1), 10);
		await second.kill();
		const taken = (await first.get("take", KEY, 20_000)) as { fence: number };
		expect(taken).toMatchObject({ record: { state: { channelId: idOf(1) } } });
		const third = await startAgent(folder, options);
		expect(await ownerOf(folder, [first, third])).toBe(first);
		await first.kill();
		await until("it is taken", async () => (await third.get("take", KEY, 1_000)) !== null);
		await third.get("write", { channel: { record: recordOf(1, 9n), fence: taken.fence + 1 } });
	});

	it("stays with its process when the owner is killed, and the process goes on with it", async () => {
		const folder = await newFolder();
		const owner = await startAgent(folder);
		const [one, other] = await start(folder, 2);
		await one.get("add", recordOf(1), 10);
		await other.get("add", recordOf(2, 0n, "another key"), 10);
		await owner.kill();
		await one.get("write", { channel: { record: recordOf(1, 7n), fence: 1 } });
		await other.get("write", { channel: { record: recordOf(2, 7n, "another key"), fence: 1 } });
		expect(await other.get("take", KEY, 0)).toBeNull();
		expect(await one.get("list")).toMatchObject([
			{ isHeld: true, record: { state: { signed: "7" } } },
			{ isHeld: true, record: { state: { signed: "7" } } },
		]);
	});

	it("is lost to a process that was stopped for too long, which is told so when it goes on", async () => {
		const folder = await newFolder();
		const owner = await startAgent(folder, { holderGraceMs: 400 });
		const stopped = await startAgent(folder, { holderGraceMs: 400 });
		await stopped.get("add", recordOf(1), 10);
		await stopped.get("add", recordOf(2, 0n, "nobody else's"), 10);
		stopped.signal("SIGSTOP");
		let taken = null as null | { fence: number };
		await until("it is given away", async () => {
			taken = (await owner.get("take", KEY, 1_000)) as typeof taken;
			return taken !== null;
		});
		const write = stopped.ask("write", {
			channel: { record: recordOf(1, 5n), fence: 1 },
			counters: [{ key: "day", add: "5" }],
		});
		stopped.signal("SIGCONT");
		const outcome = await write;
		expect(outcome.error, JSON.stringify(outcome)).toMatchObject({ name: "HolderLostError", code: "HOLDER_LOST" });
		expect(await stopped.get("counts", ["day"])).toEqual(["0"]);
		await owner.get("write", { channel: { record: recordOf(1, 3n), fence: taken?.fence } });
		// What nobody wanted is still its own.
		await stopped.get("write", { channel: { record: recordOf(2, 5n, "nobody else's"), fence: 1 } });
	});
});

describe("the owner", () => {
	it("hands over when it closes: the others go on, with their channels", async () => {
		const folder = await newFolder();
		const owner = await startAgent(folder);
		const other = await startAgent(folder);
		await other.get("add", recordOf(1), 10);
		await owner.get("add", recordOf(2, 0n, "the owner's"), 10);
		const counting = other.get("count", "day", 200, 1_000, 4);
		await until("some counts", () => other.counted("day") > 20);
		await owner.get("close");
		expect(await counting).toBe(200);
		expect(await ownerOf(folder, [owner, other])).toBe(other);
		expect(await other.get("counts", ["day"])).toEqual(["200"]);
		await other.get("write", { channel: { record: recordOf(1, 7n), fence: 1 } });
		expect(await other.get("take", "the owner's", 0)).toMatchObject({ fence: 2 });
		expect(await owner.ask("list")).toMatchObject({ error: { code: "PAYER_STORE" } });
	});

	it("that hangs is named after a bounded wait, and nothing is written; when it goes on, so do the others", async () => {
		const folder = await newFolder();
		const owner = await startAgent(folder, { ownerMs: 500 });
		const other = await startAgent(folder, { ownerMs: 500 });
		owner.signal("SIGSTOP");
		expect(await other.ask("count", "day", 1, 10)).toMatchObject({
			error: { code: "PAYER_STORE", message: expect.stringContaining(`kill ${owner.pid}`) },
		});
		await expect(startAgent(folder, { ownerMs: 500 })).rejects.toThrow(`process ${owner.pid} `);
		owner.signal("SIGCONT");
		expect(await other.get("count", "week", 1, 10)).toBe(1);
	});

	it("and every other process end by themselves when they have nothing else to do", async () => {
		const folder = await newFolder();
		const [one, other] = await start(folder, 2);
		await one.get("add", recordOf(1), 10);
		await other.get("add", recordOf(2), 10);
		expect(await one.end()).toBe(0);
		expect(await other.get("take", KEY, 20_000)).toMatchObject({ record: { state: { channelId: idOf(1) } } });
		expect(await other.end()).toBe(0);
	});
});
