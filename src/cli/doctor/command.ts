import { Command, Option } from "commander";
import type { Address } from "viem";
import { collectUrls, parseAddress, parseChainId } from "../shared/arguments.ts";
import { addOutputOptions, runCommand, tellWrongUsage } from "../shared/command.ts";
import { type DoctorOptions, diagnose } from "./run.ts";

/** `sluice doctor`. Exit codes: 0 nothing failed (warnings do not count), 1 a check failed, 2 wrong usage. */
export function doctorCommand(): Command {
	const command = new Command("doctor")
		.description(
			"Checks what a paid server depends on: RPC, chain, clock, escrow, Permit2, token, gas, and its store, also while it runs. Says what to do. Sends and changes nothing.",
		)
		.addOption(
			new Option("--rpc <url...>", "the chain's RPCs: http, https, ws or wss")
				.env("SLUICE_RPC_URL")
				.argParser(collectUrls),
		)
		.addOption(new Option("--chain-id <id>", "the chain they have to serve").argParser(parseChainId))
		.addOption(
			new Option("--escrow <address>", "the escrow (default: the store's, or what this release records)").argParser(
				parseAddress,
			),
		)
		.addOption(
			new Option("--token <address...>", "the tokens (default: the store's)").argParser(
				(text: string, before: readonly Address[] = []) => [...before, parseAddress(text)],
			),
		)
		.addOption(
			new Option("--payee <address>", "who is paid, and pays the gas (default: the store's)").argParser(parseAddress),
		)
		.addOption(new Option("--relayer <address>", "who pays the gas, if that is somebody else").argParser(parseAddress))
		.addOption(new Option("--data <folder>", "the folder that the server keeps its channels in").env("SLUICE_DATA"))
		.option("--record <file>", "a file of deployments to check instead of this release's");
	return tellWrongUsage(addOutputOptions(command))
		.addHelpText(
			"after",
			[
				"",
				"Exit codes: 0 nothing failed (there may be warnings), 1 a check failed, 2 wrong usage.",
				"",
				"Examples:",
				"  $ sluice doctor --rpc https://sepolia.base.org --chain-id 84532 --escrow 0x… --token 0x… --payee 0x…",
				"  $ sluice doctor --rpc https://a.example https://b.example --data ./channels --json",
			].join("\n"),
		)
		.action((options: DoctorOptions) => runCommand(options, (run) => diagnose(run, options)));
}
