/**
 * What the tests of charges have in common, whichever type of credential pays: a route whose handler fails, what a
 * refusal leaves alone, what one payment is, and the ways in which a credential comes a second time.
 */
import { expect } from "vitest";
import type { EvmPrice } from "../../src/server/index.ts";
import { SOON } from "./chargeDrafts.ts";
import { expectPaid, expectRefusal, unchanged } from "./expect.ts";
import {
	type Answer,
	type Draft,
	FUNDS,
	type PaidServer,
	type Payer,
	PRICE,
	type Routes,
	standardRoutes,
	type World,
} from "./world.ts";

/** Who is in a test of a charge. */
export type Stage = Readonly<{ world: World; server: PaidServer; payer: Payer }>;

/** Runs `action` and checks that it was free of whatever this kind of charge could cost. */
export type Free = <T>(action: () => Promise<T>) => Promise<T>;

/** What the standard `/charge` costs. */
export const CHARGE = { price: PRICE, intent: "charge" as const };

/** The standard routes, `GET /once` at the price `once`, whose handler fails the first time, and what `others` cost. */
export function chargeRoutes(once: EvmPrice, others: Readonly<Record<string, EvmPrice>> = {}): Routes {
	return async (app, kit) => {
		await standardRoutes(app, kit);
		for (const [path, payment] of Object.entries(others)) app.get(path, { config: { payment } }, kit.handler(path));
		let failures = 1;
		const failingOnce = kit.handler("/once", () => {
			if (failures-- > 0) throw new Error("not the first time");
			return { served: true };
		});
		app.get("/once", { config: { payment: once } }, failingOnce);
	};
}

/** Nothing moved, no gas of ours was spent, no handler ran. */
export async function costsNothing<T>({ world, server, payer }: Stage, action: () => Promise<T>): Promise<T> {
	const before = await world.balance(payer.address);
	const result = await unchanged(server, [], action);
	expect(await world.balance(payer.address)).toBe(before);
	return result;
}

/** As `costsNothing`, and nothing was broadcast: of the payer's transactions neither. */
export async function sendsNothing<T>({ world, server, payer }: Stage, action: () => Promise<T>): Promise<T> {
	const look = async () => [
		await world.balance(payer.address),
		await nonceOf(world, payer),
		server.rpc.calls("eth_sendRawTransaction"),
	];
	const before = await look();
	const result = await unchanged(server, [], action);
	expect(await look()).toEqual(before);
	return result;
}

/** How many transactions an account has sent, those in the pool included. */
export function nonceOf({ chain: { client } }: World, { address }: Pick<Payer, "address">): Promise<number> {
	return client.getTransactionCount({ address, blockTag: "pending" });
}

/** One price has moved from the payer to the payee. */
export async function expectPriceMoved({ world, server, payer }: Stage): Promise<void> {
	expect(await world.balance(server.payee)).toBe(PRICE);
	expect(await world.balance(payer.address)).toBe(FUNDS - PRICE);
}

/** One price has moved, in one transaction of ours. */
export async function expectPaidByUs(stage: Stage): Promise<void> {
	await expectPriceMoved(stage);
	expect(await stage.server.transactions()).toBe(1);
}

/** The first request that this server has served, with a receipt for `draft` that names what moved the money. */
export function expectFirstServed(
	{ chain: { chainId } }: World,
	draft: Draft,
	answer: Answer,
	reference: unknown,
): void {
	expectPaid(answer);
	expect(answer.json).toEqual({ served: 1 });
	expect(answer.receipt).toMatchObject({ intent: "charge", challengeId: draft.challenge.id, chainId, reference });
}

/** Pays `/charge` with a credential that buys nothing again: at once, after a restart, and after a clean-up. */
export async function expectDeliveredOnce(server: PaidServer, draft: Draft, free: Free): Promise<void> {
	const again = async () => expectRefusal(await free(() => server.pay("/charge", draft)), "invalid-challenge");
	expectPaid(await server.pay("/charge", draft));
	await again();
	await server.restart();
	await again();
	server.clock.advance(400_000);
	await server.store.prune(server.clock.now());
	await again();
}

/**
 * Pays `/charge` under the Idempotency-Key `k`, restarts, and gets the same answer again for nothing: with the same
 * credential, and with a fresh one of the same payer's.
 */
export async function expectAnsweredAgain(
	server: PaidServer,
	draft: Draft,
	fresh: () => Promise<Draft>,
	free: Free,
): Promise<void> {
	const first = await server.pay("/charge", draft, { key: "k" });
	expectPaid(first);
	await server.restart();
	for (const retry of [draft, await fresh()])
		expect((await free(() => server.pay("/charge", retry, { key: "k" }))).text).toBe(first.text);
}

/** Pays `/once`, whose handler fails: the money has moved once, and the same credential fetches what it bought, once. */
export async function expectDeliveredAfterFailure(
	server: PaidServer,
	draft: Draft,
	expectPaidOnce: () => Promise<void>,
	free: Free,
): Promise<void> {
	expect((await server.pay("/once", draft)).status).toBe(500);
	await expectPaidOnce();
	expectPaid(await server.pay("/once", draft));
	expectRefusal(await free(() => server.pay("/once", draft)), "invalid-challenge");
	await expectPaidOnce();
}

/** The server crashes while the handler runs, and comes back when the challenge has long expired. */
export async function crashInHandler(server: PaidServer, path: string, draft: Draft): Promise<void> {
	const gate = server.hold(path);
	const cut = server.pay(path, draft).catch((error: unknown) => error);
	await gate.entered;
	await server.crash();
	expect(await cut).toBeInstanceOf(Error);
	gate.release();
	server.clock.advance(3_600_000);
	await server.restart();
	await server.store.prune(server.clock.now());
}

/** The server crashes when `/charge` has been paid on chain and it, whose proxy hides that, does not know of it yet. */
export async function crashOncePaid({ world, server }: Stage, draft: Draft): Promise<void> {
	const cut = server.pay("/charge", draft).catch((error: unknown) => error);
	await expect.poll(() => world.balance(server.payee), SOON).toBe(PRICE);
	await server.crash();
	await cut;
	server.rpc.up();
}
