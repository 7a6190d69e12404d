import { builtinModules } from "node:module";
import { build, type Metafile } from "esbuild";
import { describe, expect, it } from "vitest";

const ROOT = new URL("..", import.meta.url).pathname;

async function bundle(entry: string): Promise<Metafile> {
	const { metafile } = await build({
		absWorkingDir: ROOT,
		entryPoints: [entry],
		bundle: true,
		format: "esm",
		platform: "browser",
		write: false,
		metafile: true,
		logLevel: "silent",
	});
	return metafile;
}

describe.each(["src/voucher/index.ts", "src/protocol/index.ts", "src/client/index.ts", "src/client/browser/index.ts"])(
	"%s",
	(entry) => {
		it("needs nothing of Node: it can be bundled for a browser", async () => {
			// The build itself fails on an import of Node's that a browser has not.
			const { inputs, outputs } = await bundle(entry);
			const imported = [
				...Object.values(inputs).flatMap(({ imports }) => imports),
				...Object.values(outputs).flatMap(({ imports }) => imports),
			];
			const ofNode = new Set(builtinModules);
			expect(imported.filter(({ path }) => path.startsWith("node:") || ofNode.has(path))).toEqual([]);
			expect(imported.filter(({ external }) => external === true)).toEqual([]);
			expect(Object.keys(inputs)).toContain(entry);
			expect(Object.keys(inputs).filter((input) => /^src\/(server|cli|client\/node)\//.test(input))).toEqual([]);
		});

		it("carries nothing of zod that it does not use, as `import { z }` would: a quarter of a megabyte in fifty languages", async () => {
			const { outputs } = await bundle(entry);
			const carried = Object.values(outputs).flatMap((output) => Object.entries(output.inputs));
			const languages = carried.filter(
				([path, { bytesInOutput }]) => /zod.*\/locales\//.test(path) && bytesInOutput > 0,
			);
			expect(languages.map(([path]) => path.replace(/.*\//, "")).filter((name) => name !== "en.js")).toEqual([]);
		});
	},
);

it.each(["src/server/index.ts", "src/client/node/index.ts"])("the check finds a need of Node in %s", async (entry) => {
	await expect(bundle(entry)).rejects.toThrow(/node:/);
});
