/** The charge intent on the wire (EVM charge draft, sections "Request Schema" and "Credential Schema"). */

import * as z from "zod";
import {
	address,
	anyCaseBytes,
	chainId,
	InvalidPayloadError,
	InvalidRequestError,
	knownNames,
	parseWith,
	uint256,
} from "./fields.ts";
import { toWire } from "./json.ts";

/** The credential types a charge can have, in no order of preference. */
export const CHARGE_CREDENTIAL_TYPES = ["permit2", "authorization", "transaction", "hash"] as const;

/** Most entries `splits` may have. */
export const MAX_SPLITS = 10;

const splitSchema = z.object({ recipient: address, amount: uint256, memo: z.string().max(256).exactOptional() });

/** Shape of a charge challenge's `request`. */
export const chargeRequestSchema = z
	.object({
		amount: uint256,
		currency: address,
		recipient: address,
		description: z.string().exactOptional(),
		externalId: z.string().exactOptional(),
		methodDetails: z.object({
			chainId,
			permit2Address: address.exactOptional(),
			credentialTypes: knownNames(CHARGE_CREDENTIAL_TYPES).exactOptional(),
			decimals: z.number().int().min(0).max(255).exactOptional(),
			splits: z.array(splitSchema).min(1).max(MAX_SPLITS).exactOptional(),
		}),
	})
	.superRefine(({ amount, methodDetails }, context) => {
		const { splits } = methodDetails;
		if (splits === undefined || splits.reduce((sum, split) => sum + split.amount, 0n) < amount) return;
		context.addIssue({ code: "custom", path: ["methodDetails", "splits"], message: "must add up to less than amount" });
	});

/**
 * What a charge challenge asks for: `amount` base units of the token `currency`, of which each split's `amount` goes to its
 * `recipient` and the rest to `recipient`. Absent means: `permit2Address` the canonical one, `credentialTypes`
 * `"transaction"` and perhaps `"hash"`.
 */
export type ChargeRequest = z.output<typeof chargeRequestSchema>;

/** Shape of an `authorization` payload (section "Authorization Payload"). */
export const chargeAuthorizationSchema = z.object({
	type: z.literal("authorization"),
	from: address,
	to: address,
	value: uint256,
	validAfter: uint256,
	validBefore: uint256,
	nonce: anyCaseBytes(32),
	signature: anyCaseBytes(65),
});

/**
 * An EIP-3009 transfer of `value` base units between `validAfter` and `validBefore` (Unix seconds), which the server sends.
 * `nonce` is the challenge's hash.
 */
export type ChargeAuthorizationPayload = z.output<typeof chargeAuthorizationSchema>;

/** Shape of a `permit2` payload (section "Permit2 Payload"). */
export const chargePermit2Schema = z
	.object({
		type: z.literal("permit2"),
		permit: z.object({
			permitted: z
				.array(z.object({ token: address, amount: uint256 }))
				.min(1)
				.max(MAX_SPLITS + 1),
			nonce: uint256,
			deadline: uint256,
		}),
		transferDetails: z.array(z.object({ to: address, requestedAmount: uint256 })),
		witness: z.object({ challengeHash: anyCaseBytes(32), externalId: z.string().default("") }),
		signature: anyCaseBytes(65),
	})
	.superRefine(({ permit, transferDetails }, context) => {
		if (permit.permitted.length === transferDetails.length) return;
		context.addIssue({ code: "custom", path: ["transferDetails"], message: "must be as long as permit.permitted" });
	});

/**
 * A Permit2 signature over one transfer, or over one to the recipient and one to each split, which the server sends. The
 * payload does not name the payer: that is the credential's `source`. `externalId` is empty where the challenge has none.
 */
export type ChargePermit2Payload = z.output<typeof chargePermit2Schema>;

/** Shape of a `transaction` payload (section "Transaction Payload"). */
export const chargeTransactionSchema = z.object({ type: z.literal("transaction"), signature: anyCaseBytes() });

/** A whole signed transaction, in `signature`, which the server broadcasts. */
export type ChargeTransactionPayload = z.output<typeof chargeTransactionSchema>;

/** Shape of a `hash` payload (section "Hash Payload"). */
export const chargeHashSchema = z.object({ type: z.literal("hash"), hash: anyCaseBytes(32) });

/** The hash of a transaction that the client sent. */
export type ChargeHashPayload = z.output<typeof chargeHashSchema>;

/** Shape of any charge payload. */
export const chargePayloadSchema = z.discriminatedUnion("type", [
	chargeAuthorizationSchema,
	chargePermit2Schema,
	chargeTransactionSchema,
	chargeHashSchema,
]);

/**
 * The payload of a charge credential, told apart by `type`. Amounts are base units; for `"transaction"`, `signature` is the
 * whole signed transaction. Hex is lowercase.
 */
export type ChargePayload = z.output<typeof chargePayloadSchema>;

/**
 * Checks the shape of a charge credential's payload. Unknown members are left out.
 *
 * @throws {InvalidPayloadError} with the first member that is wrong
 * @example
 * ```ts
 * const payload = parseChargePayload(credential.payload);
 * if (payload.type === "authorization") verify(payload.from, payload.value, payload.signature);
 * ```
 */
export function parseChargePayload(payload: unknown): ChargePayload {
	return parseWith(chargePayloadSchema, payload, InvalidPayloadError);
}

/**
 * The wire form of a charge payload: amounts as decimal strings.
 *
 * @example
 * ```ts
 * formatCredential({ challenge, payload: encodeChargePayload({ type: "authorization", ...authorization, signature }) });
 * ```
 */
export function encodeChargePayload(payload: ChargePayload): Record<string, unknown> {
	return toWire(payload);
}

/**
 * Checks the shape of a charge challenge's request, and that its splits leave something for the recipient. Unknown members
 * and credential types are left out.
 *
 * @throws {InvalidRequestError} with the first member that is wrong
 * @example
 * ```ts
 * const { amount, currency } = parseChargeRequest(offer.request);
 * ```
 */
export function parseChargeRequest(request: unknown): ChargeRequest {
	return parseWith(chargeRequestSchema, request, InvalidRequestError);
}

/**
 * The wire form of a charge request, for `createChallenge`. Addresses are written as given: the draft wants EIP-55 case.
 *
 * @example
 * ```ts
 * encodeChargeRequest({ amount: 100n, currency, recipient, methodDetails: { chainId: 196, credentialTypes: ["authorization"] } });
 * ```
 */
export function encodeChargeRequest(request: ChargeRequest): Record<string, unknown> {
	return toWire(request);
}
