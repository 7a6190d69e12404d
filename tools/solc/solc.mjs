#!/usr/bin/env node
// The part of solc's command line that forge uses, answered by npm's own build of the compiler: nothing is downloaded.
import { readFileSync } from "node:fs";
import solc from "solc";

if (process.argv.includes("--version")) {
	console.log(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}`);
} else if (process.argv.includes("--standard-json")) {
	process.stdout.write(solc.compile(readFileSync(0, "utf8")));
} else {
	console.error("solc.mjs: only --version and --standard-json are known here");
	process.exitCode = 2;
}
