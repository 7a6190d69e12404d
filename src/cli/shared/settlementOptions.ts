import { type Command, Option } from "commander";
import { parseAmount, parseChainId, parseSeconds } from "./arguments.ts";
import { addDataOption, addRpcOption } from "./command.ts";
import { addKeyOptions } from "./keys.ts";

/**
 * What settling out of a store takes, whichever command does it.
 *
 * @param isDataOptional - as `addDataOption` says
 */
export function addSettlementOptions(command: Command, isDataOptional = false): Command {
	addDataOption(command, isDataOptional);
	addRpcOption(command, "channels of other chains are left alone");
	command
		.addOption(new Option("--chain-id <id>", "refuse an RPC of any other chain").argParser(parseChainId))
		.option("--dry-run", "show what would be sent and what it would cost, and send nothing; needs no key");
	addKeyOptions(command);
	return command
		.addOption(new Option("--min-value <amount>", "leave alone what owes less, in base units").argParser(parseAmount))
		.addOption(
			new Option("--timeout <seconds>", "how long a transaction is waited for").argParser(parseSeconds).default(180),
		);
}
