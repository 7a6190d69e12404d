#!/usr/bin/env node
import { Command, CommanderError } from "commander";
import { channelsCommand } from "./channels/command.ts";
import { demoCommand } from "./demo/command.ts";
import { deployCommand } from "./deploy/command.ts";
import { doctorCommand } from "./doctor/command.ts";
import { fetchCommand } from "./fetch/command.ts";
import { policyCommand } from "./policy/command.ts";
import { receiptsCommand } from "./receipts/command.ts";
import { rescueCommand } from "./rescue/command.ts";
import { walletCommand } from "./wallet/command.ts";

const program = new Command("sluice")
	.description("Payment-channel sessions for paid HTTP: one escrow deposit, thousands of paid requests, one close.")
	.showHelpAfterError("(add --help for usage)")
	.exitOverride()
	.addCommand(demoCommand())
	.addCommand(deployCommand())
	.addCommand(channelsCommand())
	.addCommand(fetchCommand())
	.addCommand(policyCommand())
	.addCommand(receiptsCommand())
	.addCommand(rescueCommand())
	.addCommand(doctorCommand())
	.addCommand(walletCommand());

try {
	await program.parseAsync();
} catch (error) {
	if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
	else {
		process.stderr.write(`sluice: ${error instanceof Error ? error.message : String(error)}\n`);
		process.exitCode = 1;
	}
}
