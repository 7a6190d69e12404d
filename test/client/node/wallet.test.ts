/** The folder of a wallet, and the socket by which its processes reach each other. */
import { execFile } from "node:child_process";
import { chmod, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { Level } from "level";
import { afterEach, describe, expect, it, vi } from "vitest";
import { hintFor } from "../../../src/client/node/election.ts";
import { defaultWalletFolder, openWallet } from "../../../src/client/node/index.ts";
import { MAX_LINE_BYTES } from "../../../src/client/node/lines.ts";
import { WIRE_VERSION } from "../../../src/client/node/wire.ts";
import { LevelKv } from "../../../src/client/store/levelKv.ts";
import type { PayerStore } from "../../../src/client/store/store.ts";
import { endAll, newFolder, startAgent, until } from "./walletProcesses.ts";
import { idOf, KEY, receiptOf, recordOf } from "./walletRecords.ts";

const stores: PayerStore[] = [];
const sockets: Socket[] = [];

async function open(folder: string, options = {}): Promise<PayerStore> {
	const store = await openWallet(folder, options);
	stores.push(store);
	return store;
}

afterEach(async () => {
	for (const socket of sockets.splice(0)) socket.destroy();
	await Promise.all(stores.splice(0).map((store) => store.close()));
	await endAll();
});

type Owner = Readonly<{ pid: number; address: string; token: string; answer: string }>;

async function readOwner(folder: string): Promise<Owner> {
	return JSON.parse(await readFile(join(folder, "owner.json"), "utf8"));
}

/** A connection that says what it is told to. */
async function dial(
	folder: string,
): Promise<Readonly<{ say(text: string): void; heard(): string; closed(): boolean }>> {
	const { address } = await readOwner(folder);
	const socket = connect(address);
	sockets.push(socket);
	let heard = "";
	let isClosed = false;
	socket.on("error", () => undefined);
	socket.on("close", () => {
		isClosed = true;
	});
	socket.on("data", (chunk) => {
		heard += chunk;
	});
	return { say: (text) => socket.write(text), heard: () => heard, closed: () => isClosed };
}

function helloOf({ token }: Owner, more = {}): string {
	return `${JSON.stringify({ wallet: WIRE_VERSION, token, holder: "1.x.y", held: [], ...more })}\n`;
}

describe("the folder", () => {
	it("is where the environment says, or in the user's home", () => {
		expect(defaultWalletFolder({ SLUICE_WALLET: "/some/where" })).toBe("/some/where");
		expect(defaultWalletFolder({})).toMatch(/\.sluice.wallet$/);
	});

	it("is made for this user alone, and so is what is in it", async () => {
		const folder = await newFolder();
		await open(folder);
		const modeOf = async (name: string) => (await stat(join(folder, name))).mode & 0o777;
		expect([await modeOf("."), await modeOf("db")]).toEqual([0o700, 0o700]);
		for (const name of ["sluice-wallet.json", "owner.json", "wallet.sock"]) expect(await modeOf(name)).toBe(0o600);
	});

	it("is used with a warning where others can write to it", async () => {
		const folder = await newFolder();
		await mkdir(folder, { recursive: true });
		await writeFile(join(folder, "policy.json"), "{}");
		await chmod(folder, 0o777);
		const warn = vi.spyOn(process, "emitWarning").mockImplementation(() => undefined);
		const store = await open(folder);
		expect(warn).toHaveBeenCalledWith(expect.stringContaining("chmod 700"), { code: "SLUICE_WALLET_ACCESS" });
		warn.mockRestore();
		expect(await store.list()).toEqual([]);
	});

	it("is refused when it is a server's store, and nothing is written there", async () => {
		const folder = await newFolder();
		await mkdir(folder, { recursive: true });
		const database = new Level(folder);
		await database.open();
		await database.close();
		const before = await readdir(folder);
		await expect(open(folder)).rejects.toMatchObject({
			code: "PAYER_STORE",
			message: expect.stringMatching(/it is a database, for example a server's store; or name another folder$/),
		});
		expect(await readdir(folder)).toEqual(before);
	});

	it.each([
		["of a newer version", '{"version":2}', /version 2, this sluice knows 1/],
		["damaged", "{", /is damaged/],
	])("is refused when its mark is %s", async (_, mark, message) => {
		const folder = await newFolder();
		await (await open(folder)).close();
		await writeFile(join(folder, "sluice-wallet.json"), mark);
		await expect(open(folder)).rejects.toThrow(message);
	});

	it("can be opened again by the same process when what was held could not be given back", async () => {
		const folder = await newFolder();
		const store = await openWallet(folder);
		await store.add(recordOf(1), 9);
		const write = vi.spyOn(LevelKv.prototype, "write").mockRejectedValue(new Error("the disk is full"));
		try {
			await expect(store.close()).rejects.toMatchObject({ code: "PAYER_STORE" });
		} finally {
			write.mockRestore();
		}
		const again = await open(folder, { ownerMs: 2_000 });
		expect(await again.takeById(idOf(1), 10_000)).toBeDefined();
	});

	it("is refused, in words, when it can't be made", async () => {
		const folder = await newFolder();
		await mkdir(join(folder, ".."), { recursive: true });
		await writeFile(folder, "a file");
		await expect(open(folder)).rejects.toMatchObject({ code: "PAYER_STORE", message: expect.stringMatching(/wallet/) });
	});

	it.skipIf(process.platform === "win32" || process.getuid?.() === 0)(
		"is refused when its files are another's, and the disk is not blamed",
		async () => {
			const folder = await newFolder();
			await (await openWallet(folder)).close();
			await chmod(join(folder, "db", "LOCK"), 0o000);
			await expect(openWallet(folder)).rejects.toThrow(/ermission denied: give its files back/);
		},
	);

	it.each([
		["IO error: /wallet/db/LOCK: Permission denied", /^give its files back to the user/],
		["IO error: /wallet/db/LOCK: Read-only file system", /^put it where/],
		["IO error: /wallet/db/000012.log: No space left on device", /disk is not full/],
	])("says what to do about %s", (message, hint) => {
		expect(hintFor(message)).toMatch(hint);
	});

	it("may have a path that is too long for a socket", async () => {
		const folder = await newFolder("long ".repeat(30));
		const one = await open(folder);
		expect((await readOwner(folder)).address.startsWith(folder)).toBe(false);
		const other = await open(folder);
		await one.add(recordOf(1), 10);
		expect(await other.list()).toHaveLength(1);
		const { address } = await readOwner(folder);
		await one.close();
		await until("the socket is gone", () =>
			stat(address).then(
				() => false,
				() => true,
			),
		);
	});
});

describe("one process", () => {
	it("can open a wallet more than once, by whatever path, and its files only once", async () => {
		const folder = await newFolder();
		const one = await open(folder);
		const link = join(folder, "..", "link");
		await symlink(folder, link);
		const other = await open(link);
		await one.add(recordOf(1), 10);
		expect(await other.take(KEY)).toBeUndefined();
		// Another process has no chance, whatever this one did with the lock.
		const agent = await startAgent(folder);
		expect((await readOwner(folder)).pid).toBe(process.pid);
		await one.close();
		expect(await other.take(KEY, 20_000)).toMatchObject({ fence: 2 });
		expect(await agent.get("list")).toMatchObject([{ isHeld: true }]);
	});

	it("opens its files once where it opens it many times at once, and keeps the lock on them", async () => {
		const folder = await newFolder();
		const all = await Promise.all(Array.from({ length: 5 }, () => open(folder)));
		await Promise.all(all.map((store) => store.write({ counters: [{ key: "day", add: 1n }] })));
		expect(await all[0]?.counts(["day"])).toEqual([5n]);
		// Whoever can't ask the owner tries the lock.
		await rm(join(folder, "owner.json"));
		await expect(startAgent(folder, { ownerMs: 300 })).rejects.toThrow(/another process has the wallet/);
	});

	it("ends when all that it has to do is done, not before", async () => {
		const folder = await newFolder();
		const store = await open(folder);
		const module = JSON.stringify(new URL("../../../src/client/node/index.ts", import.meta.url).href);
		const program = `
			const { openWallet } = await import(${module});
			const store = await openWallet(${JSON.stringify(folder)});
			await store.write({ counters: [{ key: "day", add: 1n }] });
			await store.close();
			console.log("done");`;
		const flags = ["--experimental-strip-types", "--disable-warning=ExperimentalWarning", "--input-type=module"];
		const { stdout } = await promisify(execFile)(process.execPath, [...flags, "-e", program]);
		expect(stdout).toBe("done\n");
		expect(await store.counts(["day"])).toEqual([1n]);
	});

	it("opens it in its main thread alone: others ask that one, or say so", async () => {
		const folder = await newFolder();
		const module = JSON.stringify(new URL("../../../src/client/node/index.ts", import.meta.url).href);
		const inThread = async (): Promise<unknown> => {
			const code = `
				const { parentPort } = require("node:worker_threads");
				import(${module})
					.then(({ openWallet }) => openWallet(${JSON.stringify(folder)}, { ownerMs: 200 }))
					.then((store) => store.list())
					.then((list) => parentPort.postMessage(list.length), (error) => parentPort.postMessage(error.message));`;
			const execArgv = ["--experimental-strip-types", "--disable-warning=ExperimentalWarning"];
			const worker = new Worker(code, { eval: true, execArgv });
			const answer = await new Promise((resolve) => worker.once("message", resolve));
			await worker.terminate();
			return answer;
		};
		expect(await inThread()).toMatch(/open it in the main thread first/);
		const store = await open(folder);
		await store.add(recordOf(1), 10);
		expect(await inThread()).toBe(1);
	});
});

describe("the socket", () => {
	it("lets nobody in without the token, and tells nothing", async () => {
		const folder = await newFolder();
		const store = await open(folder);
		await store.add(recordOf(1), 10);
		const owner = await readOwner(folder);
		const wrong = `${owner.token.slice(0, -1)}${owner.token.endsWith("0") ? "1" : "0"}`;
		for (const token of [wrong, "", owner.answer]) {
			const connection = await dial(folder);
			connection.say(helloOf({ ...owner, token }));
			await until("it is thrown out, or let in", () => connection.closed() || connection.heard() !== "");
			expect(connection.heard()).toBe("");
		}
		const early = await dial(folder);
		early.say('{"id":1,"ask":{"call":"list"}}\n');
		await until("it is thrown out", early.closed);
		expect(early.heard()).toBe("");
		const right = await dial(folder);
		right.say(helloOf(owner));
		await until("it is let in", () => right.heard().includes(owner.answer));
	});

	it("ends a connection that sends too long a line, or nonsense, and nothing else", async () => {
		const folder = await newFolder();
		await open(folder);
		const other = await open(folder);
		const owner = await readOwner(folder);
		for (const nonsense of [
			`${" ".repeat(MAX_LINE_BYTES + 1)}\n`,
			"x".repeat(MAX_LINE_BYTES + 1),
			"{\n",
			'{"id":1}\n',
		]) {
			const connection = await dial(folder);
			connection.say(helloOf(owner));
			await until("it is let in", () => connection.heard() !== "");
			connection.say(nonsense);
			if (nonsense !== '{"id":1}\n') await until("it is thrown out", connection.closed);
		}
		expect(await other.list()).toEqual([]);
	});

	it("tells a process of another version which one has the wallet open", async () => {
		const folder = await newFolder();
		await open(folder);
		const newer = await dial(folder);
		newer.say(`{"wallet":${WIRE_VERSION + 1},"something":"else"}\n`);
		await until("it is told", () => newer.heard() === `{"wallet":${WIRE_VERSION}}\n`);
		await until("it is thrown out", newer.closed);
	});

	it("refuses a call that is none, and goes on", async () => {
		const folder = await newFolder();
		await open(folder);
		const connection = await dial(folder);
		connection.say(helloOf(await readOwner(folder)));
		await until("it is let in", () => connection.heard() !== "");
		connection.say('{"id":7,"ask":{"call":"write","counters":[{"key":"x","add":"-5"}]}}\n');
		await until("it is refused", () => connection.heard().includes('{"id":7,"fault":'));
		connection.say('{"id":8,"ask":{"call":"counts","keys":["x"]}}\n');
		await until("it is answered", () => connection.heard().includes('{"id":8,"answer":["0"]}'));
	});

	it("is looked for anew where a killed process left its own behind", async () => {
		const folder = await newFolder();
		const agent = await startAgent(folder);
		await agent.get("add", recordOf(1), 10);
		await agent.kill();
		const { token } = await readOwner(folder);
		const store = await open(folder);
		expect((await readOwner(folder)).token).not.toBe(token);
		// It is known that its holder's process is gone: no grace is waited for.
		await until("it is free", async () => (await store.takeById(idOf(1), 1_000)) !== undefined);
	});

	it("carries more than a line holds: lists come in parts", async () => {
		const folder = await newFolder();
		const one = await open(folder);
		const other = await open(folder);
		await Promise.all(Array.from({ length: 1_000 }, (_, number) => one.note(receiptOf(number))));
		const receipts = await other.receipts();
		expect(receipts).toEqual(await one.receipts());
		expect(JSON.stringify(receipts).length).toBeGreaterThan(2 * MAX_LINE_BYTES);
	});

	it("refuses a record that is longer than a line before it sends it, and goes on", async () => {
		const folder = await newFolder();
		await open(folder);
		const other = await open(folder);
		const long = recordOf(1, 0n, "k".repeat(MAX_LINE_BYTES));
		await expect(other.add(long, 10)).rejects.toMatchObject({ code: "PAYER_STORE" });
		expect(await other.list()).toEqual([]);
	});
});

describe("a key of a session", () => {
	it("never shows in what goes wrong", async () => {
		const folder = await newFolder();
		await open(folder);
		const other = await open(folder);
		const record = recordOf(1);
		const errors = await Promise.all([
			other.add({ ...record, sessionKey: `0x${"cd".repeat(31)}` }, 10).catch(String),
			other.write({ channel: { record, fence: 1 } }).catch(String),
			other.add({ ...record, state: { ...record.state, deposit: "-1" } }, 10).catch(String),
		]);
		for (const error of errors) {
			expect(error).toMatch(/Error/);
			expect(error).not.toMatch(/abab|cdcd/);
		}
	});
});
