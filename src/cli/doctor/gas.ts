/** What a settlement costs now, and whether there is enough to pay for many. */
import type { Address, PublicClient } from "viem";
import { GAS } from "../../server/settlement/economics.ts";
import { coins, gwei } from "../shared/words.ts";
import { type Check, fail, ok, warn } from "./check.ts";

/** How many settlements whoever pays the gas should be good for. */
const SETTLEMENTS = 100n;

/** Gas price and what comes of it. What a rollup asks for its data on top of gas is not counted. */
export async function gasChecks(
	client: PublicClient,
	payers: readonly Readonly<{ role: "payee" | "relayer"; address: Address }>[],
): Promise<readonly Check[]> {
	const gasPrice = await client.getGasPrice();
	const single = gasPrice * GAS.settle;
	const row = gasPrice * GAS.settleRow;
	const checks: Check[] = [
		ok("gas price", `${gwei(gasPrice)}: a settlement costs ${coins(single)}, in a batch ${coins(row)} each`, {
			gasPrice: String(gasPrice),
			settlementCost: String(single),
			batchedSettlementCost: String(row),
		}),
	];
	for (const { role, address } of payers) {
		const balance = await client.getBalance({ address });
		const name = `${role}'s gas`;
		const needed = single * SETTLEMENTS;
		const values = { address, balance: String(balance), settlements: single === 0n ? 0 : Number(balance / single) };
		const detail = `${address} has ${coins(balance)}`;
		if (balance >= needed) checks.push(ok(name, `${detail}, enough for ${SETTLEMENTS} settlements`, values));
		else {
			const lacking = `${detail}; ${SETTLEMENTS} settlements cost ${coins(needed)}`;
			const hint = role === "payee" ? `fund ${address}, or let a relayer pay the gas` : `fund ${address}`;
			checks.push((balance < single ? fail : warn)(name, lacking, hint, values));
		}
	}
	return checks;
}
