// Root `prepare`: runs after an install in this repository, and not, as `postinstall` would, where its tarball is
// installed. (A workspace's script is too early: npm 10 then removes again what it had skipped.)
// npm under Node 20 silently skips hardhat's native chain (its `engines` ask for Node 22, which this project brings along
// but npm does not know). Fetches the one that belongs to this machine when it is missing, at the version and integrity
// that package-lock.json names.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = new URL("..", import.meta.url).pathname;

function packageOfThisMachine() {
	if (process.platform === "linux") {
		const libc = process.report.getReport().header.glibcVersionRuntime ? "gnu" : "musl";
		return `@nomicfoundation/edr-linux-${process.arch}-${libc}`;
	}
	if (process.platform === "darwin") return `@nomicfoundation/edr-darwin-${process.arch}`;
	return undefined;
}

const name = packageOfThisMachine();
const place = name && `node_modules/${name}`;
// Present already, or a production install without hardhat: nothing to do.
if (place && !existsSync(join(ROOT, place)) && existsSync(join(ROOT, "node_modules/@nomicfoundation/edr"))) {
	const locked = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8")).packages[place];
	const folder = mkdtempSync(join(tmpdir(), "sluice-edr-"));
	try {
		const npm = process.env.npm_execpath ?? "npm";
		const [command, ...first] = npm.endsWith(".js") ? [process.execPath, npm] : [npm];
		const args = [...first, "pack", `${name}@${locked.version}`, "--pack-destination", folder, "--json"];
		const [{ filename }] = JSON.parse(
			execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }),
		);
		const tarball = join(folder, filename.replace("@", "").replace("/", "-"));
		if (locked.integrity) {
			const actual = `sha512-${createHash("sha512").update(readFileSync(tarball)).digest("base64")}`;
			if (actual !== locked.integrity) throw new Error(`${name}: integrity ${actual}, expected ${locked.integrity}`);
		}
		mkdirSync(join(ROOT, place), { recursive: true });
		execFileSync("tar", ["-xzf", tarball, "--strip-components=1", "-C", join(ROOT, place)]);
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
}
