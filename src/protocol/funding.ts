/**
 * The two token-pull authorizations by which a server funds a channel for the payer (session draft, section "Open Payload
 * (feePayer: true)").
 */

import * as z from "zod";
import { address, bytes32, uint128, uint256 } from "./fields.ts";

/** Shape of `authorization` where `type` is `"authorization"`. */
export const eip3009Schema = z.object({
	from: address,
	to: address,
	value: uint128,
	validAfter: uint256,
	validBefore: uint256,
	nonce: bytes32,
});

/**
 * An EIP-3009 authorization: `from` lets `to` (the escrow) take `value` base units between `validAfter` and `validBefore`
 * (Unix seconds). `nonce` is derived from the channel's parameters.
 */
export type Eip3009Authorization = z.output<typeof eip3009Schema>;

const permit2Fields = {
	from: address,
	permitted: z.object({ token: address, amount: uint128 }),
	nonce: uint256,
	deadline: uint256,
};

/** Shape of `authorization` where `type` is `"permit2"` and a channel is opened. */
export const permit2OpenSchema = z.object({
	...permit2Fields,
	witness: z.object({ payee: address, salt: bytes32, authorizedSigner: address }),
});

/**
 * A Permit2 transfer of `permitted.amount` base units of `permitted.token` from `from` to the escrow until `deadline` (Unix
 * seconds), for opening the channel that `witness` names.
 */
export type Permit2OpenAuthorization = z.output<typeof permit2OpenSchema>;

/** Shape of `authorization` where `type` is `"permit2"` and a channel is topped up. */
export const permit2TopUpSchema = z.object({ ...permit2Fields, witness: z.object({ channelId: bytes32 }) });

/** As {@link Permit2OpenAuthorization}, for adding to the channel that `witness` names. */
export type Permit2TopUpAuthorization = z.output<typeof permit2TopUpSchema>;
