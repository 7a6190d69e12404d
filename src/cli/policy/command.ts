import { Command, Option } from "commander";
import { parseAddress, parseChainId } from "../shared/arguments.ts";
import { addOutputOptions, runCommand, tellWrongUsage } from "../shared/command.ts";
import { EXIT_CODES, help } from "../shared/help.ts";
import { addPolicyOption, addWalletOption } from "../shared/payer.ts";
import { type CheckOptions, checkPolicy } from "./check.ts";
import { printSchema } from "./schema.ts";
import { type ShowOptions, showPolicy } from "./show.ts";

/** `sluice policy check | show | schema`. Exit codes as `EXIT` in ../shared/exit.ts. */
export function policyCommand(): Command {
	return new Command("policy")
		.description("Checks what an agent's wallet may sign, and shows how much of it is used up.")
		.showHelpAfterError("(add --help for usage)")
		.exitOverride()
		.addCommand(checkCommand())
		.addCommand(showCommand())
		.addCommand(schemaCommand());
}

function checkCommand(): Command {
	const command = new Command("check")
		.description(
			"Reads a policy (JSON or YAML) and says what it allows; with --host and --amount whether it allows that payment, and if not, by which rule.",
		)
		.argument("<file>", "the policy")
		.option("--host <host>", "who would be paid: api.example.com, or api.example.com:8443")
		.option("--amount <amount>", "how much, in units of the token's currency (0.05), else in base units")
		.option("--stream", "the amount is that of a whole answer which is paid by what it uses")
		.addOption(new Option("--payee <address>", "to whom (default: the policy's first payee)").argParser(parseAddress))
		.addOption(new Option("--token <address>", "in which token (default: the policy's first)").argParser(parseAddress))
		.addOption(new Option("--chain <id>", "on which chain (default: the token's)").argParser(parseChainId))
		.addOption(new Option("--escrow <address>", "by a channel in this escrow").argParser(parseAddress));
	addWalletOption(command);
	return tellWrongUsage(addOutputOptions(command))
		.addHelpText(
			"after",
			help(
				"0 it is right, and allows the payment; 1 failed; 2 it is wrong, or wrong usage; 4 it does not allow the payment",
				[
					"sluice policy check policy.yaml",
					"sluice policy check policy.yaml --host api.example.com --amount 0.05",
					"sluice policy check policy.yaml --host api.example.com --payee 0x… --token 0x… --chain 8453 --amount 0.05 --wallet ~/.sluice/wallet",
				],
				"Without --wallet nothing counts as spent yet; with it the limits are those that are left.",
			),
		)
		.action((file: string, options: CheckOptions) => runCommand(options, (run) => checkPolicy(run, file, options)));
}

function showCommand(): Command {
	const command = new Command("show").description(
		"Shows the wallet's policy, and of each limit how much is used up by now, over all processes of the agent.",
	);
	addWalletOption(command);
	addPolicyOption(command);
	return tellWrongUsage(addOutputOptions(command))
		.addHelpText(
			"after",
			help("0 done, 1 failed, 2 the policy is wrong, or wrong usage", [
				"sluice policy show",
				"sluice policy show --wallet ./wallet --policy policy.yaml --json | jq .limits",
			]),
		)
		.action((options: ShowOptions) => runCommand(options, (run) => showPolicy(run, options)));
}

function schemaCommand(): Command {
	const command = new Command("schema").description(
		"Prints the JSON Schema of a policy, by which editors complete and check one.",
	);
	return tellWrongUsage(command)
		.addHelpText("after", help(EXIT_CODES, ["sluice policy schema > policy.schema.json"]))
		.action(() => runCommand({ json: true }, (run) => printSchema(run)));
}
