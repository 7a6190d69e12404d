import { Argument, Command, InvalidArgumentError } from "commander";
import { BENCHES } from "./benches.ts";
import { MEMBERS, type Section } from "./goals.ts";
import { describeMachine, describeVersions } from "./lib/machine.ts";
import { runBenches } from "./run.ts";
import { goalsTable, machineTable, unmetGoals } from "./summary.ts";

const ROUNDS = 5;
const QUICK_ROUNDS = 1;

type Options = Readonly<{ json?: boolean; quick?: boolean; check?: boolean; rounds?: number }>;

const command = new Command("bench")
	.description(
		"Measures Sluice against its peers and against its goals. Sides run in processes of their own and take turns; what is " +
			"printed are medians of their rounds. Keep the machine free of other work.",
	)
	.addArgument(
		new Argument("[benches...]", "which; all of them by default").choices(BENCHES.map(({ bench }) => bench.name)),
	)
	.option("--json", "print one JSON object in place of tables")
	.option("--quick", `little work, and ${QUICK_ROUNDS} round of it: under a minute`)
	.option("--rounds <n>", `how often each side is measured (default: ${ROUNDS})`, count)
	.option("--check", "exit with 1 when a goal is not met")
	.addHelpText(
		"after",
		`\nBenches:\n${BENCHES.map(({ bench }) => `  ${bench.name}: ${bench.description}`).join("\n")}\n\n` +
			"The peers are installed by `npm run bench:setup`; without them there are no ratios to them.\n" +
			"Exits with 1 when a bench fails. A goal that is missed is printed, and is no failure without --check.",
	)
	.parse();
const { json = false, quick = false, check = false, rounds = quick ? QUICK_ROUNDS : ROUNDS } = command.opts<Options>();
const names = command.args;

const say = (text: string) => void process.stderr.write(`${text}\n`);
const print = (text: string) => void (json || process.stdout.write(`${text}\n`));

const machine = await describeMachine();
const versions = await describeVersions();
print(machineTable(machine, versions));
if (machine.loadAverage > machine.cpus / 2) say("the machine has other work: figures are lower than they could be");
const chosen = BENCHES.filter(({ bench }) => names.length === 0 || names.includes(bench.name));
const { report, details, errors, sections } = await runBenches(
	chosen,
	{ rounds, quick, progress: say },
	(title, table) => print(`${title}\n\n${table}\n`),
);

// Whoever runs all of them asks for all goals, even for those that no bench tells of.
const asked = names.length === 0 ? new Set(Object.keys(MEMBERS) as Section[]) : sections;
if (asked.size > 0) print(goalsTable(report, asked));
if (quick) print("\nA quick look: code that has run so little is slower than it gets, and goals are for a full run.");
for (const [name, error] of Object.entries(errors)) {
	say(`bench ${name} failed: ${error instanceof Error ? (error.stack ?? error.message) : error}`);
	process.exitCode = 1;
}
if (check && unmetGoals(report, asked).length > 0) process.exitCode = 1;
if (json) process.stdout.write(`${JSON.stringify({ ...report, machine, versions, rounds, details })}\n`);

function count(text: string): number {
	const number = Number(text);
	if (Number.isSafeInteger(number) && number >= 1 && number <= 1_000) return number;
	throw new InvalidArgumentError("a whole number from 1 to 1,000, please.");
}
