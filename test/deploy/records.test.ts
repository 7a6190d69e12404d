import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it, test } from "vitest";
import { assertRecordable, readDeployments, recordDeployment, recordObstacle } from "../../deploy/index.ts";
import { type Deployment, findDeployment, parseDeployments } from "../../src/escrow/index.ts";

const deployment: Deployment = {
	escrow: `0x${"e0".repeat(20)}`,
	permit2: `0x${"02".repeat(20)}`,
	closeGracePeriodSeconds: 900,
};
const transaction = { blockNumber: 7, transactionHash: `0x${"ab".repeat(32)}` } as const;
const other: Deployment = { ...deployment, escrow: `0x${"e1".repeat(20)}` };

let folder: string;
let file: string;
let count = 0;
beforeAll(async () => {
	folder = await mkdtemp(join(tmpdir(), "sluice-records-"));
});
beforeEach(() => {
	file = join(folder, `${count++}.json`);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("a file of deployments", () => {
	it("is made by the first record, keeps what is in it, and can be read back", async () => {
		expect(await readDeployments(file)).toEqual({});
		expect(await recordDeployment(file, 8_453, { ...deployment, ...transaction })).toBe(true);
		expect(await recordDeployment(file, 10, other)).toBe(true);
		const found = parseDeployments(JSON.parse(await readFile(file, "utf8")));
		expect(found).toEqual({ 8453: { ...deployment, ...transaction }, 10: other });
		expect(findDeployment(10, found)).toEqual(other);
		expect(findDeployment(1, found)).toBeUndefined();
	});

	it("is left alone when it says so already, and keeps the transaction that a later run does not know", async () => {
		await recordDeployment(file, 8_453, { ...deployment, ...transaction });
		const text = await readFile(file, "utf8");
		expect(await recordDeployment(file, 8_453, deployment)).toBe(false);
		expect(await readFile(file, "utf8")).toBe(text);
	});

	it("refuses another deployment on a chain it has, unless it is told to take it", async () => {
		await recordDeployment(file, 8_453, { ...deployment, ...transaction });
		const text = await readFile(file, "utf8");
		const conflict = { code: "RECORD_CONFLICT", chainId: 8_453, deployment: other };
		await expect(assertRecordable(file, 8_453, other)).rejects.toMatchObject(conflict);
		await expect(recordDeployment(file, 8_453, other)).rejects.toMatchObject(conflict);
		expect(await readFile(file, "utf8")).toBe(text);
		await assertRecordable(file, 8_453, other, true);
		expect(await readFile(file, "utf8")).toBe(text);
		await recordDeployment(file, 8_453, other, true);
		expect(await readDeployments(file)).toEqual({ 8453: other });
	});

	it.each([
		["no JSON", "{"],
		["nothing", ""],
		["a list", "[]"],
		["a chain that is none", JSON.stringify({ base: deployment })],
		["an address that is none", JSON.stringify({ 1: { ...deployment, escrow: "0x12" } })],
		["a part that is missing", JSON.stringify({ 1: { escrow: deployment.escrow } })],
		["a part that nobody knows", JSON.stringify({ 1: { ...deployment, owner: deployment.escrow } })],
	])("with %s in it is refused, and stays as it is", async (_title, text) => {
		await writeFile(file, text);
		const damaged = { code: "DEPLOYMENTS", message: expect.stringContaining(file) };
		await expect(readDeployments(file)).rejects.toMatchObject(damaged);
		await expect(assertRecordable(file, 8_453, deployment)).rejects.toMatchObject(damaged);
		await expect(recordDeployment(file, 8_453, deployment, true)).rejects.toMatchObject(damaged);
		expect(await readFile(file, "utf8")).toBe(text);
	});

	it("in a folder that is not there is refused before anything is deployed", async () => {
		const nowhere = join(folder, "nowhere", "deployments.json");
		await expect(assertRecordable(nowhere, 1, deployment)).rejects.toMatchObject({
			code: "RECORD_FILE",
			file: nowhere,
		});
		await expect(readDeployments(folder)).rejects.toMatchObject({ code: "RECORD_FILE" });
	});

	it("can be looked at without anything being written: not even by somebody else's lock is that stopped", async () => {
		await recordDeployment(file, 8_453, deployment);
		await writeFile(`${file}.lock`, "somebody else's");
		const files = await readdir(folder);
		expect(await recordObstacle(file, 8_453, deployment)).toBeUndefined();
		expect(await recordObstacle(file, 10, other)).toBeUndefined();
		expect(await recordObstacle(file, 8_453, other)).toContain("--force");
		expect(await recordObstacle(file, 8_453, other, true)).toBeUndefined();
		expect(await recordObstacle(join(folder, "nowhere", "deployments.json"), 1, other)).toContain("make the folder");
		expect(await readdir(folder)).toEqual(files);
		await rm(`${file}.lock`);
		await writeFile(file, "{");
		expect(await recordObstacle(file, 10, other)).toContain("not JSON");
	});

	it("leaves nothing else behind", async () => {
		await recordDeployment(file, 1, deployment);
		await recordDeployment(file, 1, other).catch(() => undefined);
		expect((await readdir(folder)).filter((name) => !name.endsWith(".json"))).toEqual([]);
	});

	it("that a killed process was writing says how to go on", async () => {
		await writeFile(`${file}.lock`, "");
		await expect(recordDeployment(file, 1, deployment)).rejects.toMatchObject({
			code: "RECORD_FILE",
			message: expect.stringContaining(".lock"),
		});
		await rm(`${file}.lock`);
	});

	it("loses no entry when several processes write it at the same time", async () => {
		const chains = [11, 12, 13, 14, 15, 16];
		const script = join(folder, "record.mjs");
		const library = new URL("../../deploy/index.ts", import.meta.url).href;
		await writeFile(
			script,
			`const { recordDeployment } = await import(${JSON.stringify(library)});
			await recordDeployment(process.argv[2], Number(process.argv[3]), ${JSON.stringify(deployment)});`,
		);
		const writers = chains.map((chainId) =>
			fork(script, [file, String(chainId)], { execArgv: ["--disable-warning=ExperimentalWarning"] }),
		);
		const codes = await Promise.all(writers.map(async (writer) => (await once(writer, "exit"))[0]));
		expect(codes).toEqual(chains.map(() => 0));
		expect(Object.keys(await readDeployments(file)).map(Number)).toEqual(chains);
	});
});

test("what this release records is a good record", async () => {
	const own = new URL("../../deploy/deployments.json", import.meta.url).pathname;
	for (const [chainId, recorded] of Object.entries(await readDeployments(own))) {
		expect(findDeployment(Number(chainId))).toEqual(recorded);
	}
	expect(findDeployment(4_294_967_291)).toBeUndefined();
});
