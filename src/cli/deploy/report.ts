import { formatGwei } from "viem";
import type { DeploymentCost } from "../../../deploy/index.ts";
import { pairs } from "../shared/table.ts";
import { coins } from "../shared/words.ts";

/** What a run tells programs: one flat object. Amounts in wei, as decimal strings. */
export type Report = Readonly<{
	outcome: "deployed" | "already-there" | "dry-run" | "verified";
	chainId: number;
	escrow: string;
	permit2: string;
	closeGracePeriodSeconds: number;
	/** What decides the address; absent where an escrow is only verified, which may be anywhere. */
	factory?: string;
	salt?: string;
	transactionHash?: string;
	blockNumber?: number;
	gasUsed?: string;
	fee?: string;
	codeHash?: string;
	/** The file of deployments, and whether it had to be changed. */
	record?: string;
	recorded?: boolean;
	/** Who would pay, and what it has. */
	deployer?: string;
	balance?: string;
	cost?: { readonly [Part in keyof DeploymentCost]: string };
	warnings: readonly string[];
}>;

/** Whether a node's word for a transaction is one, and not a text that may hold anything. */
export function isHash(text: string): boolean {
	return /^0x[0-9a-f]{64}$/i.test(text);
}

/** A report without secrets. Only what may hold one is touched: names and numbers stay what they are. */
export function redacted(report: Report, redact: (text: string) => string): Report {
	const { warnings, record, transactionHash: hash } = report;
	return {
		...report,
		warnings: warnings.map(redact),
		...(record !== undefined && { record: redact(record) }),
		...(hash !== undefined && { transactionHash: isHash(hash) ? hash : redact(hash) }),
	};
}

/** A cost with its amounts as decimal strings. */
export function costReport(cost: DeploymentCost): NonNullable<Report["cost"]> {
	return Object.fromEntries(Object.entries(cost).map(([name, value]) => [name, String(value)])) as NonNullable<
		Report["cost"]
	>;
}

/** One line for people: what it will cost. */
export function describeCost({ gas, gasLimit, maxFeePerGas, expected, max, factory }: DeploymentCost): string {
	const installing = factory > 0n ? `, ${coins(factory)} of it for the factory` : "";
	return `about ${gas} gas (limit ${gasLimit}) at up to ${formatGwei(maxFeePerGas)} gwei: ${coins(expected)} expected, ${coins(max)} at most${installing}`;
}

/** A table for people. */
export function table(report: Report): string {
	const { cost, fee, balance, closeGracePeriodSeconds, warnings: _, recorded, record, ...rest } = report;
	const rows: [string, string][] = Object.entries(rest).map(([name, value]) => [name, String(value)]);
	rows.push(["closeGracePeriod", `${closeGracePeriodSeconds} s`]);
	if (fee !== undefined) rows.push(["fee", coins(BigInt(fee))]);
	if (cost !== undefined) {
		rows.push(["gas", `${cost.gas} (limit ${cost.gasLimit})`]);
		rows.push(["feePerGas", `${formatGwei(BigInt(cost.maxFeePerGas))} gwei at most`]);
		rows.push(["expectedCost", coins(BigInt(cost.expected))], ["maxCost", coins(BigInt(cost.max))]);
	}
	if (balance !== undefined) rows.push(["balance", coins(BigInt(balance))]);
	if (record !== undefined) rows.push(["record", `${record}${recorded ? "" : " (not changed)"}`]);
	return pairs(rows);
}
