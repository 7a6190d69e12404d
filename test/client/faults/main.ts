/** `npm run test:long`: the schedules of which `npm test` plays a sample. */
import { randomBytes } from "node:crypto";
import { Command, InvalidArgumentError } from "commander";
import { runSchedules } from "./run.ts";

const {
	json,
	seed,
	schedules,
	from,
	to = from + schedules,
} = new Command("test:long")
	.description(
		"Plays random schedules of faults between a paying client and a paid server: connections are cut, messages delayed, duplicated " +
			"and reordered at every boundary, servers restarted with and without their store. Chain, servers and sockets are real.",
	)
	.option("--seed <text>", "which schedules (default: a random one)", randomBytes(4).toString("hex"))
	.option("--schedules <n>", "how many", count, 10_000)
	.option("--from <n>", "the first one", count, 0)
	.option("--to <n>", "the one after the last one", count)
	.option("--json", "print one JSON object")
	.addHelpText("after", "\nExits with 1 when a schedule failed.")
	.parse()
	.opts<{ json?: boolean; seed: string; schedules: number; from: number; to?: number }>();

const say = (text: string) => void process.stderr.write(`${text}\n`);
say(`seed ${seed}`);
const report = await runSchedules({ seed, from, to }, say);
const { requests, failures, endings, happenings, mostAhead, seconds } = report;
if (json) process.stdout.write(`${JSON.stringify(report)}\n`);
else {
	process.stdout.write(`${report.schedules} schedules of seed ${seed} in ${seconds} s\n`);
	process.stdout.write(
		`requests: ${requests.answered} answered, ${requests.unknown} of unknown outcome, ${requests.refused} refused\n`,
	);
	process.stdout.write(`signed at most ${mostAhead} base units above what was delivered\n`);
	process.stdout.write(`meanwhile: ${JSON.stringify(happenings)}\n`);
	for (const [how, times] of Object.entries(endings).sort((a, b) => b[1] - a[1]))
		process.stdout.write(`  ${String(times).padStart(7)}  ${how}\n`);
	process.stdout.write(`${report.schedules - failures.length} passed, ${failures.length} failed\n`);
}
process.exitCode = failures.length === 0 ? 0 : 1;

function count(text: string): number {
	const number = Number(text);
	if (Number.isSafeInteger(number) && number >= 0 && number <= 10_000_000) return number;
	throw new InvalidArgumentError("a whole number, please.");
}
