import { type WatchEvent, watchChannels } from "../../../client/recovery/watch.ts";
import type { Run } from "../../shared/command.ts";
import { EXIT, type ExitCode, UsageError } from "../../shared/exit.ts";
import type { WalletOptions } from "../../shared/payer.ts";
import { moment, shortHex } from "../../shared/words.ts";
import { withWallet } from "./open.ts";
import { untilInterrupted } from "./signals.ts";

export type WatchOptions = WalletOptions &
	Readonly<{
		/** Seconds between looks at the chain. */
		poll?: number;
		/** Looks once. */
		once?: boolean;
	}>;

/** What no escrow that works, and no payee, can bring about. */
const ALARMS: readonly WatchEvent["kind"][] = ["over-settled", "impossible"];

/** Tells what becomes of the wallet's channels, one line each, until it is ended. Exit code 1 where something impossible was told. */
export function watchPayerChannels(run: Run, options: WatchOptions): Promise<ExitCode> {
	if (options.rpc === undefined)
		throw new UsageError("the chain's RPC is missing: give --rpc <url>, or set SLUICE_RPC_URL");
	const { poll, once = false } = options;
	return withWallet(run, options, [], ({ parts }) =>
		untilInterrupted(async (interrupted) => {
			const done = new AbortController();
			const signal = AbortSignal.any([interrupted, done.signal]);
			let isAlarmed = false;
			const onEvent = (event: WatchEvent) => {
				isAlarmed ||= ALARMS.includes(event.kind) || (once && event.kind === "node-failing");
				void run.out.line(run.format === "json" ? jsonOf(event) : textOf(event));
				if (run.out.gone || (once && event.kind === "watching")) done.abort();
			};
			await watchChannels(parts, { onEvent, signal, ...(poll !== undefined && { pollMs: poll * 1_000 }) });
			return isAlarmed ? EXIT.failed : EXIT.done;
		}),
	);
}

function jsonOf(event: WatchEvent): string {
	return JSON.stringify({ at: moment(Date.now()), ...event }, (_, value: unknown) =>
		typeof value === "bigint" ? String(value) : value,
	);
}

function textOf({ kind, ...event }: WatchEvent): string {
	const { channelId, chainId: _, ...values } = event as Readonly<Record<string, unknown>>;
	const members = Object.entries(values).map(([name, value]) => `${name} ${String(value)}`);
	const about = typeof channelId === "string" ? `${shortHex(channelId)}  ` : "";
	return `${moment(Date.now())}  ${about}${kind}${members.length === 0 ? "" : `  ${members.join(", ")}`}`;
}
