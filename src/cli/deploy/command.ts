import { Command, Option } from "commander";
import { REFERENCE_GRACE_SECONDS } from "../../../deploy/index.ts";
import { isRpcUrl, parseAddress, parseChainId, parseSeconds } from "../shared/arguments.ts";
import { failureLine } from "../shared/failure.ts";
import { hideTyped } from "../shared/secrets.ts";
import { type DeployCommandOptions, runDeployCommand } from "./run.ts";
import { DEFAULT_KEY_VARIABLE } from "./signer.ts";

/** `sluice deploy`. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 sent but not mined in time. */
export function deployCommand(): Command {
	const command = new Command("deploy")
		.description(
			"Deploys the escrow to a chain, at an address that is the same on every chain; verifies it and records it. Run again, " +
				"it finds it there and sends nothing.",
		)
		.addOption(new Option("--rpc <url>", "the chain's RPC: http, https, ws or wss").env("SLUICE_RPC_URL"))
		.option("--chain-id <id>", "refuse an RPC of any other chain", parseChainId)
		.option(
			"--dry-run",
			"check everything, estimate the cost, send and write nothing; needs no key. What could not be recorded is a warning",
		)
		.option("--verify <address>", "verify an escrow that is there, and do nothing else", parseAddress)
		.addOption(
			new Option(
				"--grace-period <seconds>",
				"between a payer's request to close and its withdrawal, 600 to 604800 (7 days)",
			)
				.argParser(parseSeconds)
				.default(REFERENCE_GRACE_SECONDS),
		)
		.option("--permit2 <address>", "the chain's Permit2 (default: the canonical one)", parseAddress)
		.option("--allow-missing-permit2", "deploy although there is no Permit2: its functions work once it is there")
		.option("--deploy-factory", "install the CREATE2 factory where it is missing (0.01 of the native coin at most)")
		.option("--private-key-env <name>", `the variable with the deployer's key (default: ${DEFAULT_KEY_VARIABLE})`)
		.addOption(new Option("--private-key-file <file>", "the file with the deployer's key").conflicts("privateKeyEnv"))
		.addOption(
			new Option("--unlocked <address>", "deploy with an account that the node itself signs for, and no key")
				.argParser(parseAddress)
				.conflicts(["privateKeyEnv", "privateKeyFile", "from"]),
		)
		.option("--from <address>", "with --dry-run and no key: who would deploy", parseAddress)
		.option(
			"--record <file>",
			"the file of deployments (default: deploy/deployments.json inside Sluice's checkout, ./deployments.json elsewhere)",
		)
		.option("--force", "replace another deployment in that file")
		.addOption(
			new Option("--timeout <seconds>", "how long a transaction is waited for").argParser(parseSeconds).default(180),
		)
		.option("--json", "print one JSON object as the last line instead of a table, failures and wrong usage too")
		.addOption(new Option("--private-key [key]").hideHelp())
		.addHelpText(
			"after",
			[
				"",
				"Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 sent but not mined in time (run it again).",
				"The key is never taken from an argument, which other programs could see. Of the RPC's URL only the origin is shown.",
				"",
				"Examples:",
				"  $ sluice deploy --rpc https://sepolia.base.org --dry-run",
				`  $ ${DEFAULT_KEY_VARIABLE}=$(cat key) sluice deploy --rpc https://sepolia.base.org --chain-id 84532`,
				"  $ sluice deploy --rpc https://sepolia.base.org --verify 0x…",
			].join("\n"),
		);
	return command
		.exitOverride((error) => {
			if (error.exitCode !== 0 && process.argv.includes("--json")) {
				const message = hideTyped(error.message.replace(/^error: /, ""));
				process.stdout.write(failureLine({ code: "USAGE", message }));
			}
			throw error;
		})
		.showHelpAfterError("(add --help for usage)")
		.configureOutput({ outputError: (text, write) => write(hideTyped(text)) })
		.action(async (options: DeployCommandOptions) => {
			const wrong = usageError(options);
			if (wrong !== undefined) command.error(`error: ${wrong}`);
			process.exitCode = await runDeployCommand(options);
		});
}

/** What is wrong between options, or must not be repeated in a message. */
function usageError(options: DeployCommandOptions & { privateKey?: unknown }): string | undefined {
	const { rpc, privateKey, verify, dryRun, from } = options;
	if (privateKey !== undefined) {
		return `a key is never taken from an argument, which other programs can see: take a new one, and put it in the variable ${DEFAULT_KEY_VARIABLE} or in a file (--private-key-file)`;
	}
	if (rpc === undefined) return "the chain's RPC is missing: give --rpc <url>, or set SLUICE_RPC_URL";
	if (!isRpcUrl(rpc)) {
		return "the RPC must be a URL that begins with http:, https:, ws: or wss:";
	}
	const sending = ["dryRun", "record", "force", "deployFactory", "allowMissingPermit2", "unlocked", "from"] as const;
	if (verify !== undefined && sending.some((name) => options[name] !== undefined)) {
		return "--verify only reads: give it alone, with --grace-period and --permit2 if they are not the default";
	}
	if (from !== undefined && !dryRun) return "--from is for --dry-run; to deploy, give the account's key";
	return undefined;
}
