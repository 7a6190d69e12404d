import { type Address, getAddress } from "viem";
import { findPolicyFile, readPolicyFile } from "../../client/node/policyFile.ts";
import { type LimitStatus, limitsStatus, type Policy, PolicyError, parsePolicy } from "../../client/policy.ts";
import type { PayerStore } from "../../client/store/store.ts";
import type { Run } from "../shared/command.ts";
import { EXIT, type ExitCode, UsageError } from "../shared/exit.ts";
import { openPayerStore, type WalletOptions, walletFolder } from "../shared/payer.ts";
import type { PayerKeyOptions } from "../shared/payerKey.ts";
import { pairs, writeTable } from "../shared/table.ts";
import { coins, moment, shortHex } from "../shared/words.ts";
import { payerAddress } from "./address.ts";
import { type Deposits, sumDeposits } from "./deposits.ts";
import { type ChainHoldings, readHoldings } from "./holdings.ts";

export type ShowOptions = WalletOptions & PayerKeyOptions;

/** What `sluice wallet` tells. `null`: there is none, or it was not asked for. */
type View = Readonly<{
	wallet: string;
	address: Address | null;
	/** Why all spending is stopped, by `sluice wallet pause` or by the policy. */
	paused: string | null;
	policy: string | null;
	/** What is wrong with the policy. */
	policyError: string | null;
	chains: readonly ChainHoldings[] | null;
	deposits: readonly Deposits[];
	closedChannels: number;
	limits: readonly LimitStatus[];
}>;

/** Shows a wallet, also beside the processes that use it. */
export async function showWallet(run: Run, options: ShowOptions): Promise<ExitCode> {
	const store = await openPayerStore(run, options);
	try {
		const { file, policy, error } = await findPolicy(run, options);
		const address = await addressOf(run, options);
		const chains =
			options.rpc === undefined || policy === undefined || address === null
				? null
				: await readHoldings(run, options.rpc, policy, address);
		const view = await viewOf(store, { wallet: walletFolder(run, options), address, file, policy, error, chains });
		if (run.format === "json") await run.out.line(JSON.stringify(view, asText));
		else await writeView(run, view, policy);
		return error !== undefined || isPartly(chains) ? EXIT.failed : EXIT.done;
	} finally {
		await store.close();
	}
}

type Found = Readonly<{ file: string | undefined; policy: Policy | undefined; error: string | undefined }>;

/** A wallet without a policy can't pay, and is shown all the same. */
async function findPolicy(run: Run, options: ShowOptions): Promise<Found> {
	let file: string | undefined;
	try {
		file = options.policy ?? (await findPolicyFile(walletFolder(run, options)));
		return { file, policy: parsePolicy(await readPolicyFile(file)), error: undefined };
	} catch (error) {
		if (!(error instanceof PolicyError)) throw error;
		run.say(`warning: ${error.message}`);
		return { file, policy: undefined, error: file === undefined ? undefined : error.message };
	}
}

async function addressOf(run: Run, options: ShowOptions): Promise<Address | null> {
	try {
		return await payerAddress(run, options);
	} catch (error) {
		if (!(error instanceof UsageError)) throw error;
		run.say(`warning: ${error.message}`);
		return null;
	}
}

async function viewOf(
	store: PayerStore,
	seen: Found & Readonly<{ wallet: string; address: Address | null; chains: readonly ChainHoldings[] | null }>,
): Promise<View> {
	const { wallet, address, file, policy, error, chains } = seen;
	const records = (await store.list()).map(({ record }) => record);
	const byPolicy = policy?.paused ? (policy.paused === true ? "by the policy" : policy.paused) : null;
	return {
		wallet,
		address,
		paused: (await store.paused()) ?? byPolicy,
		policy: file ?? null,
		policyError: error ?? null,
		chains,
		deposits: sumDeposits(policy, records),
		closedChannels: records.filter(({ status }) => status === "closed").length,
		limits: policy === undefined ? [] : await limitsStatus(policy, store, Date.now()),
	};
}

async function writeView({ out }: Run, view: View, policy: Policy | undefined): Promise<void> {
	await out.write(
		pairs([
			["wallet", view.wallet],
			["address", view.address === null ? "no key yet: `sluice wallet new`" : getAddress(view.address)],
			["spending", view.paused === null ? "goes on" : `is paused: ${view.paused}`],
			["policy", view.policy ?? "none yet: without one nothing is paid"],
			["closed channels", String(view.closedChannels)],
		]),
	);
	const holdings = (view.chains ?? []).flatMap(({ chainId, gas, tokens }) => [
		{ chainId, what: "gas", amount: gas === null ? "unknown" : coins(BigInt(gas)) },
		...tokens.map(({ token, unit, text }) => ({
			chainId,
			what: unit.includes(":") ? shortHex(token) : unit,
			amount: text ?? "unknown",
		})),
	]);
	if (holdings.length > 0) await out.line("");
	await writeTable(
		out,
		[
			{ title: "chain", width: 10, text: ({ chainId }) => String(chainId) },
			{ title: "holds", width: 16, text: ({ what }) => what },
			{ title: "amount", width: 28, text: ({ amount }) => amount },
		],
		holdings,
	);
	if (view.deposits.length > 0) await out.line("");
	await writeTable(
		out,
		[
			{ title: "channels in", width: 16, text: ({ unit }) => shownUnit(unit) },
			{ title: "open", width: 5, right: true, text: ({ open }) => String(open) },
			{ title: "forgotten", width: 9, right: true, text: ({ forgotten }) => String(forgotten) },
			{ title: "deposited", width: 14, right: true, text: ({ text }) => text.deposit },
			{ title: "signed away", width: 14, right: true, text: ({ text }) => text.signed },
			{ title: "comes back", width: 14, right: true, text: ({ text }) => text.unsigned },
		],
		view.deposits,
	);
	if (view.limits.length > 0) await out.line("");
	await writeTable(
		out,
		[
			{ title: "limit", width: 20, text: ({ name }) => name },
			{ title: "of", width: 24, text: ({ subject = "" }) => (subject.length > 24 ? shortHex(subject) : subject) },
			{ title: "signed", width: 28, text: ({ text }) => text },
			{
				title: "begins anew",
				width: 24,
				text: ({ resetsAtMs }) => (resetsAtMs === undefined ? "never" : moment(resetsAtMs)),
			},
		],
		view.limits,
	);
	if (policy !== undefined && view.limits.length === 0)
		await out.line("\nthe policy sets no limits but those of each request");
}

function isPartly(chains: View["chains"]): boolean {
	return chains?.some(({ gas, tokens }) => gas === null || tokens.some(({ amount }) => amount === null)) ?? false;
}

/** A token of no currency goes by its address. */
function shownUnit(unit: string): string {
	const [chainId, token] = unit.split(":");
	return token === undefined ? unit : `${chainId} ${shortHex(token)}`;
}

/** Amounts are decimal strings in JSON. */
function asText(_name: string, value: unknown): unknown {
	return typeof value === "bigint" ? String(value) : value;
}
