/**
 * The tarball as a user gets it: packed, installed in an empty folder by the README's own command, and used there. What
 * this repository has beside it (sources, `node_modules`, the condition "sluice-source") must not be needed.
 */
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type LocalChain, startChain } from "../src/cli/demo/chain.ts";
import { codeUnder, expectPaid } from "./support/programs.ts";

const ROOT = new URL("..", import.meta.url).pathname;
/** An install waits for a registry. */
const INSTALL_DEADLINE_MS = 300_000;
const DEADLINE_MS = 120_000;

type Manifest = Readonly<{
	type?: string;
	exports: Readonly<Record<string, unknown>>;
	devDependencies: Readonly<Record<string, string>>;
	dependencies: Readonly<Record<string, string>>;
}>;
type Ran = Readonly<{ code: number; stdout: string; stderr: string }>;

let temporary: string;
/** The empty folder. */
let folder: string;
let chain: LocalChain;
/** Paths of the files in the tarball. */
let packed: readonly string[];
let manifest: Manifest;
let readme: string;

beforeAll(async () => {
	temporary = await realpath(await mkdtemp(join(tmpdir(), "sluice-package-")));
	folder = await mkdtemp(join(temporary, "user-"));
	manifest = await readManifest(ROOT);
	await npm(ROOT, "pack", "--silent", "--pack-destination", temporary);
	const tarball = (await readdir(temporary)).filter((name) => name.endsWith(".tgz"));
	expect(tarball).toHaveLength(1);
	await npm(folder, ...installArguments(await readFile(join(ROOT, "README.md"), "utf8"), join(temporary, ...tarball)));
	const installed = join(folder, "node_modules/sluice");
	packed = await filesUnder(installed);
	readme = await readFile(join(installed, "README.md"), "utf8");
	await npm(folder, "pkg", "set", "type=module");
	await writeFile(join(folder, "server.ts"), codeUnder(readme, "A server in twenty lines"));
	await writeFile(join(folder, "client.ts"), codeUnder(readme, "A client in twenty lines"));
	chain = await startChain();
}, INSTALL_DEADLINE_MS);

afterAll(async () => {
	await chain?.stop();
	await rm(temporary, { recursive: true, force: true });
});

describe("what the tarball holds", () => {
	it("is what was built from src and deploy, the Solidity interfaces, the policy's schema and the pages: no test, no source, nothing stale", async () => {
		const sources = ["src", "deploy"].map(async (room) =>
			(await filesUnder(join(ROOT, room))).filter((path) => path.endsWith(".ts")).map((path) => `${room}/${path}`),
		);
		const built = (await Promise.all(sources)).flat().map((path) => `dist/${path.slice(0, -".ts".length)}`);
		const interfaces = (await readdir(join(ROOT, "contracts"))).filter((name) => /^I[A-Z].*\.sol$/.test(name));
		expect(built).toContain("dist/src/server/index");
		expect(interfaces).toContain("IPaymentChannelEscrow.sol");
		expect(packed).toEqual(
			[
				...["CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md", "package.json"],
				"dist/deploy/deployments.json",
				...built.flatMap((path) => [`${path}.js`, `${path}.d.ts`]),
				...interfaces.map((name) => `contracts/${name}`),
				"schema/policy.schema.json",
			].sort(),
		);
	});

	it("is no key, and no path of the machine that packed it", async () => {
		const developers = new Set(Array.from({ length: 10 }, (_, index) => keyOf(index)));
		expect(developers.size).toBe(10);
		for (const path of packed) {
			const text = await readPacked(path);
			expect(text, path).not.toMatch(/BEGIN [A-Z ]*PRIVATE KEY/);
			expect(text, path).not.toContain(ROOT);
			const words = text.match(/\b(?:0x)?[0-9a-fA-F]{64}\b/g) ?? [];
			expect(words.filter((word) => developers.has(word.replace("0x", "").toLowerCase()))).toEqual([]);
		}
	});

	it("imports nothing that is not in it: neither JavaScript, nor types, nor Solidity", async () => {
		const all = new Set(packed);
		let checked = 0;
		for (const path of packed.filter((name) => /\.(js|d\.ts|sol)$/.test(name))) {
			const text = await readPacked(path);
			for (const [, to = ""] of text.matchAll(/(?:^import |\bfrom |\bimport\()"(\.{1,2}\/[^"]+)"/gm)) {
				checked++;
				expect(all, `${path} imports ${to}`).toContain(join(dirname(path), to));
				if (path.endsWith(".d.ts")) expect([...all], path).toContain(join(dirname(path), to).replace(/\.js$/, ".d.ts"));
			}
		}
		expect(checked).toBeGreaterThan(packed.length);
	});

	it("can be imported by each of its entry points, by plain Node", async () => {
		const entries = Object.keys(manifest.exports).filter((name) => !name.includes("*"));
		const program = entries.map((entry) => {
			const specifier = JSON.stringify(entry.replace(/^\./, "sluice"));
			const attributes = entry.endsWith(".json") ? ', { with: { type: "json" } }' : "";
			return `console.log(${specifier}, Object.keys(await import(${specifier}${attributes})).length > 0);`;
		});
		await writeFile(join(folder, "entries.js"), program.join("\n"));
		const { code, stdout, stderr } = await run(process.execPath, ["entries.js"]);
		expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
		expect(stdout.trimEnd().split("\n")).toEqual(entries.map((entry) => `${entry.replace(/^\./, "sluice")} true`));
	});
});

describe("the README's two programs, in an empty folder", () => {
	it("import only what the README installs there", async () => {
		const { dependencies } = await readManifest(folder);
		const programs = ["server", "client"].map((name) => codeUnder(readme, `A ${name} in twenty lines`)).join("\n");
		const imported = [...programs.matchAll(/ from "([^"./][^"/]*)/g)].map(([, name]) => name);
		expect(imported).toContain("sluice");
		expect(Object.keys(dependencies)).toEqual(
			expect.arrayContaining(imported.filter((name) => !name?.startsWith("node:"))),
		);
	});

	it.each([
		["nodenext", { module: "nodenext" }],
		["bundler", { module: "esnext", moduleResolution: "bundler" }],
	])("have their types, strict and without skipLibCheck: %s", { timeout: DEADLINE_MS }, async (name, options) => {
		await writeFile(
			join(folder, "wrong.ts"),
			[
				'import { PaymentClient } from "sluice/client";',
				'import "sluice/server";',
				// Without the optional peers: undici, ws, the SDK of MCP.
				'import "sluice/client/node";',
				'import Fastify from "fastify";',
				'Fastify().get("/", { config: { payment: { price: 100 } } }, () => "");',
				'Fastify().get("/", ({ payment }) => payment?.nonsense);',
				"new PaymentClient({});",
			].join("\n"),
		);
		const { code, stdout } = await typeCheck(name, options);
		// Other packages' declarations may have faults of their own, which our users can't mend either.
		const faults = stdout.split("\n").filter((line) => /^\S.*: error TS/.test(line));
		const ours = faults.filter((line) => !/^node_modules\/(?!sluice\/)/.test(line));
		// The wrong program proves that the types are read, that Fastify's are extended, and that none of them is `any`.
		expect(code).not.toBe(0);
		const places = ours.map((line) => line.replace(/,\d+\): error .*/, ""));
		expect([...new Set(places)], stdout).toEqual(["wrong.ts(5", "wrong.ts(6", "wrong.ts(7"]);
	});

	it("run there: ten quotes over one channel, one charge, one close; the chain has the money", {
		timeout: DEADLINE_MS,
	}, async () => {
		await expectPaid(chain, { server: "server.ts", client: "client.ts", folder });
	});
});

describe("the command, in an empty folder", () => {
	it("is there as `npx sluice`", { timeout: DEADLINE_MS }, async () => {
		const { code, stdout, stderr } = await run("npx", ["sluice", "--help"]);
		expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
		expect(stdout).toContain("Usage: sluice");
	});

	it("says what the demo needs, and runs it once that is there", { timeout: INSTALL_DEADLINE_MS }, async () => {
		const args = ["sluice", "demo", "--json", "--requests", "20"];
		const without = await run("npx", args);
		expect(without.code).toBe(1);
		const [, names] = without.stderr.match(/npm install --save-dev (\S+)/) ?? [];
		expect(names).toBe("@foundry-rs/anvil");
		await npm(folder, ...installOptions(), "--save-dev", pinned("@foundry-rs/anvil"));
		const { code, stdout, stderr } = await run("npx", args);
		expect({ code, stderr }).toMatchObject({ code: 0 });
		expect(JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "")).toMatchObject({ ok: 20, failed: 0, spent: "2000" });
	});
});

/** `npm install` as the README has it, with the tarball's place, and at the versions that this repository is tested with. */
function installArguments(page: string, tarball: string): readonly string[] {
	const [, , names = ""] = codeUnder(page, "Install").match(/npm install (\S+\.tgz)((?: [@a-z][@/a-z.-]*)*)/) ?? [];
	expect(names.trim().split(" ")).toContain("viem");
	const wanted = [...names.trim().split(" "), "typescript", "@types/node"].map(pinned);
	return [...installOptions(), tarball, ...wanted];
}

function installOptions(): readonly string[] {
	return ["install", "--prefix", folder, "--prefer-offline", "--no-audit", "--no-fund", "--silent"];
}

function pinned(name: string): string {
	const version = manifest.devDependencies[name];
	if (version === undefined) throw new Error(`${name}: not among the devDependencies, which say the version`);
	return `${name}@${version}`;
}

async function typeCheck(name: string, options: Readonly<Record<string, string>>): Promise<Ran> {
	const compilerOptions = {
		...options,
		target: "es2024",
		types: ["node"],
		noEmit: true,
		strict: true,
		exactOptionalPropertyTypes: true,
		noUncheckedIndexedAccess: true,
		verbatimModuleSyntax: true,
		erasableSyntaxOnly: true,
		skipLibCheck: false,
	};
	const file = `tsconfig.${name}.json`;
	await writeFile(join(folder, file), JSON.stringify({ compilerOptions, include: ["*.ts"] }));
	return run(process.execPath, ["node_modules/typescript/bin/tsc", "--pretty", "false", "-p", file]);
}

/** Runs npm, which must not take the settings of an npm that runs these tests. */
async function npm(cwd: string, ...args: readonly string[]): Promise<void> {
	const { code, stdout, stderr } = await run("npm", args, cwd);
	if (code !== 0) throw new Error(`npm ${args.join(" ")}: exit code ${code}\n${stdout}${stderr}`);
}

async function run(command: string, args: readonly string[], cwd = folder): Promise<Ran> {
	const inherited = Object.entries(process.env).filter(
		([name]) => !/^(npm_(lifecycle|package|command|config_local_prefix)|NODE_OPTIONS$|NODE_ENV$|VITEST)/.test(name),
	);
	const PATH = [dirname(process.execPath), process.env.PATH].join(delimiter);
	try {
		const ran = await promisify(execFile)(command, [...args], { cwd, env: { ...Object.fromEntries(inherited), PATH } });
		return { code: 0, ...ran };
	} catch (error) {
		const { code, stdout, stderr } = error as { code: unknown; stdout?: string; stderr?: string };
		if (typeof code !== "number") throw error;
		return { code, stdout: stdout ?? "", stderr: stderr ?? "" };
	}
}

async function readManifest(where: string): Promise<Manifest> {
	return JSON.parse(await readFile(join(where, "package.json"), "utf8")) as Manifest;
}

async function filesUnder(where: string): Promise<readonly string[]> {
	const entries = await readdir(where, { recursive: true, withFileTypes: true });
	const files = entries.filter((entry) => !entry.isDirectory());
	return files.map((entry) => join(entry.parentPath, entry.name).slice(where.length + 1)).sort();
}

function readPacked(path: string): Promise<string> {
	return readFile(join(folder, "node_modules/sluice", path), "utf8");
}

/** The key of a development chain's account, as hex digits. */
function keyOf(index: number): string {
	return Buffer.from(chain.account(index).getHdKey().privateKey ?? []).toString("hex");
}
