import { Command, InvalidArgumentError, Option } from "commander";
import { type DemoOptions, runDemo, SCENARIOS } from "./demo.ts";

/** `sluice demo [scenario]`. Exit codes: 0 all checks passed, 1 a check or the run failed, 2 wrong usage. */
export function demoCommand(): Command {
	const command = new Command("demo")
		.description(
			"Runs a whole payment on this machine: a chain process, token and escrow, a paid server with a LevelDB folder, an agent " +
				"that pays. Needs no keys, faucet or network.",
		)
		.argument("[scenario]", `what to run: ${Object.keys(SCENARIOS).join(", ")}`, parseScenario, "session")
		.addOption(new Option("--requests <n>", "how many paid requests").argParser(parseCount).default(1_000))
		.addOption(new Option("--concurrency <n>", "how many at a time").argParser(parseCount).default(32))
		.addOption(new Option("--channels <n>", "settle-many: how many channels owe").argParser(parseCount).default(200))
		.addOption(new Option("--tokens <n>", "stream: how many tokens are read").argParser(parseCount).default(2_000))
		.option("--data <dir>", "folder for the store (default: a temporary one)")
		.option("--keep", "keep the store's folder")
		.option("--json", "print one JSON object as the last line instead of a table")
		.addHelpText(
			"after",
			"\nExamples:\n  $ sluice demo\n  $ sluice demo charge --json\n  $ sluice demo permit2 --requests 200\n  $ sluice demo request-close --json\n  $ sluice demo session --requests 200 --data ./demo-store --keep",
		);
	return command
		.exitOverride()
		.showHelpAfterError("(add --help for usage)")
		.action(async (scenario: DemoOptions["scenario"], options: Omit<DemoOptions, "scenario">) => {
			const passed = await runDemo({ scenario, ...options });
			process.exitCode = passed ? 0 : 1;
		});
}

function parseScenario(name: string): DemoOptions["scenario"] {
	if (Object.hasOwn(SCENARIOS, name)) return name as DemoOptions["scenario"];
	throw new InvalidArgumentError(`there is no scenario "${name}"; there are ${Object.keys(SCENARIOS).join(", ")}.`);
}

function parseCount(text: string): number {
	const count = Number(text);
	if (Number.isSafeInteger(count) && count >= 1 && count <= 1_000_000) return count;
	throw new InvalidArgumentError("a whole number from 1 to 1,000,000, please.");
}
