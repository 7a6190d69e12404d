/** What the tests of deposits have in common: the kinds that a server sends, and vouchers that come with one. */
import type { Challenge } from "../../src/protocol/index.ts";
import { merged, openByPermit2, topUpByAuthorization, topUpByPermit2 } from "./sessionDrafts.ts";
import {
	DEPOSIT,
	type Draft,
	type OpenOptions,
	type PaidServer,
	type Payer,
	PRICE,
	type TestChannel,
} from "./world.ts";

/** The deposits that a server sends to the chain itself. */
export const KINDS = ["authorization", "permit2"] as const;
export type Kind = (typeof KINDS)[number];

/** What a top-up adds to a deposit. */
export const MORE = 3_000n;

/** How a payer makes a deposit of each kind: the one that opens a channel, and one that adds to it. */
export const openBy = {
	authorization: (payer: Payer, challenge: Challenge, channel: TestChannel, options: OpenOptions) =>
		payer.open(challenge, channel, options),
	permit2: openByPermit2,
} as const;
export const topUpBy = { authorization: topUpByAuthorization, permit2: topUpByPermit2 } as const;

/** Who is in a test of a deposit. */
export type Stage = Readonly<{ server: PaidServer; payer: Payer }>;

/** A voucher of `amount` with the deposit that opens its channel. */
export async function voucherThatOpens(
	kind: Kind,
	{ server, payer }: Stage,
	channel: TestChannel,
	amount = PRICE,
	deposit = DEPOSIT,
	path = "/session",
): Promise<Draft> {
	const challenge = await server.challenge(path);
	const open = await openBy[kind](payer, challenge, channel, { deposit });
	return merged(await payer.voucher(challenge, channel, amount), open);
}

/** A voucher of `amount` with a top-up of its channel. */
export async function voucherThatTopsUp(
	kind: Kind,
	{ server, payer }: Stage,
	channel: TestChannel,
	amount: bigint,
	more = MORE,
	path = "/session",
): Promise<Draft> {
	const challenge = await server.challenge(path);
	const topUp = await topUpBy[kind](payer, challenge, channel, more);
	return merged(await payer.voucher(challenge, channel, amount), topUp);
}

/** The deposit that is merged into a voucher. */
export function depositOf(draft: Draft): Record<string, unknown> {
	return draft.payload.deposit as Record<string, unknown>;
}
