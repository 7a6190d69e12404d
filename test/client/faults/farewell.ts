import type { Agent, FaultStage } from "./stage.ts";

/**
 * An agent closes its channels, with nothing in its way, and what it has paid on chain is compared with what it was charged.
 * Says what is wrong. Money on channels that were lost on the way is still in the escrow: of such an agent nothing is said.
 */
export async function farewell(stage: FaultStage, agent: Agent): Promise<readonly string[]> {
	const { client, store, payer, stand, tally, forgotten, funds } = agent;
	stand.agents.delete(agent);
	await stand.proxy.quiet();
	stand.proxy.disturb(() => ({}));
	await client.close();
	await store.close();
	if (forgotten.size > 0 || client.forgotten.length > 0) return [];
	const paid = funds - (await stage.world.balance(payer.address));
	let charged = 0n;
	for (const key of tally.keys) for (const { amount } of stand.charged.get(key) ?? []) charged += amount;
	return paid === charged ? [] : [`${payer.address} has paid ${paid} and was charged ${charged}`];
}
