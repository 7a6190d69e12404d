import { type Check, check } from "./report.ts";
import type { World } from "./world.ts";

/** What the store says of the one charge that was paid: amounts as decimal strings. */
export type ChargeRecord = Readonly<{ value: string; transfers: readonly string[]; state: string }>;

/**
 * Reads the charge's transaction from the outbox, to be set beside what the chain says. Stops the server, which lets go of
 * the store.
 */
export async function readChargeRecord(world: World): Promise<ChargeRecord> {
	const store = await world.openStore();
	try {
		const records: ChargeRecord[] = [];
		for await (const { purpose, state } of store.outbox({ state: "any" })) {
			if (purpose.kind !== "charge") continue;
			const transfers = JSON.parse(purpose.transfers ?? "[]") as readonly (readonly [string, string])[];
			records.push({ value: purpose.value ?? "", transfers: transfers.map(([, amount]) => amount), state });
		}
		const [record] = records;
		if (record === undefined || records.length > 1) throw new Error(`the store has ${records.length} charges, not one`);
		return record;
	} finally {
		await store.close();
	}
}

/** The store's figures beside the chain's. */
export function chargeChecks(
	{ value, transfers, state }: ChargeRecord,
	payerPaid: bigint,
	received: readonly bigint[],
): readonly Check[] {
	return [
		check("the store has what the payer paid", payerPaid, value),
		check("and what each was paid", received, transfers),
		check("and knows that it is on chain", "confirmed", state),
	];
}
