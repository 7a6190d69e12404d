import { GOALS } from "./goals.ts";
import { type GasReport, type Measurements, OPERATIONS } from "./measure.ts";

/** The report as a Markdown page. */
export function gasPage({ erc3009, usdcLike, limitedApproval }: GasReport): string {
	const figures = OPERATIONS.map((operation) => {
		const { label, goal } = GOALS[operation];
		return [label, format(erc3009[operation]), format(goal)];
	});
	const comparison = (dearer: Partial<Measurements>) =>
		OPERATIONS.flatMap((operation) => {
			const gas = dearer[operation];
			return gas === undefined ? [] : [[GOALS[operation].label, format(gas), format(gas - erc3009[operation])]];
		});
	return `# Gas

Whole transactions: the 21,000 and the calldata are in, every slot is cold, each is a fresh transaction under cancun's
rules. Payer and payee hold some of the token before, the escrow holds another channel's deposit, the payee and token
are known to it, and the approval is unlimited. A row of a batch is (100 rows - 50 rows) / 50, each row with a payer of
its own. Written by \`npm run gas -- --write\`, checked by \`npm run gas\` and by the tests.

${table(["operation", "gas", "goal"], figures)}

The token above checks an EIP-3009 signature and nothing else. On one that, like USDC 2.2, first looks whether the payer
is a contract, these cost more, and are above the goals, which were set on the first:

${table(["operation", "gas", "more"], comparison(usdcLike))}

With an approval of a limited amount, which the token writes down anew each time, these do, and are as well:

${table(["operation", "gas", "more"], comparison(limitedApproval))}
`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
	const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => (row[column] ?? "").length)));
	const line = (cells: readonly string[]) =>
		`| ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join(" | ")} |`;
	const rule = line(widths.map((width, i) => (i === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`)));
	return [line(head), rule, ...rows.map(line)].join("\n");
}

function format(figure: number): string {
	return figure.toLocaleString("en-US", { maximumFractionDigits: 0 });
}
