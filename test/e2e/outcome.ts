import type { Answer, Payer, Stage } from "./stage.ts";

/** What a test compares: with a crash it has to be what it is without one. */
export type Outcome = Readonly<Record<string, unknown>>;

export function told({ status, body, receipt }: Answer): Outcome {
	const numbers = receipt?.intent === "session" ? { spent: receipt.spent, accepted: receipt.acceptedCumulative } : {};
	return { status, served: typeof body.served, hasReceipt: receipt !== undefined, ...numbers };
}

/** Money on chain and in the ledger, from before a step to after it. */
export async function moved<T>(
	stage: Stage,
	payer: Pick<Payer, "address">,
	step: () => Promise<T>,
): Promise<Readonly<{ value: T; movements: Outcome }>> {
	const read = () =>
		Promise.all([
			stage.transactions(),
			stage.balance(payer.address),
			stage.balance(stage.payee.address),
			stage.balance(stage.escrow),
		]);
	const before = await read();
	const value = await step();
	const after = await read();
	const movements = {
		transactions: after[0] - before[0],
		payer: after[1] - before[1],
		payee: after[2] - before[2],
		escrow: after[3] - before[3],
	};
	return { value, movements };
}
