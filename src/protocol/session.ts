/** The session intent on the wire (EVM session draft, sections "Request Schema" and "Credential Schema"). */

import * as z from "zod";
import {
	address,
	bytes32,
	chainId,
	InvalidPayloadError,
	InvalidRequestError,
	isBytes32,
	isSignature,
	knownNames,
	parseWith,
	signature,
	uint128,
	ZERO_ADDRESS,
} from "./fields.ts";
import { eip3009Schema, permit2OpenSchema, permit2TopUpSchema } from "./funding.ts";
import { isJsonObject, toWire } from "./json.ts";

/** The credential types a session can have, in no order of preference. */
export const SESSION_CREDENTIAL_TYPES = ["permit2", "authorization", "hash"] as const;

/** Shape of a session challenge's `request`. */
export const sessionRequestSchema = z.object({
	amount: uint128,
	unitType: z.string().exactOptional(),
	suggestedDeposit: uint128.exactOptional(),
	currency: address,
	recipient: address,
	description: z.string().exactOptional(),
	externalId: z.string().exactOptional(),
	methodDetails: z.object({
		chainId,
		escrowContract: address,
		channelId: bytes32.exactOptional(),
		minVoucherDelta: uint128.exactOptional(),
		feePayer: z.boolean().exactOptional(),
		credentialTypes: knownNames(SESSION_CREDENTIAL_TYPES).exactOptional(),
		permit2Contract: address.exactOptional(),
	}),
});

/**
 * What a session challenge asks for. `amount` is the price of one unit, `suggestedDeposit` and `minVoucherDelta` are amounts
 * too, all in base units. Absent means: `minVoucherDelta` 0, `feePayer` false, `credentialTypes` only `"hash"`,
 * `permit2Contract` the canonical one.
 */
export type SessionRequest = z.output<typeof sessionRequestSchema>;

const authorizedSigner = address.default(ZERO_ADDRESS);
const voucherFields = { channelId: bytes32, cumulativeAmount: uint128, signature };

const openFields = {
	action: z.literal("open"),
	channelId: bytes32,
	cumulativeAmount: uint128,
	authorizedSigner,
	salt: bytes32,
	signature,
};

/** Shape of an `open` payload, one for each `type`. */
export const openPayloadSchema = z.discriminatedUnion("type", [
	z.object({ ...openFields, type: z.literal("hash"), hash: bytes32 }),
	z.object({
		...openFields,
		type: z.literal("authorization"),
		authorization: eip3009Schema,
		voucherSignature: signature,
	}),
	z
		.object({
			...openFields,
			type: z.literal("permit2"),
			authorization: permit2OpenSchema,
			voucherSignature: signature,
		})
		.superRefine(checkOpenWitness),
]);

/**
 * Opens a channel. With `type: "hash"` the payer has sent the transaction `hash` and `signature` is the voucher's; else the
 * server sends it, `signature` is that of `authorization` and the voucher's is `voucherSignature`. `authorizedSigner` is the
 * zero address where the payload has none.
 */
export type OpenPayload = z.output<typeof openPayloadSchema>;

const topUpFields = { action: z.literal("topUp"), channelId: bytes32, additionalDeposit: uint128 };

/** Shape of a `topUp` payload, one for each `type`. */
export const topUpPayloadSchema = z.discriminatedUnion("type", [
	z.object({ ...topUpFields, type: z.literal("hash"), hash: bytes32 }),
	z
		.object({
			...topUpFields,
			type: z.literal("authorization"),
			salt: bytes32,
			authorization: eip3009Schema,
			signature,
		})
		.superRefine((payload, context) => {
			if (payload.authorization.value !== payload.additionalDeposit) disagree(context, "additionalDeposit");
		}),
	z
		.object({ ...topUpFields, type: z.literal("permit2"), authorization: permit2TopUpSchema, signature })
		.superRefine((payload, context) => {
			if (payload.authorization.permitted.amount !== payload.additionalDeposit) disagree(context, "additionalDeposit");
			if (payload.authorization.witness.channelId !== payload.channelId) disagree(context, "channelId");
		}),
]);

/** Adds `additionalDeposit` base units to a channel. With `type: "hash"` the payer has sent the transaction `hash`. */
export type TopUpPayload = z.output<typeof topUpPayloadSchema>;

const depositOpenFields = { action: z.literal("open"), salt: bytes32, authorizedSigner, signature };
const depositTopUpFields = { action: z.literal("topUp"), signature };

const depositSchema = z.discriminatedUnion("action", [
	z.discriminatedUnion("type", [
		z.object({ ...depositOpenFields, type: z.literal("authorization"), authorization: eip3009Schema }),
		z
			.object({ ...depositOpenFields, type: z.literal("permit2"), authorization: permit2OpenSchema })
			.superRefine(checkOpenWitness),
	]),
	z.discriminatedUnion("type", [
		z.object({
			...depositTopUpFields,
			type: z.literal("authorization"),
			salt: bytes32,
			authorization: eip3009Schema,
		}),
		z.object({ ...depositTopUpFields, type: z.literal("permit2"), authorization: permit2TopUpSchema }),
	]),
]);

/** Funding merged with a voucher: opens the voucher's channel or adds to it, and is carried out first. */
export type VoucherDeposit = z.output<typeof depositSchema>;

/** Shape of a `voucher` payload. */
export const voucherPayloadSchema = z
	.object({ ...voucherFields, action: z.literal("voucher"), deposit: depositSchema.exactOptional() })
	.superRefine(({ channelId, deposit }, context) => {
		if (deposit?.action !== "topUp" || deposit.type !== "permit2") return;
		if (deposit.authorization.witness.channelId !== channelId) disagree(context, "channelId");
	});

/** A voucher: authorizes `cumulativeAmount` base units in all, perhaps with its funding. */
export type VoucherPayload = z.output<typeof voucherPayloadSchema>;

/** Shape of a `close` payload. */
export const closePayloadSchema = z.object({ ...voucherFields, action: z.literal("close") });

/** Asks for the channel to be closed with this voucher as the last. */
export type ClosePayload = z.output<typeof closePayloadSchema>;

/** Shape of any session payload. */
export const sessionPayloadSchema = z.discriminatedUnion(
	"action",
	[voucherPayloadSchema, openPayloadSchema, topUpPayloadSchema, closePayloadSchema],
	"must be one of the draft's actions",
);

/** The payload of a session credential, told apart by `action` and then by `type`. */
export type SessionPayload = z.output<typeof sessionPayloadSchema>;

/**
 * Checks the shape of a session credential's payload, and that what it says twice it says alike. Unknown members are left out.
 *
 * @throws {InvalidPayloadError} with the first member that is wrong
 * @example
 * ```ts
 * const payload = parseSessionPayload(credential.payload);
 * if (payload.action === "voucher") accept(payload.channelId, payload.cumulativeAmount, payload.signature);
 * ```
 */
export function parseSessionPayload(payload: unknown): SessionPayload {
	return plainVoucher(payload) ?? parseWith(sessionPayloadSchema, payload, InvalidPayloadError);
}

/**
 * A voucher without funding, which nearly every payload is, read by hand: a third of what the schema takes. Whatever is not
 * clearly one is left to the schema, which says what is wrong with it.
 */
function plainVoucher(payload: unknown): VoucherPayload | undefined {
	if (!isJsonObject(payload) || payload.action !== "voucher" || "deposit" in payload) return undefined;
	const { channelId, cumulativeAmount, signature: signed } = payload;
	if (!isBytes32(channelId) || !isSignature(signed)) return undefined;
	if (typeof cumulativeAmount !== "string" || !SHORT_DECIMAL.test(cumulativeAmount)) return undefined;
	return { channelId, cumulativeAmount: BigInt(cumulativeAmount), signature: signed, action: "voucher" };
}

/** So short that it is certainly below 2^128. */
const SHORT_DECIMAL = /^(?:0|[1-9][0-9]{0,37})$/;

/**
 * The wire form of a session payload: amounts as decimal strings, an `authorizedSigner` that is the zero address left out.
 *
 * @example
 * ```ts
 * formatCredential({ challenge, payload: encodeSessionPayload({ action: "voucher", channelId, cumulativeAmount: 250n, signature }) });
 * ```
 */
export function encodeSessionPayload(payload: SessionPayload): Record<string, unknown> {
	const wire = withoutZeroSigner(toWire(payload));
	return isJsonObject(wire.deposit) ? { ...wire, deposit: withoutZeroSigner(wire.deposit) } : wire;
}

/**
 * Checks the shape of a session challenge's request. Unknown members and credential types are left out.
 *
 * @throws {InvalidRequestError} with the first member that is wrong
 * @example
 * ```ts
 * const { amount, methodDetails } = parseSessionRequest(offer.request);
 * ```
 */
export function parseSessionRequest(request: unknown): SessionRequest {
	return parseWith(sessionRequestSchema, request, InvalidRequestError);
}

/**
 * The wire form of a session request, for `createChallenge`. Addresses are written as given: the draft wants EIP-55 case.
 *
 * @example
 * ```ts
 * encodeSessionRequest({ amount: 100n, currency, recipient, methodDetails: { chainId: 196, escrowContract } });
 * ```
 */
export function encodeSessionRequest(request: SessionRequest): Record<string, unknown> {
	return toWire(request);
}

type Issues = Pick<z.RefinementCtx, "addIssue">;
type OpenWithWitness = {
	readonly salt: string;
	readonly authorizedSigner: string;
	readonly authorization: { readonly witness: { readonly salt: string; readonly authorizedSigner: string } };
};

function checkOpenWitness({ salt, authorizedSigner, authorization }: OpenWithWitness, context: Issues): void {
	if (authorization.witness.salt !== salt) disagree(context, "salt");
	if (authorization.witness.authorizedSigner !== authorizedSigner) disagree(context, "authorizedSigner");
}

function disagree(context: Issues, member: string): void {
	context.addIssue({ code: "custom", path: [member], message: "must equal what authorization says" });
}

function withoutZeroSigner(wire: Readonly<Record<string, unknown>>): Record<string, unknown> {
	const { authorizedSigner, ...rest } = wire;
	return authorizedSigner === undefined || authorizedSigner === ZERO_ADDRESS ? rest : { ...rest, authorizedSigner };
}
