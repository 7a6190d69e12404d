import { Command, InvalidArgumentError } from "commander";
import { type Choice, planOf } from "./plan.ts";
import { runStreams } from "./run.ts";
import { streamsTable } from "./table.ts";

const { json, ...choice } = new Command("streams")
	.description(
		"Runs metered streams on one server, each on a channel of its own, and tells what they take: memory, what they leave behind, " +
			"how long a stream waits after its voucher has come. Chain, server and payers are a process each.",
	)
	.option("--streams <n>", "how many at once (default: 1000, or 1 with --pieces)", count)
	.option("--seconds <n>", "for how long (default: 60)", count)
	.option("--pause <ms>", "before each piece of a stream (default: 500)", count)
	.option("--pieces <n>", "so many pieces as fast as they go, in place of a time", count)
	.option("--json", "print one JSON object in place of a table")
	.addHelpText(
		"after",
		"\nExits with 1 when anything was delivered that was not paid, paid that was not delivered, or left behind.",
	)
	.parse()
	.opts<Choice & { json?: boolean }>();

const report = await runStreams(planOf(choice), (text) => void process.stderr.write(`${text}\n`));
process.stdout.write(json ? `${JSON.stringify(report)}\n` : streamsTable(report));
const { unequal, after } = report;
const left = after.meters + after.bodies + after.waiting + after.streams + after.sockets;
process.exitCode = unequal === 0 && left === 0 ? 0 : 1;

function count(text: string): number {
	const number = Number(text);
	if (Number.isSafeInteger(number) && number >= 1 && number <= 100_000_000) return number;
	throw new InvalidArgumentError("a whole number from 1 on, please.");
}
