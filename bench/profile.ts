import { mkdir, mkdtemp, readdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Argument, Command, InvalidArgumentError, Option } from "commander";
import { BENCHES } from "./benches.ts";
import { type CpuProfile, profileTable, summarise } from "./lib/cpuProfile.ts";
import { profileInto } from "./lib/profiling.ts";
import { shareStages } from "./lib/sharedStage.ts";

type Options = Readonly<{
	out?: string;
	rounds: number;
	quick?: boolean;
	top: number;
	by: "function" | "file";
	without: readonly string[];
}>;

const command = new Command("bench:profile")
	.description(
		"Runs a bench without its peers, and tells which functions or files took most time in each of its sides.",
	)
	.addArgument(new Argument("<bench>", "which").choices(BENCHES.map(({ bench }) => bench.name)))
	.option("--out <folder>", "where the profiles are written (default: a new temporary folder)")
	.option("--rounds <n>", "how often each side runs, after a first time", count, 3)
	.option("--quick", "less work in each round")
	.option("--top <n>", "how many functions or files are told of", count, 30)
	.addOption(new Option("--by <what>", "what is told of").choices(["function", "file"]).default("function"))
	.option("--without <functions...>", "left out, with what they call", ["prepare"])
	.addHelpText(
		"after",
		"\nThe whole life of a side is in its profile: its start as well, and what it does before its clock runs, unless that\n" +
			"is left out; by default what is in a function called prepare is.\n" +
			"Open a .cpuprofile in the Performance panel of Chrome or in an editor for who called what.",
	)
	.parse();
const { out, rounds, quick = false, top, by, without } = command.opts<Options>();
const [name = ""] = command.args;

const folder = out === undefined ? await mkdtemp(join(tmpdir(), "sluice-profile-")) : resolve(out);
await mkdir(folder, { recursive: true });
const before = new Set(await readdir(folder));
const say = (text: string) => void process.stderr.write(`${name}: ${text}\n`);
const stages = shareStages();
profileInto(folder);
try {
	const entry = BENCHES.find(({ bench }) => bench.name === name);
	await entry?.bench.run({ rounds, quick, progress: say, setStage: stages.setStage });
} finally {
	await stages.stop();
}

const root = new URL("../", import.meta.url).href;
const files = (await readdir(folder)).filter((file) => file.endsWith(".cpuprofile") && !before.has(file));
for (const file of files.sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10))) {
	const path = join(folder, file);
	const profile: CpuProfile = JSON.parse(await readFile(path, "utf8"));
	process.stdout.write(`${path}\n${profileTable(summarise(profile, { root, by, without }), top)}\n\n`);
}

function count(text: string): number {
	const number = Number(text);
	if (Number.isSafeInteger(number) && number >= 1 && number <= 1_000) return number;
	throw new InvalidArgumentError("a whole number from 1 to 1,000, please.");
}
