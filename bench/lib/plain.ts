/** The project as it is installed: plain JavaScript. */
import { copyFile, glob, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { stripTypeScriptTypes } from "node:module";
import { dirname, join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** What a side's script may import. */
const SOURCES = ["src/**/*.{ts,json}", "deploy/**/*.{ts,json}", "bench/lib/*.ts"];

/** How one file of ours names another. */
const OWN_IMPORT = /((?:from|import)[\s(]*"\.[^"]*)\.ts"/g;

/**
 * Writes the sources without their types into `folder`, for sides whose memory is measured: with TypeScript, Node's own reader of
 * it stays in the process, and takes some 40 MB that no server has.
 *
 * @param scripts further files, besides `src`, `deploy` and `bench/lib`: patterns from the project's root
 * @returns where a script of ours is then
 * @example
 * const plain = await plainSources(join(stage.folder, "plain"), ["bench/millionChannels/*.ts"]);
 * const side = await startSide(plain(new URL("./side.ts", import.meta.url)), start);
 */
export async function plainSources(folder: string, scripts: readonly string[]): Promise<(script: URL) => URL> {
	for await (const name of glob([...SOURCES, ...scripts], { cwd: ROOT })) {
		const copy = plainName(join(folder, name));
		await mkdir(dirname(copy), { recursive: true });
		if (!name.endsWith(".ts")) await copyFile(join(ROOT, name), copy);
		else await writeFile(copy, plainText(await readFile(join(ROOT, name), "utf8")));
	}
	await writeFile(join(folder, "package.json"), '{"type":"module"}\n');
	await symlink(join(ROOT, "node_modules"), join(folder, "node_modules"));
	return (script) => pathToFileURL(plainName(join(folder, relative(ROOT, fileURLToPath(script)))));
}

function plainName(path: string): string {
	return path.replace(/\.ts$/, ".js");
}

function plainText(typed: string): string {
	return stripTypeScriptTypes(typed).replaceAll(OWN_IMPORT, '$1.js"');
}
