import type { Address } from "viem";
import { type EscrowFacts, findDeployment } from "../../escrow/index.ts";
import { ZERO_ADDRESS } from "../../voucher/index.ts";
import type { CommonOptions, Run } from "../shared/command.ts";
import { EXIT, type ExitCode, UsageError } from "../shared/exit.ts";
import { type Check, fail, skip } from "./check.ts";
import { type ChainParts, escrowChecks, recordCheck, tokenChecks, withoutChain } from "./contracts.ts";
import { curveCheck } from "./curve.ts";
import { askEndpoints, clockCheck, type Endpoint } from "./endpoints.ts";
import { gasChecks } from "./gas.ts";
import { closingCheck, type StoreFindings, storeChecks } from "./store.ts";

export type DoctorOptions = CommonOptions &
	Readonly<{
		chainId?: number;
		escrow?: Address;
		token?: readonly Address[];
		payee?: Address;
		relayer?: Address;
		data?: string;
		record?: string;
	}>;

/** Looks at everything a paid server depends on, and says what is wrong and what to do. */
export async function diagnose(run: Run, options: DoctorOptions): Promise<ExitCode> {
	const { out, format, clean } = run;
	const { rpc = [], data } = options;
	if (rpc.length === 0 && data === undefined) throw new UsageError("give --rpc <url>, or --data <folder>, or both");
	const checks: Check[] = [];
	for await (const raw of examine(options)) {
		const check: Check = {
			...raw,
			detail: clean(raw.detail),
			...(raw.hint !== undefined && { hint: clean(raw.hint) }),
		};
		checks.push(check);
		if (format === "table") await out.line(lineOf(check));
	}
	const failed = checks.filter(({ status }) => status === "fail").length;
	const warnings = checks.filter(({ status }) => status === "warn").length;
	if (format === "json") {
		await out.line(JSON.stringify({ outcome: failed === 0 ? "ok" : "failed", failed, warnings, checks }));
	} else {
		await out.line(`${checks.length} checks: ${failed} failed, ${warnings} warnings`);
	}
	return failed === 0 ? EXIT.done : EXIT.failed;
}

function lineOf({ name, status, detail, hint }: Check): string {
	const more = hint === undefined ? "" : `\n      -> ${hint}`;
	return `${status.padEnd(4)}  ${name}: ${detail}${more}`;
}

/** One check after the other, each as soon as it is known. */
async function* examine(options: DoctorOptions): AsyncGenerator<Check> {
	const { rpc = [], chainId, data } = options;
	yield curveCheck();
	const { checks, answering, close } = await askEndpoints(rpc, chainId);
	try {
		yield* checks;
		if (rpc.length > 0) yield clockCheck(answering);
		const [endpoint] = answering;
		const stored = data === undefined ? undefined : await storeChecks(data, endpoint?.chainId ?? chainId);
		const findings = stored?.findings;
		const facts = yield* examineChain(options, endpoint, findings);
		if (stored === undefined) return;
		yield* stored.checks;
		if (findings === undefined) return;
		const nowSeconds = endpoint?.head.timestamp ?? Math.floor(Date.now() / 1_000);
		yield closingCheck(findings, facts?.closeGraceSeconds, nowSeconds);
	} finally {
		close();
	}
}

/** Resolves to what the escrow says of itself, if it can be asked. */
async function* examineChain(
	options: DoctorOptions,
	endpoint: Endpoint | undefined,
	findings: StoreFindings | undefined,
): AsyncGenerator<Check, EscrowFacts | undefined> {
	if (endpoint === undefined) {
		if (options.rpc !== undefined) yield* withoutChain(["escrow", "token", "gas price"]);
		return undefined;
	}
	const parts: ChainParts = endpoint;
	const { chainId } = endpoint;
	const escrow = options.escrow ?? onlyOne(findings?.escrows) ?? findDeployment(chainId)?.escrow;
	let facts: EscrowFacts | undefined;
	if (escrow === undefined) {
		yield fail("escrow", "which one is not known", "give --escrow, or --data of a server that has channels");
	} else {
		const examined = await escrowChecks(parts, escrow);
		facts = examined.facts;
		yield* examined.checks;
	}
	yield await recordCheck(chainId, escrow, options.record);
	const payees = options.payee === undefined ? (findings?.payees ?? []) : [options.payee];
	const tokens = options.token ?? findings?.tokens ?? [];
	if (tokens.length === 0) yield skip("token", "none was given: --token <address>");
	for (const token of tokens) yield* await tokenChecks(parts, token, payees[0] ?? ZERO_ADDRESS);
	const payers =
		options.relayer === undefined
			? payees.map((address) => ({ role: "payee" as const, address }))
			: [{ role: "relayer" as const, address: options.relayer }];
	if (payers.length === 0) yield skip("payee's gas", "nobody was given: --payee <address>");
	yield* await gasChecks(endpoint.client, payers).catch(() => [
		fail("gas price", "the RPC does not say", "use another endpoint"),
	]);
	return facts;
}

function onlyOne<T>(items: readonly T[] = []): T | undefined {
	return items.length === 1 ? items[0] : undefined;
}
