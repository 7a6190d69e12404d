#!/usr/bin/env node
import { Command, CommanderError } from "commander";

/** Each command's own module: only the one that is asked for is loaded, for a command should answer at once. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
	demo: async () => (await import("./demo/command.ts")).demoCommand(),
	deploy: async () => (await import("./deploy/command.ts")).deployCommand(),
	channels: async () => (await import("./channels/command.ts")).channelsCommand(),
	fetch: async () => (await import("./fetch/command.ts")).fetchCommand(),
	policy: async () => (await import("./policy/command.ts")).policyCommand(),
	receipts: async () => (await import("./receipts/command.ts")).receiptsCommand(),
	rescue: async () => (await import("./rescue/command.ts")).rescueCommand(),
	doctor: async () => (await import("./doctor/command.ts")).doctorCommand(),
	wallet: async () => (await import("./wallet/command.ts")).walletCommand(),
};

const program = new Command("sluice")
	.description("Payment-channel sessions for paid HTTP: one escrow deposit, thousands of paid requests, one close.")
	.showHelpAfterError("(add --help for usage)")
	.exitOverride();

try {
	const asked = process.argv[2] ?? "";
	const names = Object.hasOwn(COMMANDS, asked) ? [asked] : Object.keys(COMMANDS);
	for (const name of names) {
		const command = await COMMANDS[name]?.();
		if (command !== undefined) program.addCommand(command);
	}
	await program.parseAsync();
} catch (error) {
	if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
	else {
		process.stderr.write(`sluice: ${error instanceof Error ? error.message : String(error)}\n`);
		process.exitCode = 1;
	}
}
