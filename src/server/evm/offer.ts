import { type Address, getAddress, type Hex } from "viem";
import { z } from "zod";
import {
	CHARGE_CREDENTIAL_TYPES,
	type Challenge,
	type ChargeRequest,
	encodeChargeRequest,
	encodeSessionRequest,
	MAX_SPLITS,
	type SESSION_CREDENTIAL_TYPES,
	type SessionRequest,
} from "../../protocol/index.ts";
import { CANONICAL_PERMIT2 } from "../../voucher/index.ts";
import type { Offer } from "../method.ts";
import { OfferError } from "../offer.ts";
import type { MeterSettings } from "../stream/meter.ts";
import type { Terms } from "./terms.ts";

/** The payment method of our challenges (draft-evm-charge-00, IANA Considerations). */
export const EVM = "evm";

export type SessionCredentialType = (typeof SESSION_CREDENTIAL_TYPES)[number];
export type ChargeCredentialType = (typeof CHARGE_CREDENTIAL_TYPES)[number];

/** A part of a charge that goes to somebody else, in the same transaction (draft-evm-charge-00, Payment Splits). */
export type Split = Readonly<{ recipient: Address; amount: bigint; memo?: string }>;

type Shared = Offer &
	Readonly<{
		/** Where and in what it is paid. */
		terms: Terms;
		/** The merchant's reference. */
		externalId?: string;
	}>;

/** A price by unit out of a channel. Amounts in base units of the token. */
export type SessionOffer = Shared &
	Readonly<{
		intent: "session";
		credentialTypes: readonly SessionCredentialType[];
		/** What one unit is, for example `request` or `llm_token`. */
		unitType?: string;
		/** How much a client should put into a new channel. */
		suggestedDeposit?: bigint;
		/** A channel of this client to go on with. */
		channelId?: Hex;
		/** The answer is paid by what it uses; `amount` is the price of one unit. */
		metered?: MeterSettings;
	}>;

/** One payment. `amount` is what the client pays in all; the recipient gets what the splits leave. */
export type ChargeOffer = Shared &
	Readonly<{
		intent: "charge";
		credentialTypes: readonly ChargeCredentialType[];
		splits?: readonly Split[];
	}>;

export type EvmOffer = SessionOffer | ChargeOffer;

/** The request of a challenge, read back. */
export type EvmRequest =
	| Readonly<{ intent: "session"; request: SessionRequest }>
	| Readonly<{ intent: "charge"; request: ChargeRequest }>;

const AMOUNT_HINT = "must be base units as a bigint or a decimal string, from 1 to 2^128 - 1";
const amount = z
	.union(
		[
			z.bigint(),
			z
				.string()
				.regex(/^[1-9]\d{0,38}$/)
				.transform(BigInt),
		],
		AMOUNT_HINT,
	)
	.refine((value) => value > 0n && value < 2n ** 128n, AMOUNT_HINT);

const address = z
	.string()
	.regex(/^0x[0-9a-fA-F]{40}$/, "must be an address: 0x and 40 hex digits")
	.transform((text) => text.toLowerCase() as Address);

/** Travels in a header; together with the rest of its challenge well below 8 KB (draft-httpauth-payment-00, Size Considerations). */
const text = z
	.string()
	.regex(/^[^\p{Cc}\p{Cs}]*$/u, "must have no control characters and be well-formed Unicode")
	.max(512, "must have at most 512 characters");

const splitSchema = z.strictObject({
	recipient: address,
	amount,
	memo: text.max(256, "must have at most 256 characters").optional(),
});

const units = z
	.union([z.bigint(), z.number().int()])
	.transform(BigInt)
	.refine((value) => value >= 1n && value <= 1_000_000_000n, "must be from 1 to 1,000,000,000 units");

const meteredSchema = z.strictObject({
	/** How many units have to be covered before the handler runs: an estimate of what the request will use. */
	estimateUnits: units.default(1n),
	/** How many units are reserved at a time: a crash costs the server at most that many, and each block is one write to disk. */
	blockUnits: units.default(32n),
	/** How long the answer waits for a voucher before it ends, in ms. */
	stallMs: z.number().int().positive().max(3_600_000).default(30_000),
	/**
	 * Whether several such requests of one channel may be under way at once: for answers that are whole and paid by their use.
	 * A channel has one stream, so that without it a new request takes the place of the one before (D16).
	 */
	isShared: z.boolean().default(false),
	/** What is charged where the handler does not charge itself: one unit for each piece, byte or second of the answer. */
	per: z.enum(["piece", "byte", "second"]).exactOptional(),
});

const priceSchema = z.strictObject({
	method: z.literal(EVM).optional(),
	price: amount,
	intent: z.enum(["session", "charge"]).default("session"),
	/** Which of the server's tokens; by default its first one. */
	currency: address.optional(),
	/** Which of the server's chains, where the token alone does not say it. */
	chainId: z.number().int().positive().optional(),
	/** How it may be paid, the preferred way first; by default every way that token and chain allow. */
	credentialTypes: z.array(z.enum(CHARGE_CREDENTIAL_TYPES)).min(1).readonly().optional(),
	description: text.optional(),
	externalId: text.optional(),
	/** Names and texts that come back with the payment, as `payment.opaque`; everybody can read them. */
	opaque: z
		.record(
			z.string().regex(/^(?!nonce$|__proto__$)[A-Za-z0-9_-]{1,64}$/, "must be a name, and another one than nonce"),
			text,
		)
		.optional(),
	/** Whether a challenge is good for the body that it was asked with alone. Default: of charges, yes. */
	bindBody: z.boolean().optional(),
	unitType: text.optional(),
	suggestedDeposit: amount.optional(),
	channelId: z
		.string()
		.regex(/^0x[0-9a-f]{64}$/, "must be 0x and 64 lowercase hex digits")
		.transform((id) => id as Hex)
		.optional(),
	splits: z.array(splitSchema).min(1).max(MAX_SPLITS).readonly().optional(),
	/** The answer is paid by what it uses, unit by unit, while it is made (sessions only). `true`: with every default. */
	metered: z
		.union([z.boolean().transform((on) => (on ? meteredSchema.parse({}) : undefined)), meteredSchema])
		.optional(),
});

/** A price in tokens on an EVM chain, as a route's configuration states it. Amounts in base units. */
export type EvmPrice = z.input<typeof priceSchema>;

/**
 * Checks one price against what the server can take.
 *
 * @param known the server's tokens, the default one first
 * @throws OfferError naming the setting to change
 */
export function parseEvmOffer(price: unknown, known: readonly Terms[]): EvmOffer {
	const parsed = priceSchema.safeParse(price);
	if (!parsed.success) {
		const [issue] = parsed.error.issues;
		throw new OfferError(`${issue?.path.join(".") ?? ""}: ${issue?.message ?? "is invalid"}`);
	}
	const { price: value, method: _, currency, chainId, intent, credentialTypes, bindBody, ...rest } = parsed.data;
	const terms = known.find(
		(one) => (currency ?? one.currency) === one.currency && (chainId ?? one.chainId) === one.chainId,
	);
	if (terms === undefined) {
		throw new OfferError(
			"currency: the server takes no such token on such a chain; add it to the engine's option also",
		);
	}
	const { unitType, suggestedDeposit, channelId, splits, metered, ...texts } = rest;
	const shared = { method: EVM, amount: value, terms, ...definedOnly(texts) };
	if (intent === "session") {
		if (splits !== undefined) throw new OfferError("splits: only a charge can be split");
		return {
			...shared,
			intent,
			bindBody: bindBody ?? false,
			credentialTypes: chosen(terms.sessionTypes, credentialTypes),
			...definedOnly({ unitType, suggestedDeposit, channelId, metered }),
		};
	}
	if ([unitType, suggestedDeposit, channelId, metered].some((setting) => setting !== undefined))
		throw new OfferError("unitType, suggestedDeposit, channelId and metered: only a session has them");
	return {
		...shared,
		intent,
		bindBody: bindBody ?? true,
		...splitUp(value, splits, terms, chosen(terms.chargeTypes, credentialTypes ?? defaultChargeTypes(terms))),
	};
}

/**
 * A transfer that somebody else can see on chain is a weaker proof (draft-evm-charge-00, Hash Credential Binding): a route
 * has to ask for `hash`.
 */
function defaultChargeTypes({ chargeTypes }: Terms): readonly ChargeCredentialType[] {
	return chargeTypes.filter((type) => type !== "hash");
}

/** What was asked for, as far as the server can do it. */
function chosen<Type extends string>(
	possible: readonly Type[],
	wanted: readonly string[] | undefined,
): readonly Type[] {
	if (wanted === undefined) return possible;
	return wanted.map((type) => {
		const known = possible.find((one) => one === type);
		if (known !== undefined) return known;
		throw new OfferError(
			`credentialTypes: "${type}" can't be taken in this token here; possible are ${possible.join(", ")}`,
		);
	});
}

/** Only Permit2 moves several transfers or none (draft-evm-charge-00, Payment Splits). */
function splitUp(
	amount: bigint,
	splits: readonly z.output<typeof splitSchema>[] | undefined,
	{ chargeTypes }: Terms,
	credentialTypes: readonly ChargeCredentialType[],
): Pick<ChargeOffer, "credentialTypes" | "splits"> {
	if (splits === undefined) return { credentialTypes };
	if (!chargeTypes.includes("permit2"))
		throw new OfferError("splits: there is no Permit2 on this chain to pay them by");
	if (!credentialTypes.includes("permit2")) throw new OfferError('splits: credentialTypes must include "permit2"');
	const sum = splits.reduce((total, split) => total + split.amount, 0n);
	if (sum >= amount) throw new OfferError(`splits: they add up to ${sum}, which leaves nothing of ${amount}`);
	return {
		credentialTypes: ["permit2"],
		splits: splits.map(({ memo, ...split }) => ({ ...split, ...definedOnly({ memo }) })),
	};
}

/**
 * The `request` parameter of an offer's challenge, its addresses with their EIP-55 checksums (draft-evm-session-00, Request
 * Schema and Hexadecimal Values; draft-evm-charge-00, Shared Fields and Method Details).
 */
export function evmRequest(offer: EvmOffer): Record<string, unknown> {
	const { chainId, escrow, currency, recipient, feePayer, minVoucherDelta, permit2, decimals } = offer.terms;
	const shared = {
		amount: offer.amount,
		currency: getAddress(currency),
		recipient: getAddress(recipient),
		...definedOnly({ description: offer.description, externalId: offer.externalId }),
	};
	const credentialTypes = [...offer.credentialTypes];
	if (offer.intent === "charge") {
		const { splits } = offer;
		return encodeChargeRequest({
			...shared,
			methodDetails: {
				chainId,
				credentialTypes: credentialTypes as ChargeCredentialType[],
				...definedOnly({ decimals }),
				permit2Address: getAddress(permit2 ?? CANONICAL_PERMIT2),
				...(splits !== undefined && {
					splits: splits.map((split) => ({ ...split, recipient: getAddress(split.recipient) })),
				}),
			},
		});
	}
	const sponsored = feePayer && offer.credentialTypes.some((type) => type !== "hash");
	return encodeSessionRequest({
		...shared,
		...definedOnly({ unitType: offer.unitType, suggestedDeposit: offer.suggestedDeposit }),
		methodDetails: {
			chainId,
			escrowContract: getAddress(escrow),
			...definedOnly({ channelId: offer.channelId }),
			...(sponsored && { feePayer }),
			...(minVoucherDelta > 0n && { minVoucherDelta }),
			credentialTypes: credentialTypes as SessionCredentialType[],
			...(permit2 !== undefined && credentialTypes.includes("permit2") && { permit2Contract: getAddress(permit2) }),
		},
	});
}

/**
 * Whether a challenge of ours stands for this offer (D9): same realm, intent, currency, recipient, chain and escrow; of a
 * charge also amount and splits. A session's price may have changed since: vouchers pay any route.
 */
export function matchesOffer(
	offer: EvmOffer,
	challenge: Pick<Challenge, "realm" | "intent">,
	{ request }: EvmRequest,
): boolean {
	const { terms } = offer;
	const { methodDetails } = request;
	return (
		challenge.intent === offer.intent &&
		challenge.realm === terms.realm &&
		methodDetails.chainId === terms.chainId &&
		request.currency === terms.currency &&
		request.recipient === terms.recipient &&
		(!("escrowContract" in methodDetails) || methodDetails.escrowContract === terms.escrow) &&
		(offer.intent === "session" ||
			(offer.amount === request.amount &&
				sameSplits(offer.splits, "splits" in methodDetails ? methodDetails.splits : undefined)))
	);
}

function sameSplits(
	a: readonly Split[] = [],
	b: readonly Readonly<{ recipient: string; amount: bigint }>[] = [],
): boolean {
	return (
		a.length === b.length &&
		a.every(({ recipient, amount }, at) => recipient === b[at]?.recipient && amount === b[at]?.amount)
	);
}

type Defined<T> = { [K in keyof T]: Exclude<T[K], undefined> };

/** Without the members that are `undefined`, for `exactOptionalPropertyTypes`. */
function definedOnly<T extends object>(object: T): Partial<Defined<T>> {
	return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as Partial<Defined<T>>;
}
