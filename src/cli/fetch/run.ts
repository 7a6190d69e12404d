import type { ClosedChannel } from "../../client/close.ts";
import {
	type ApprovalRequest,
	amountText,
	approvalRefused,
	needsApproval,
	type Policy,
	PolicyRefusedError,
	type PolicyRule,
	parsePolicy,
} from "../../client/policy.ts";
import { discard } from "../../client/retry.ts";
import type { SessionKeyUse } from "../../client/sessionKeys.ts";
import { PausedError } from "../../client/store/store.ts";
import type { Run } from "../shared/command.ts";
import { EXIT, type ExitCode } from "../shared/exit.ts";
import { describeFailure, failureLine } from "../shared/failure.ts";
import { type OpenPayer, openPayer, type PayerOptions, readPolicy } from "../shared/payer.ts";
import { assertWritable, headText, jsonBody, jsonHeaders, writeAnswer } from "./answer.ts";
import { askYes, isTerminal, paymentLines } from "./ask.ts";
import { dryRun } from "./dryRun.ts";
import { askingForAll, withMaxPrice } from "./limits.ts";
import { type RequestOptions, typedRequest } from "./request.ts";
import { type Paid, PaymentWatch } from "./watch.ts";

export type FetchOptions = PayerOptions &
	RequestOptions &
	Readonly<{
		output?: string;
		include?: boolean;
		silent?: boolean;
		fail?: boolean;
		maxTime?: number;
		retry?: number;
		maxPrice?: string;
		yes?: boolean;
		dryRun?: boolean;
		close?: boolean;
		sessionKeys?: SessionKeyUse;
	}>;

/** The command was given so long, and no longer. */
export class MaxTimeError extends Error {
	override readonly name = "MaxTimeError";
	readonly code = "MAX_TIME";
	constructor(seconds: number) {
		super(`not done within ${seconds} s (--max-time); the same --idempotency-key asks again at no second price`);
	}
}

/** Sends one request, pays for it, and hands its answer on. */
export async function fetchUrl(run: Run, url: string, options: FetchOptions): Promise<ExitCode> {
	const { output, maxTime, retry: retries, sessionKeys } = options;
	const { url: checked, init } = await typedRequest(url, options, process.stdin);
	if (output !== undefined && output !== "-") await assertWritable(output);
	const whole = await readPolicy(run, options);
	const allowed = options.maxPrice === undefined ? whole : withMaxPrice(whole, options.maxPrice);
	const policy = parsePolicy(allowed);
	const watch = new PaymentWatch(policy);
	const ending = new AbortController();
	const timer =
		maxTime === undefined ? undefined : setTimeout(() => ending.abort(new MaxTimeError(maxTime)), maxTime * 1_000);
	let opened: OpenPayer | undefined;
	try {
		const session: OpenPayer = await openPayer(run, options, {
			policy: options.dryRun ? { ...askingForAll(allowed), dryRun: true } : askingForAll(allowed),
			approve: (request) => approve(run, options, policy, watch, session, request, ending.signal),
			fetch: watch.watch(globalThis.fetch),
			...(sessionKeys !== undefined && { sessionKeys }),
			...(retries !== undefined && { retry: { retries } }),
		});
		opened = session;
		const request = new Request(checked, { ...init, signal: ending.signal });
		if (options.dryRun) return await dryRun(run, session, policy, watch, request);
		return await fetchPaid(run, options, policy, watch, session, request);
	} catch (error) {
		if (!(error instanceof PolicyRefusedError || error instanceof PausedError)) throw error;
		await tellRefusal(run, error, "rule" in error ? error.rule : "paused");
		return EXIT.refused;
	} finally {
		clearTimeout(timer);
		await opened?.close();
	}
}

/** Whoever is at the terminal, `--yes`, or what the policy says of amounts that nobody has to be asked for. */
async function approve(
	run: Run,
	{ silent = false, yes = false }: FetchOptions,
	policy: Policy,
	watch: PaymentWatch,
	{ payer }: OpenPayer,
	request: ApprovalRequest,
	signal: AbortSignal,
): Promise<boolean> {
	const asks = !yes && isTerminal();
	if (asks || !silent) for (const line of paymentLines(policy, request, watch.offerOf(request))) run.say(line);
	if (asks && !(await askYes("Pay? [y/N] ", signal))) throw approvalRefused(request, "you did not say yes");
	if (!asks && !yes && needsApproval(policy, request))
		throw approvalRefused(request, "there is no terminal to ask on; --yes says so beforehand");
	watch.agreed(request, payer);
	return true;
}

async function fetchPaid(
	run: Run,
	options: FetchOptions,
	policy: Policy,
	watch: PaymentWatch,
	{ payer }: OpenPayer,
	request: Request,
): Promise<ExitCode> {
	const response = await payer.fetch(request);
	const { status } = response;
	const isFailure = options.fail === true && status >= 400;
	let answer: object | undefined;
	let failure: unknown;
	try {
		if (run.format === "json") answer = await jsonAnswer(response);
		else if (isFailure) discard(response);
		else await writeAnswer(run.out, response, options.include ? headText(response) : "", options.output);
	} catch (error) {
		failure = error;
	}
	// What was paid is told and closed whatever has become of the body.
	const paid = watch.paid(payer);
	if (paid !== undefined && !options.silent) run.say(paidText(policy, paid));
	const closing = options.close && paid?.channelId !== undefined ? await close(run, options, policy, payer, paid) : {};
	if (failure !== undefined) throw failure;
	if (answer !== undefined) {
		const { receipt = null } = watch;
		await run.out.line(JSON.stringify({ ...answer, paid: paid ?? null, receipt, ...closing }));
	}
	if (isFailure) {
		run.say(`sluice: the server answered ${status}`);
		return EXIT.httpError;
	}
	if (status === 402) run.say("sluice: not paid: the server asks for it in no way that this client knows");
	return status === 402 || "closeError" in closing ? EXIT.failed : EXIT.done;
}

async function jsonAnswer(response: Response): Promise<object> {
	const { status, url } = response;
	const headers = jsonHeaders(response);
	const { body, encoding } = await jsonBody(response);
	return { status, url, headers, body, bodyEncoding: encoding };
}

function paidText(policy: Policy, { intent, text, payee, channelId, left, uncertain, ...at }: Paid): string {
	const from =
		intent === "charge" || left === undefined
			? "one charge"
			: `channel ${channelId}, ${amountText(policy, at, BigInt(left))} left`;
	const open =
		uncertain === undefined ? "" : `; up to ${amountText(policy, at, BigInt(uncertain))} more was not acknowledged`;
	return `paid ${text} to ${payee} (${from})${open}`;
}

type Closing = Readonly<{ closed?: object; closeError?: object }>;

/** Closes the channel that has paid. Its answer is there already, so that a failure is told beside it. */
async function close(
	run: Run,
	{ silent = false, rpc = [] }: FetchOptions,
	policy: Policy,
	payer: OpenPayer["payer"],
	paid: Paid,
): Promise<Closing> {
	try {
		const [closed] = await payer.close(paid.channelId);
		if (closed === undefined) return { closed: { channelId: paid.channelId } };
		const back = closed.channel.deposit - closed.receipt.spent;
		if (!silent) run.say(`closed the channel: ${amountText(policy, paid, back)} came back`);
		return { closed: closedRow(closed, back) };
	} catch (error) {
		const words = describeFailure(error, rpc);
		const message = run.clean(words.message);
		run.say(`sluice: ${message}`);
		return { closeError: { code: words.code, message } };
	}
}

function closedRow({ channel, receipt }: ClosedChannel, back: bigint): object {
	const { channelId } = channel;
	return { channelId, spent: String(receipt.spent), returned: String(back), txHash: receipt.txHash ?? null };
}

async function tellRefusal(
	{ format, out, say, clean }: Run,
	{ code, message }: PolicyRefusedError | PausedError,
	rule: PolicyRule,
): Promise<void> {
	say(`sluice: ${message}`);
	if (format === "json") await out.write(failureLine({ code, message: clean(message) }, { rule }));
}
