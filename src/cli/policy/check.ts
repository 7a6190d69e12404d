import type { Address } from "viem";
import { readPolicyFile } from "../../client/node/policyFile.ts";
import { describePolicy } from "../../client/policy/describe.ts";
import {
	amountText,
	currencyOf,
	needsApproval,
	type Policy,
	type PolicyRefusedError,
	parsePolicy,
} from "../../client/policy.ts";
import type { PayerStore } from "../../client/store/store.ts";
import { amountFrom } from "../shared/amounts.ts";
import type { CommonOptions, Run } from "../shared/command.ts";
import { EXIT, type ExitCode, UsageError } from "../shared/exit.ts";
import { openPayerStore } from "../shared/payer.ts";
import { pairs } from "../shared/table.ts";
import { policyLines } from "./lines.ts";
import { type Payment, refusalFor } from "./whatIf.ts";

export type CheckOptions = CommonOptions &
	Readonly<{
		host?: string;
		amount?: string;
		payee?: Address;
		token?: Address;
		chain?: number;
		escrow?: Address;
		stream?: boolean;
		wallet?: string;
	}>;

/** Says whether a policy is right and what it allows, or whether it allows one payment. */
export async function checkPolicy(run: Run, file: string, options: CheckOptions): Promise<ExitCode> {
	const { out, format } = run;
	const policy = parsePolicy(await readPolicyFile(file));
	const payment = paymentOf(policy, options);
	if (payment === undefined) {
		const description = describePolicy(policy);
		if (format === "json") await out.line(JSON.stringify({ outcome: "valid", policy: description }));
		else await out.write(pairs(policyLines(description)));
		return EXIT.done;
	}
	const refusal = await withStore(run, options, (store) => refusalFor(policy, payment, Date.now(), store));
	const result = {
		outcome: refusal === undefined ? "allowed" : "refused",
		...payment,
		amount: String(payment.amount),
		text: amountText(policy, payment, payment.amount),
		needsApproval: needsApproval(policy, payment),
		dryRun: policy.dryRun,
		...(refusal && { rule: refusal.rule, message: refusal.message, ...limitOf(refusal) }),
	};
	if (format === "json") await out.line(JSON.stringify(result));
	else {
		const { limit: _, text, ...shown } = result as typeof result & { limit?: unknown };
		await out.write(pairs(Object.entries({ ...shown, amount: text }).map(([name, value]) => [name, String(value)])));
	}
	return refusal === undefined ? EXIT.done : EXIT.refused;
}

/** Without a wallet nothing is counted yet. */
async function withStore<Value>(
	run: Run,
	{ wallet, ...options }: CheckOptions,
	work: (store: PayerStore | undefined) => Promise<Value>,
): Promise<Value> {
	if (wallet === undefined) return work(undefined);
	const store = await openPayerStore(run, { ...options, wallet });
	try {
		return await work(store);
	} finally {
		await store.close();
	}
}

function limitOf({ limit }: PolicyRefusedError): object {
	if (limit === undefined) return {};
	const { current, max, asked, resetsAtMs, ...rest } = limit;
	return {
		limit: {
			...rest,
			current: String(current),
			max: String(max),
			asked: String(asked),
			...(resetsAtMs !== undefined && { resetsAt: new Date(resetsAtMs).toISOString() }),
		},
	};
}

const NOBODY: Address = `0x${"0".repeat(40)}`;

/** The payment that the options tell of, if any; what they leave out is the policy's first. */
function paymentOf(policy: Policy, options: CheckOptions): Payment | undefined {
	const { host, amount, payee = policy.payees?.[0] ?? NOBODY, escrow, stream = false } = options;
	const told = [host, amount, options.payee, options.token, options.chain, escrow].some((its) => its !== undefined);
	if (!told) return undefined;
	if (host === undefined || amount === undefined)
		throw new UsageError("a payment has a host and an amount: give both --host and --amount, or none of them");
	const listed = [
		...policy.currencies.flatMap(({ tokens }) => tokens.map((one) => ({ chainId: one.chainId, token: one.address }))),
		...policy.chainIds.flatMap((chainId) => policy.tokens.map((token) => ({ chainId, token }))),
	];
	const first = listed.find(
		(one) =>
			(options.token === undefined || one.token === options.token) &&
			(options.chain === undefined || one.chainId === options.chain),
	);
	const token = options.token ?? first?.token ?? NOBODY;
	const chainId = options.chain ?? first?.chainId ?? policy.chainIds[0] ?? 0;
	const decimals = currencyOf(policy, { chainId, token })?.decimals ?? 0;
	return {
		host: hostFrom(host),
		amount: amountOf(amount, decimals),
		payee,
		token,
		chainId,
		isStream: stream,
		...(escrow !== undefined && { escrow }),
	};
}

/** As URLs have it: as the client will see it. */
function hostFrom(text: string): string {
	const url = `https://${text}/`;
	if (/[/\\?#@\s]/.test(text) || !URL.canParse(url))
		throw new UsageError("--host is a name, with a port where it is not the default one: api.example.com:8443");
	return new URL(url).host;
}

function amountOf(text: string, decimals: number): bigint {
	const amount = amountFrom(text, decimals);
	if (amount !== undefined) return amount;
	throw new UsageError(
		decimals === 0
			? "--amount is a whole number of base units: no currency of the policy lists this token"
			: `--amount is a number with at most ${decimals} decimals, such as 0.05`,
	);
}
