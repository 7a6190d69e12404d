// Adds to package-lock.json the optional platform packages that npm left out of it because they could not be
// had when the lockfile was made, so that `npm ci` accepts the lockfile on those platforms too.
// Run after every `npm install` that changes dependencies: `npm run lockfile`.
import { readFileSync, writeFileSync } from "node:fs";

const LOCKFILE = new URL("../package-lock.json", import.meta.url);
const CPU = { amd64: "x64" };

const lock = JSON.parse(readFileSync(LOCKFILE, "utf8"));
const added = [];
for (const [path, entry] of Object.entries(lock.packages)) {
	for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
		const place = `node_modules/${name}`;
		const [, os, cpu] =
			name.match(
				/(aix|android|darwin|freebsd|linux|netbsd|openbsd|openharmony|sunos|win32)-(amd64|arm|arm64|ia32|loong64|ppc64|riscv64|s390x|x64)\b/,
			) ?? [];
		if (lock.packages[place] || !os || !/^\d/.test(version)) continue;
		const dev = entry.dev && path !== "tools/node";
		lock.packages[place] = { version, cpu: [CPU[cpu] ?? cpu], ...(dev && { dev }), optional: true, os: [os] };
		added.push(`${name}@${version}`);
	}
}
const [root, ...rest] = Object.entries(lock.packages);
lock.packages = Object.fromEntries([root, ...rest.sort(([a], [b]) => (a < b ? -1 : 1))]);
writeFileSync(LOCKFILE, `${JSON.stringify(lock, null, 2)}\n`);
console.log(added.length === 0 ? "package-lock.json is complete" : `added to package-lock.json: ${added.join(", ")}`);
