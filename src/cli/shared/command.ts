/** What the operator's commands have in common: options, and how they begin and end. */
import { type Command, Option } from "commander";
import { collectUrls, isRpcUrl } from "./arguments.ts";
import { type ExitCode, exitCodeOf, UsageError } from "./exit.ts";
import { describeFailure, failureLine } from "./failure.ts";
import { type Format, formatOf, Output } from "./output.ts";
import { hideTyped, redactor } from "./secrets.ts";

/** What every command can be told. */
export type CommonOptions = Readonly<{
	json?: boolean;
	table?: boolean;
	rpc?: readonly string[];
	privateKey?: unknown;
}>;

/** What a command works with. */
export type Run = Readonly<{
	format: Format;
	out: Output;
	env: NodeJS.ProcessEnv;
	/** Progress and warnings, for people, on stderr. */
	say(text: string): void;
	/** A text of others without the secrets in it. */
	clean(text: string): string;
	/** From now on this key is a secret, too. */
	hide(key: string): void;
}>;

export function addOutputOptions(command: Command): Command {
	return command
		.addOption(new Option("--json", "JSON, as it is when the output is piped").conflicts("table"))
		.option("--table", "a table, as it is on a terminal");
}

/** @param isOptional - the command looks after a payer's channels as well, which are elsewhere */
export function addDataOption(command: Command, isOptional = false): Command {
	const option = new Option("--data <folder>", "the folder that the server keeps its channels in").env("SLUICE_DATA");
	return command.addOption(option.makeOptionMandatory(!isOptional));
}

/** `--rpc`, once for each endpoint. */
export function addRpcOption(command: Command, why: string): Command {
	const option = new Option(
		"--rpc <url>",
		`the chain's RPC: http, https, ws or wss; ${why}; several take each other's place`,
	);
	return command.addOption(option.env("SLUICE_RPC_URL").argParser(collectUrls));
}

/** A trap for who gives the key itself, which other programs could see. */
export function addKeyTrap(command: Command): Command {
	return command.addOption(new Option("--private-key [key]").hideHelp());
}

/**
 * Wrong usage is told like every other failure, to people and programs, without what was typed where that may be a secret.
 *
 * @param wants - whether a program reads the output; by default also where it is piped
 */
export function tellWrongUsage(command: Command, wants: (argv: readonly string[]) => boolean = wantsJson): Command {
	return command
		.exitOverride((error) => {
			if (error.exitCode !== 0 && wants(process.argv)) {
				const message = hideTyped(error.message.replace(/^error: /, ""));
				process.stdout.write(failureLine({ code: "USAGE", message }));
			}
			throw error;
		})
		.showHelpAfterError("(add --help for usage)")
		.configureOutput({ outputError: (text, write) => write(hideTyped(text)) });
}

/** Runs a command's work: no secret gets past it, every failure is told and has its exit code. */
export async function runCommand(options: CommonOptions, work: (run: Run) => Promise<ExitCode>): Promise<void> {
	const { rpc = [] } = options;
	const keys: string[] = [];
	// Until it is known that they are URLs, whatever may be a secret is one.
	let redact = rpc.every(isRpcUrl) ? redactor(rpc) : hideTyped;
	const format = formatOf(options, process.stdout.isTTY === true);
	const say = (text: string) => void process.stderr.write(`${redact(text)}\n`);
	const out = new Output();
	const hide = (key: string) => {
		keys.push(key);
		redact = redactor(rpc, keys);
	};
	try {
		checkCommon(options);
		process.exitCode = await work({ format, out, env: process.env, say, clean: (text) => redact(text), hide });
	} catch (error) {
		const words = describeFailure(error, rpc);
		const message = redact(words.message);
		say(`sluice: ${message}`);
		if (format === "json") await out.write(failureLine({ code: words.code, message }));
		process.exitCode = exitCodeOf(error);
	}
}

function checkCommon({ rpc = [], privateKey }: CommonOptions): void {
	if (privateKey !== undefined) {
		throw new UsageError(
			"a key is never taken from an argument, which other programs can see: take a new one, and put it in a variable (--private-key-env) or in a file (--private-key-file)",
		);
	}
	if (!rpc.every(isRpcUrl)) throw new UsageError("an RPC is a URL that begins with http:, https:, ws: or wss:");
}

/** Before options are parsed. */
function wantsJson(argv: readonly string[]): boolean {
	return (
		formatOf({ json: argv.includes("--json"), table: argv.includes("--table") }, process.stdout.isTTY === true) ===
		"json"
	);
}
