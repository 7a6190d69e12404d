/**
 * That the lint rule of DESIGN 2 fires: imports point down only, server and client never import each other, and what runs
 * in a browser imports nothing of Node. The real `biome.json` is put beside small files in a folder of its own, so that
 * nothing wrong ever lies in the checkout, and biome reads them all once.
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const ROOT = new URL("../", import.meta.url).pathname;

type Room = "voucher" | "protocol" | "escrow" | "server" | "client" | "cli" | "deploy";
/** Rooms within the client, for one platform each. */
type Annex = "client/node" | "client/browser";

const BROWSER_ROOMS: readonly (Room | Annex)[] = ["voucher", "protocol", "escrow", "client", "client/browser"];
const NODE_ONLY = [
	"node:fs",
	"node:crypto",
	"fastify",
	"fastify-plugin",
	"level",
	"secp256k1",
	"tiny-secp256k1",
	"commander",
];

/** What each room may import of ours, and what not. */
const allowed: readonly [Room, Room][] = [
	["escrow", "voucher"],
	["server", "escrow"],
	["server", "protocol"],
	["server", "voucher"],
	["client", "escrow"],
	["client", "protocol"],
	["client", "voucher"],
	["cli", "server"],
	["cli", "client"],
	["cli", "deploy"],
	["deploy", "escrow"],
	["deploy", "voucher"],
];
const forbidden: readonly [Room, Room][] = [
	["server", "client"],
	["client", "server"],
	["server", "cli"],
	["client", "cli"],
	["escrow", "server"],
	["escrow", "client"],
	["escrow", "cli"],
	["escrow", "protocol"],
	["voucher", "protocol"],
	["voucher", "escrow"],
	["voucher", "server"],
	["voucher", "client"],
	["voucher", "cli"],
	["protocol", "voucher"],
	["protocol", "escrow"],
	["protocol", "server"],
	["protocol", "client"],
	["protocol", "cli"],
	["voucher", "deploy"],
	["protocol", "deploy"],
	["escrow", "deploy"],
	["server", "deploy"],
	["client", "deploy"],
	["deploy", "protocol"],
	["deploy", "server"],
	["deploy", "client"],
	["deploy", "cli"],
];

/** The ways to import, each of which must be seen. */
const forms: Readonly<Record<string, (from: string) => string>> = {
	import: (from) => `import { x } from "${from}";\nexport const y = x;\n`,
	"import type": (from) => `import type { X } from "${from}";\nexport type Y = X;\n`,
	"import for its effect": (from) => `import "${from}";\n`,
	"import()": (from) => `export const y = await import("${from}");\n`,
	"export from": (from) => `export { x } from "${from}";\n`,
	"export * from": (from) => `export * from "${from}";\n`,
};

const files = new Map<string, string>();
let errors = new Map<string, readonly string[]>();
let folder = "";

/** Adds a file for biome to read, before it does. */
function file(room: Room | Annex, name: string, content: string): string {
	const path = `${room === "deploy" ? room : `src/${room}`}/${name.replaceAll(/[^A-Za-z0-9/]+/g, "-")}.ts`;
	files.set(path, content);
	return path;
}

function isRefused(path: string): boolean {
	return (errors.get(path) ?? []).includes("lint/style/noRestrictedImports");
}

/** The categories of all errors by file. Biome fails when there are any, and there are. */
function lint(): Map<string, readonly string[]> {
	const found = new Map<string, string[]>();
	const biome = join(ROOT, "node_modules/.bin/biome");
	const options = ["lint", "--vcs-enabled=false", "--reporter=json", "--max-diagnostics=none", "."];
	const report = JSON.parse(outputOf(biome, options));
	for (const { severity, category, location } of report.diagnostics) {
		if (severity === "error") found.set(location.path, [...(found.get(location.path) ?? []), category]);
	}
	return found;
}

function outputOf(command: string, options: readonly string[]): string {
	try {
		return execFileSync(command, options, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
	} catch (error) {
		if (error instanceof Error && "stdout" in error && typeof error.stdout === "string") return error.stdout;
		throw error;
	}
}

beforeAll(() => {
	folder = mkdtempSync(join(tmpdir(), "sluice-import-rules-"));
	copyFileSync(join(ROOT, "biome.json"), join(folder, "biome.json"));
	for (const [path, content] of files) {
		mkdirSync(dirname(join(folder, path)), { recursive: true });
		writeFileSync(join(folder, path), content);
	}
	errors = lint();
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.each(forbidden)("%s may not import %s", (room, other) => {
	for (const [form, written] of Object.entries(forms)) {
		const shallow = file(room, `${other} ${form}`, written(`../${other}/index.ts`));
		const deep = file(room, `inner/${other} ${form}`, written(`../../${other}/inner/part.ts`));
		test(`by ${form}`, () => {
			expect({ shallow: isRefused(shallow), deep: isRefused(deep) }).toEqual({ shallow: true, deep: true });
		});
	}
});

describe.each(allowed)("%s may import %s", (room, other) => {
	for (const [form, written] of Object.entries(forms)) {
		const shallow = file(room, `${other} ${form}`, written(`../${other}/index.ts`));
		const deep = file(room, `inner/${other} ${form}`, written(`../../${other}/index.ts`));
		test(`by ${form}`, () => {
			expect({ shallow: isRefused(shallow), deep: isRefused(deep) }).toEqual({ shallow: false, deep: false });
		});
	}
});

describe.each(BROWSER_ROOMS)("%s, which also runs in a browser,", (room) => {
	for (const name of NODE_ONLY) {
		const path = file(room, `node ${name}`, forms.import?.(name) ?? "");
		test(`may not import ${name}`, () => expect(isRefused(path)).toBe(true));
	}

	const bare = file(room, "node bare", forms.import?.("fs") ?? "");
	test("may not import a builtin of Node by its name without the prefix", () => {
		expect(errors.get(bare) ?? []).not.toEqual([]);
	});

	const sibling = file(room, "sibling", forms.import?.("./part.ts") ?? "");
	const inner = file(room, "inner/parent", forms.import?.("../part.ts") ?? "");
	const library = file(room, "library", forms.import?.("zod") ?? "");
	test("may import its own files and what runs anywhere", () => {
		expect([isRefused(sibling), isRefused(inner), isRefused(library)]).toEqual([false, false, false]);
	});
});

describe("the record of deployments", () => {
	const from = "../../deploy/deployments.json";
	const its = file("escrow", "record", forms.import?.(from) ?? "");
	test("is read by escrow", () => expect(isRefused(its)).toBe(false));

	const others = (["voucher", "protocol", "server", "client"] as const).map((room) =>
		file(room, "record", forms.import?.(from) ?? ""),
	);
	test("is read by escrow alone", () => expect(others.map(isRefused)).toEqual(others.map(() => true)));
});

describe("the server", () => {
	const path = file("server", "node", forms.import?.("node:crypto") ?? "");
	test("may import Node", () => expect(isRefused(path)).toBe(false));
});

describe("the client's rooms for one platform each", () => {
	const written = (from: string) => Object.values(forms).map((form) => form(from));
	const from = (room: Room | Annex, name: string, imported: string) =>
		written(imported).map((content, index) => file(room, `${name} ${index}`, content));

	const shared = ["client/node", "client/browser"] as const;
	const down = shared.flatMap((room) => [
		...from(room, "client", "../store/store.ts"),
		...from(room, "protocol", "../../protocol/index.ts"),
		...from(room, "escrow", "../../escrow/index.ts"),
		...from(room, "sibling", "./part.ts"),
	]);
	test("may import the client and what it may import", () => expect(down.filter(isRefused)).toEqual([]));

	const platform = [
		...from("client/node", "level", "level"),
		...from("client/node", "net", "node:net"),
		...from("client/browser", "browser-level", "browser-level"),
	];
	test("may import what their platform has", () => expect(platform.filter(isRefused)).toEqual([]));

	const up = shared.flatMap((room) => [
		...from(room, "server", "../../server/index.ts"),
		...from(room, "cli", "../../cli/main.ts"),
		...from(room, "deploy", "../../../deploy/index.ts"),
	]);
	const across = [
		...from("client/node", "browser", "../browser/index.ts"),
		...from("client/node", "browser-level", "browser-level"),
		...from("client/node", "commander", "commander"),
		...from("client/browser", "node", "../node/index.ts"),
		...from("client", "node", "./node/index.ts"),
		...from("client", "inner/node", "../node/index.ts"),
		...from("client", "browser", "./browser/index.ts"),
		...from("client", "browser-level", "browser-level"),
	];
	test("may import nothing that points up or to the other platform, and the client imports neither", () => {
		expect([...up, ...across].filter((path) => !isRefused(path))).toEqual([]);
	});
});
