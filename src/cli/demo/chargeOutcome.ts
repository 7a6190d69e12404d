import type { Address } from "viem";
import { check, type Outcome } from "./report.ts";
import { PRICE, type World } from "./world.ts";

/** What a scenario did with its charge. */
export type ChargeRun = Readonly<{
	scenario: string;
	/** The answer to the request that was paid. */
	response: Response;
	secondsPaid: number;
	/** Whom the splits pay, in their order. */
	recipients: readonly Address[];
	/** The contract that the server's transaction goes to. */
	contract: Address;
}>;

/** The figures of store and chain beside each other, after one request was paid by a charge. Stops the server. */
export async function chargeOutcome(
	world: World,
	{ scenario, response, secondsPaid, recipients, contract }: ChargeRun,
): Promise<Outcome & Readonly<{ received: readonly string[] }>> {
	const { chain, payer, payee, funds, storePath } = world;
	const { served } = (await response.json()) as { served?: number };
	const payeeReceived = await world.balance(payee.address);
	const received = await Promise.all(recipients.map((recipient) => world.balance(recipient)));
	const payerPaid = funds - (await world.balance(payer.address));
	const sessionTransactions = await world.transactionsTo(contract);
	const payerTransactions = await chain.client.getTransactionCount({ address: payer.address });
	const stored = await readRecord(world);
	const ok = response.ok ? 1 : 0;
	return {
		scenario,
		requests: 1,
		ok,
		failed: 1 - ok,
		price: String(PRICE),
		payeeReceived: String(payeeReceived),
		payerPaid: String(payerPaid),
		received: received.map(String),
		stored,
		sessionTransactions,
		payerTransactions,
		secondsPaid: Number(secondsPaid.toFixed(3)),
		requestsPerSecond: Math.round(1 / secondsPaid),
		chainId: chain.chainId,
		storePath,
		checks: [
			check("the request was served", 200, response.status),
			check("it was the first one served", 1, served),
			check("the payer paid the price", PRICE, payerPaid),
			check("the store has what the payer paid", payerPaid, stored.value),
			check("and what each was paid", [payeeReceived, ...received], stored.transfers),
			check("and knows that it is on chain", "confirmed", stored.state),
			check("one transaction moved all of it", 1, sessionTransactions),
		],
	};
}

/** What the store's outbox says of the one charge: amounts as decimal strings. The server has to let go of the store. */
async function readRecord(
	world: World,
): Promise<Readonly<{ value: string; transfers: readonly string[]; state: string }>> {
	const store = await world.openStore();
	try {
		const charges = [];
		for await (const { purpose, state } of store.outbox({ state: "any" })) {
			if (purpose.kind !== "charge") continue;
			const transfers = JSON.parse(purpose.transfers ?? "[]") as readonly (readonly [string, string])[];
			charges.push({ value: purpose.value ?? "", transfers: transfers.map(([, amount]) => amount), state });
		}
		const [charge] = charges;
		if (charge === undefined || charges.length > 1) throw new Error(`the store has ${charges.length} charges, not one`);
		return charge;
	} finally {
		await store.close();
	}
}
