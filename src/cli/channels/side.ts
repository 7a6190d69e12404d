/** Whose channels a command is about: a server's, in its store, or a payer's, in its wallet. */
import type { Command } from "commander";
import { addDataOption } from "../shared/command.ts";
import { UsageError } from "../shared/exit.ts";
import { addWalletOption } from "../shared/payer.ts";

export type Side = "server" | "payer";

/** `--data` and `--wallet`. */
export function addSideOptions(command: Command): Command {
	return addWalletOption(addDataOption(command, true));
}

/**
 * Whose channels are meant: what was typed counts before the environment, and without either it is the wallet at its default
 * place.
 *
 * @throws UsageError when both are named
 */
export function sideOf(command: Command): Side {
	const data = command.getOptionValueSource("data");
	const wallet = command.getOptionValueSource("wallet");
	if (data === "cli" && wallet === "cli")
		throw new UsageError("--data names a server's channels, --wallet a payer's: give one of them");
	if (data === "cli" || wallet === "cli") return data === "cli" ? "server" : "payer";
	if (data !== undefined && wallet !== undefined)
		throw new UsageError("SLUICE_DATA and SLUICE_WALLET are both set: say which is meant, by --data or --wallet");
	return data === undefined ? "payer" : "server";
}

/**
 * Refuses what says nothing on this side.
 *
 * @param names - options as `command` knows them
 * @throws UsageError
 */
export function refuseOptions(command: Command, side: Side, names: readonly string[]): void {
	for (const name of names) {
		const option = command.options.find((one) => one.attributeName() === name);
		if (option === undefined || command.getOptionValueSource(name) !== "cli") continue;
		const [place, other] = side === "payer" ? ["--wallet", "--data"] : ["--data", "--wallet"];
		throw new UsageError(`${option.long} does not go with ${place}: it is for ${other}`);
	}
}
