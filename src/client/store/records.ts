/** The shapes of what a payer keeps, as JSON. A field of a record that is not here does not compile. */
import type { Hex } from "viem";
import * as z from "zod";
import { bytes32Shape, challengeShape, sumShape } from "../shapes.ts";
import { stateSchema } from "../state.ts";
import type { ChannelRecord, PaymentRecord, ReceiptRecord, RecoveryTransaction } from "./store.ts";

const text = z.string();

/** Of a signed transaction in hex: a token's transfer has a few hundred bytes. */
const MAX_RAW_LENGTH = 20_000;

const recoveryShape: z.ZodType<RecoveryTransaction> = z.strictObject({
	kind: z.enum(["requestClose", "withdraw"]),
	hash: bytes32Shape,
	nonce: z.int().nonnegative(),
	atMs: z.int().nonnegative(),
});

export const channelShape: z.ZodType<ChannelRecord> = z.strictObject({
	key: text.min(1),
	status: z.enum(["open", "forgotten", "closed"]),
	state: stateSchema,
	sessionKey: bytes32Shape.exactOptional(),
	challenge: challengeShape.exactOptional(),
	recovery: z.array(recoveryShape).exactOptional(),
	createdAtMs: z.int().nonnegative(),
	fundableUntilMs: z.number().nonnegative().exactOptional(),
});

/** A channel, and who may write it. */
export type Row = Readonly<{
	record: ChannelRecord;
	/** How many holders it has had. */
	fence: number;
	/** Who has it. */
	holder?: string;
	/** When it was closed, if it is. */
	closedAtMs?: number;
}>;

export const rowShape: z.ZodType<Row> = z.strictObject({
	record: channelShape,
	fence: z.int().positive(),
	holder: text.min(1).exactOptional(),
	closedAtMs: z.int().nonnegative().exactOptional(),
});

/** What was counted under one key. */
export type Count = Readonly<{ count: string; untilMs?: number }>;

export const countShape: z.ZodType<Count> = z.strictObject({
	count: sumShape,
	untilMs: z.int().nonnegative().exactOptional(),
});

export const receiptShape: z.ZodType<ReceiptRecord> = z.strictObject({
	kind: z.enum(["charge", "open", "topUp", "voucher", "close"]),
	atMs: z.int().nonnegative(),
	url: text,
	method: text,
	amount: sumShape,
	chainId: z.int().positive(),
	token: text,
	payee: text,
	channelId: bytes32Shape.exactOptional(),
	challenge: challengeShape,
	receipt: z.record(text, z.json()),
}) as z.ZodType<ReceiptRecord>;

/** Where the receipts have got to: the number of the next one, and how many there are besides those of vouchers. */
export type ReceiptsEnd = Readonly<{ next: number; kept: number }>;

export const receiptsEndShape: z.ZodType<ReceiptsEnd> = z.strictObject({
	next: z.int().nonnegative(),
	kept: z.int().nonnegative(),
});

const madeShape = { id: bytes32Shape, atMs: z.int().nonnegative() };
const sentShape = { hash: bytes32Shape, nonce: z.int().nonnegative() };
const rawShape = z.custom<Hex>(
	(value) => typeof value === "string" && value.length <= MAX_RAW_LENGTH && /^0x([0-9a-f]{2})+$/.test(value),
	"is no transaction",
);

export const paymentShape: z.ZodType<PaymentRecord> = z.discriminatedUnion("type", [
	z.strictObject({ type: z.literal("hash"), ...madeShape, ...sentShape }),
	z.strictObject({ type: z.literal("transaction"), ...madeShape, ...sentShape, raw: rawShape }),
	z.strictObject({ type: z.literal("untold"), ...madeShape, fromBlock: z.int().nonnegative() }),
]);

/** A payment that is kept, and who uses it. */
export type PaymentRow = Readonly<{
	/** What it pays for. */
	key: string;
	payment: PaymentRecord;
	holder?: string;
	/** The call by which the holder took it. */
	call?: string;
}>;

export const paymentRowShape: z.ZodType<PaymentRow> = z.strictObject({
	key: text,
	payment: paymentShape,
	holder: text.min(1).exactOptional(),
	call: text.exactOptional(),
});

export type Pause = Readonly<{ reason: string }>;

export const pauseShape: z.ZodType<Pause> = z.strictObject({ reason: text });
