import type { Address } from "viem";
import * as z from "zod";
import { computeChannelId } from "../voucher/index.ts";
import type { PendingTopUp } from "./pending.ts";
import { isSecure } from "./policy.ts";
import {
	addressShape as address,
	amountShape as amount,
	bytes32Shape as bytes32,
	channelMembers,
	decimalShape as decimal,
} from "./shapes.ts";

const transaction = z.strictObject({ hash: bytes32, nonce: z.int().nonnegative() });

const topUpSchema = z.discriminatedUnion("type", [
	z.strictObject({ type: z.literal("authorization"), amount, salt: bytes32, until: z.number() }),
	z.strictObject({ type: z.literal("permit2"), amount, permit2: address, nonce: decimal, until: z.number() }),
	z.strictObject({ type: z.literal("hash"), amount, hash: bytes32, nonce: z.int().nonnegative(), mined: z.boolean() }),
]);

/** What `PayerChannelState` is checked by. */
export const stateSchema = z.strictObject({
	...channelMembers,
	deposit: amount,
	/** Highest cumulative amount signed. */
	signed: amount,
	/** What was delivered. */
	consumed: amount,
	/** Prices of requests of which it is not known whether they were charged. */
	uncertain: amount,
	/** Where it was opened. */
	resource: z.strictObject({ url: z.url(), method: z.string().min(1) }),
	/** A top-up of which it is not known whether the deposit has it. */
	topUp: topUpSchema.exactOptional(),
	/** The payer's own transaction that opened it, of which the server was not told yet. */
	funding: transaction.exactOptional(),
});

/** A channel as plain data, amounts in base units as decimal strings: JSON can carry it, and it holds no key. */
export type PayerChannelState = z.output<typeof stateSchema>;

/** What was given as the state of a channel is none, or not one of this payer. */
export class ChannelStateError extends Error {
	override readonly name = "ChannelStateError";
	readonly code = "CHANNEL_STATE";
}

/**
 * Checks the state of a channel that this payer is to go on with.
 *
 * @param signers - whose vouchers can be made: the payer, and its session key
 * @throws ChannelStateError naming what is wrong
 */
export function parseState(state: unknown, payer: Address, signers: readonly Address[]): PayerChannelState {
	const parsed = stateSchema.safeParse(state);
	if (!parsed.success) {
		const [issue] = parsed.error.issues;
		throw new ChannelStateError(`channel state ${issue?.path.join(".") ?? ""}: ${issue?.message ?? "is invalid"}`);
	}
	const { data } = parsed;
	const wrong = (detail: string): never => {
		throw new ChannelStateError(`channel ${data.channelId}: ${detail}`);
	};
	if (!isSecure(data.resource.url)) wrong("its resource is not https: a credential sent there could be read by others");
	if (data.payer !== payer) wrong(`its payer is ${data.payer}, not ${payer}`);
	if (!signers.includes(data.authorizedSigner)) wrong(`vouchers of ${data.authorizedSigner} can't be signed here`);
	if (data.salt !== undefined && computeChannelId({ ...data, salt: data.salt }) !== data.channelId)
		wrong("its parameters make another id");
	if (BigInt(data.consumed) > BigInt(data.signed)) wrong("more was consumed than signed");
	return data;
}

/** A pending top-up in a state. One that was neither signed nor sent need not be remembered. */
export function stateOfTopUp(topUp: PendingTopUp): Pick<PayerChannelState, "topUp"> {
	const { type, amount } = topUp;
	switch (type) {
		case "authorization":
			return { topUp: { type, amount: String(amount), salt: topUp.salt, until: topUp.until } };
		case "permit2": {
			const { permit2, nonce, until } = topUp;
			return { topUp: { type, amount: String(amount), permit2, nonce: String(nonce), until } };
		}
		default:
			if (topUp.sent === undefined) return {};
			return { topUp: { type, amount: String(amount), ...topUp.sent, mined: topUp.mined ?? false } };
	}
}

/** The pending top-up of a state. */
export function topUpFrom({ topUp }: PayerChannelState): PendingTopUp | undefined {
	if (topUp === undefined) return undefined;
	const amount = BigInt(topUp.amount);
	switch (topUp.type) {
		case "authorization":
			return { ...topUp, amount };
		case "permit2":
			return { ...topUp, amount, nonce: BigInt(topUp.nonce) };
		default: {
			const { type, hash, nonce, mined } = topUp;
			return { type, amount, sent: { hash, nonce }, mined };
		}
	}
}
