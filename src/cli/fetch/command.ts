import { Command, InvalidArgumentError, Option } from "commander";
import type { SessionKeyUse } from "../../client/sessionKeys.ts";
import { runCommand, tellWrongUsage } from "../shared/command.ts";
import { addPayerOptions } from "../shared/payer.ts";
import { type FetchOptions, fetchUrl } from "./run.ts";

const SESSION_KEY_USES: readonly SessionKeyUse[] = ["always", "contracts", "never"];

/** `sluice fetch <url>`. Exit codes as `EXIT` in ../shared/exit.ts. */
export function fetchCommand(): Command {
	const command = new Command("fetch")
		.description(
			"Sends a request as curl does, and pays for it where that is asked for, within the wallet's policy. On a terminal it asks first. The body goes to stdout as it comes, all else to stderr.",
		)
		.argument("<url>", "what to fetch")
		.option("-X, --request <method>", "the method (default: GET, or POST with --data)")
		.option("-H, --header <line>", "a header field, 'Name: value'; several are sent in their order", collect)
		.option("-d, --data <data>", "the body; @file takes it from a file, - from stdin; several are joined by &", collect)
		.option("-o, --output <file>", "writes the body there")
		.option("-i, --include", "writes the head of the answer before its body")
		.option("-s, --silent", "says nothing of prices and payments; errors and questions remain")
		.option("-f, --fail", "an answer from 400 on is a failure: no body, exit code 22")
		.option("-L, --location", "follows redirects; what was paid for is not sent elsewhere")
		.addOption(new Option("--max-time <seconds>", "gives up after so long, payment included").argParser(parseTime))
		.addOption(
			new Option("--retry <n>", "how often it is sent again when the connection breaks (default: 5)").argParser(
				parseRetries,
			),
		)
		.option("--idempotency-key <key>", "names the request: sent again with the same key it costs nothing more")
		.option("--max-price <amount>", "pays no more for it, in the token's unit: 0.05")
		.option("--yes", "pays what the policy allows without asking")
		.option("--dry-run", "sends the request unpaid and shows what it would cost; signs nothing")
		.addOption(
			new Option(
				"--session-keys <use>",
				"which new channels get a key of their own that signs their vouchers, kept in the wallet (default: contracts, those of contract wallets)",
			).choices([...SESSION_KEY_USES]),
		)
		.option("--close", "closes the channel afterwards: the rest of its deposit comes back");
	addPayerOptions(command);
	const isJson = (argv: readonly string[]) => argv.includes("--json");
	return tellWrongUsage(addJsonOption(command), isJson)
		.addHelpText("after", HELP)
		.action((url: string, options: FetchOptions) =>
			// The body is what is piped: JSON only where it is asked for.
			runCommand({ ...options, table: options.json !== true }, (run) => fetchUrl(run, url, options)),
		);
}

function addJsonOption(command: Command): Command {
	return command.option("--json", "one object: status, headers, body, what was paid, the receipt");
}

const HELP = `
Without a terminal it pays what the policy lets pass unasked (below its approveAbove, or all where it has none); --yes pays
whatever else the policy allows. An unpaid request is sent first to learn the price, also by --dry-run.

Exit codes: 0 done; 1 failed, or a 402 that could not be paid; 2 wrong usage; 4 refused by the policy or a
pause, or not approved; 22 an answer from 400 on, with --fail.

Examples:
  $ sluice fetch https://api.example.com/quote --dry-run
  $ sluice fetch https://api.example.com/quote --max-price 0.01 --close
  $ echo '{"q":"tea"}' | sluice fetch https://api.example.com/search -d - -H 'Content-Type: application/json' --yes
  $ sluice fetch https://api.example.com/report --yes --json | jq .paid`;

function collect(text: string, before: readonly string[] = []): readonly string[] {
	return [...before, text];
}

function parseTime(text: string): number {
	const seconds = Number(text);
	if (/^\d{1,6}(\.\d{1,3})?$/.test(text) && seconds > 0) return seconds;
	throw new InvalidArgumentError("a number of seconds above 0, please.");
}

function parseRetries(text: string): number {
	if (/^\d{1,3}$/.test(text)) return Number(text);
	throw new InvalidArgumentError("a whole number from 0, please.");
}
