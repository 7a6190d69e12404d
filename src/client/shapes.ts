/** Shapes of what stands in everything that a payer keeps, sends between its processes, or hands out, as JSON. Hex is lower case. */
import type { Address, Hex } from "viem";
import * as z from "zod";
import type { Challenge } from "../protocol/index.ts";
import { UINT128_MAX } from "../voucher/index.ts";

const text = z.string();

export const addressShape = text.regex(/^0x[0-9a-f]{40}$/) as unknown as z.ZodType<Address>;

export const bytes32Shape = text.regex(/^0x[0-9a-f]{64}$/) as unknown as z.ZodType<Hex>;

/** A whole number of 256 bits, as a decimal string. */
export const decimalShape = text.regex(/^(0|[1-9]\d{0,77})$/);

/** An amount of a channel in base units, as a decimal string. */
export const amountShape = decimalShape.refine((digits) => BigInt(digits) <= UINT128_MAX, "must be below 2^128");

/** What was summed up of amounts, as a decimal string. */
export const sumShape = text.regex(/^(0|[1-9]\d{0,99})$/);

/** What a channel's id is made of (draft-evm-session-00, Channel State): members of an object. */
export const channelMembers = {
	channelId: bytes32Shape,
	chainId: z.int().positive(),
	escrow: addressShape,
	payer: addressShape,
	payee: addressShape,
	token: addressShape,
	authorizedSigner: addressShape,
	/** Absent where only the escrow told of the channel: its id can't be made again. */
	salt: bytes32Shape.exactOptional(),
} as const;

export const challengeShape: z.ZodType<Challenge> = z.strictObject({
	id: text,
	realm: text,
	method: text,
	intent: text,
	request: text,
	expires: text.exactOptional(),
	digest: text.exactOptional(),
	description: text.exactOptional(),
	opaque: text.exactOptional(),
});
