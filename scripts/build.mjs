// `npm run build`: writes dist/, what the tarball holds. Node runs no TypeScript below node_modules, so it is compiled.
// Nothing in this repository needs dist/: here, the condition "sluice-source" of package.json's exports leads to the sources.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const DIST = join(ROOT, "dist");

// What an earlier build left must not be packed.
rmSync(DIST, { recursive: true, force: true });
const tsc = join(ROOT, "node_modules/typescript/bin/tsc");
const { status } = spawnSync(process.execPath, [tsc, "-p", "tsconfig.build.json"], { cwd: ROOT, stdio: "inherit" });
if (status !== 0) process.exit(1);

// The compiler rewrites the endings of imports in what it emits as JavaScript, but not in declarations.
for (const path of readdirSync(DIST, { recursive: true })) {
	if (!path.endsWith(".d.ts")) continue;
	const file = join(DIST, path);
	const text = readFileSync(file, "utf8");
	const rewritten = text.replace(/(\bfrom |\bimport |\bimport\()"(\.{1,2}\/[^"]+)\.ts"/g, '$1"$2.js"');
	if (rewritten !== text) writeFileSync(file, rewritten);
}
