import { table, whole } from "../lib/table.ts";
import { GOALS } from "./goals.ts";
import { type GasReport, type Measurements, OPERATIONS } from "./measure.ts";

/** The report as a Markdown page. */
export function gasPage({ erc3009, usdcLike, limitedApproval }: GasReport): string {
	const figures = OPERATIONS.map((operation) => {
		const { label, goal } = GOALS[operation];
		return [label, whole(erc3009[operation]), whole(goal)];
	});
	const comparison = (dearer: Partial<Measurements>) =>
		OPERATIONS.flatMap((operation) => {
			const gas = dearer[operation];
			return gas === undefined ? [] : [[GOALS[operation].label, whole(gas), whole(gas - erc3009[operation])]];
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
