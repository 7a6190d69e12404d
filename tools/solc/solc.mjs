#!/usr/bin/env node
// The part of solc's command line that forge uses, answered by npm's own build of the compiler: nothing is downloaded.
import { readFileSync } from "node:fs";
import solc from "solc";

if (process.argv.includes("--version")) {
	process.stdout.write(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}\n`);
} else if (process.argv.includes("--standard-json")) {
	process.stdout.write(solc.compile(readFileSync(0, "utf8")));
} else {
	process.stderr.write("solc.mjs: only --version and --standard-json are known here\n");
	process.exitCode = 2;
}
