import { bytesToHex, type Hex, type LocalAccount } from "viem";
import { FieldFormatError, utf8, WORD } from "./bytes.ts";
import { hashStruct } from "./domain.ts";
import { keccak256 } from "./keccak.ts";
import {
	DOMAIN_MEMBERS,
	type Permit,
	type Permit2Domain,
	permitDigest,
	permitMembers,
	TOKEN_PERMISSIONS,
	TOKEN_PERMISSIONS_TEXT,
	type TokenPermissions,
	tokenPermissionsHash,
	typehash,
	typeText,
	walletDomain,
	walletPermissions,
	walletPermit,
} from "./permit2.ts";
import { normalizeSignature } from "./signature.ts";
import type { TypedDataSigner } from "./signer.ts";

/** Binds a charge to its challenge. `externalId` is the empty string where the challenge has none. */
export interface PaymentWitness {
	/** {@link chargeNonce} of the challenge. */
	readonly challengeHash: Hex;
	readonly externalId: string;
}

/**
 * A one-time charge: one entry of `permitted` for the recipient and one for each split, in the order of the transfers. One
 * entry is signed as `PermitWitnessTransferFrom`, several as `PermitBatchWitnessTransferFrom`.
 *
 * Permit2 takes the `spender` for the account that calls it, and the charge draft does not say which account a client is to
 * sign. Sluice takes the challenge's `recipient`: the one account of the server that the client knows. So a server that
 * takes Permit2 charges has to submit them from its `recipient`.
 *
 * Source: draft-evm-charge-00, "Permit2 Payload", "Permit Object".
 */
export interface PaymentPermit extends Permit {
	readonly permitted: readonly TokenPermissions[];
	readonly witness: PaymentWitness;
}

/**
 * How the type of {@link PaymentWitness} is written into the type hash. The charge draft's string, which it says MUST be
 * used, has a blank after a comma; EIP-712's `encodeType` has none, and a wallet that is given typed data never produces
 * one. The two give different digests, and a signature of one is no signature of the other.
 *
 * - `draft`: `PaymentWitness(bytes32 challengeHash, string externalId)`, to the letter of the draft.
 * - `eip712`: the same without the blank.
 *
 * Permit2 works with either: it appends whatever string the submitter hands it to its own, hashes both, and compares the
 * signer of the outcome, so the blank changes that hash and nothing else. The structs stand in EIP-712's order in both
 * (`PaymentWitness` before `TokenPermissions`), and the members are encoded alike. The draft does not give the type hash
 * within the witness itself, which Permit2 never sees; it is taken over the same spelling as the outer one.
 */
export type PaymentWitnessForm = "draft" | "eip712";

/** Both forms, in the order in which they are worth trying. */
export const PAYMENT_WITNESS_FORMS: readonly PaymentWitnessForm[] = ["eip712", "draft"];

/** A {@link TypedDataSigner} that perhaps can sign a bare digest too, as accounts with a key at hand can. */
export interface PaymentSigner extends TypedDataSigner {
	readonly sign?: LocalAccount["sign"];
}

const PAYMENT_WITNESS = [
	{ name: "challengeHash", type: "bytes32" },
	{ name: "externalId", type: "string" },
] as const;

const PAYMENT_TYPES = {
	EIP712Domain: DOMAIN_MEMBERS,
	PermitWitnessTransferFrom: permitMembers("TokenPermissions", "PaymentWitness"),
	PaymentWitness: PAYMENT_WITNESS,
	TokenPermissions: TOKEN_PERMISSIONS,
} as const;
const BATCH_PAYMENT_TYPES = {
	EIP712Domain: DOMAIN_MEMBERS,
	PermitBatchWitnessTransferFrom: permitMembers("TokenPermissions[]", "PaymentWitness"),
	PaymentWitness: PAYMENT_WITNESS,
	TokenPermissions: TOKEN_PERMISSIONS,
} as const;

const PAYMENT_WITNESS_TEXTS: Readonly<Record<PaymentWitnessForm, string>> = {
	draft: typeText("PaymentWitness", PAYMENT_WITNESS, ", "),
	eip712: typeText("PaymentWitness", PAYMENT_WITNESS),
};

const PAYMENT_WITNESS_TYPEHASHES = byForm((form) => typehash(PAYMENT_WITNESS_TEXTS[form]));
const PAYMENT_TYPEHASHES = byForm((form) =>
	typehash(
		typeText("PermitWitnessTransferFrom", PAYMENT_TYPES.PermitWitnessTransferFrom) +
			PAYMENT_WITNESS_TEXTS[form] +
			TOKEN_PERMISSIONS_TEXT,
	),
);
const BATCH_PAYMENT_TYPEHASHES = byForm((form) =>
	typehash(
		typeText("PermitBatchWitnessTransferFrom", BATCH_PAYMENT_TYPES.PermitBatchWitnessTransferFrom) +
			PAYMENT_WITNESS_TEXTS[form] +
			TOKEN_PERMISSIONS_TEXT,
	),
);

function byForm<Value>(make: (form: PaymentWitnessForm) => Value): Readonly<Record<PaymentWitnessForm, Value>> {
	return { draft: make("draft"), eip712: make("eip712") };
}

/**
 * The hash of the witness, which is handed to Permit2 beside {@link paymentWitnessTypeString}.
 *
 * @throws {FieldFormatError} for a malformed `challengeHash`.
 * @example
 * ```ts
 * const hash = paymentWitnessHash({ challengeHash: chargeNonce(id, realm), externalId: "" }, "draft");
 * ```
 */
export function paymentWitnessHash(witness: PaymentWitness, form: PaymentWitnessForm): Hex {
	return bytesToHex(witnessHash(witness, form));
}

/**
 * The `witnessTypeString` argument of Permit2. For `draft` it is the charge draft's string to the letter.
 *
 * Source: draft-evm-charge-00, "Witness Data (Challenge Binding)".
 *
 * @example
 * ```ts
 * paymentWitnessTypeString("draft"); // "PaymentWitness witness)PaymentWitness(bytes32 challengeHash, string …"
 * ```
 */
export function paymentWitnessTypeString(form: PaymentWitnessForm): string {
	return `PaymentWitness witness)${PAYMENT_WITNESS_TEXTS[form]}${TOKEN_PERMISSIONS_TEXT}`;
}

/**
 * The digest that the signature of a charge is over, in one form or the other: which of them a client signed shows only by
 * trying.
 *
 * Source: draft-evm-charge-00, "Witness Data (Challenge Binding)", "Permit2 Verification", step 1.
 *
 * @returns 32 bytes.
 * @throws {FieldFormatError} for a malformed address or `challengeHash`, or when nothing is permitted.
 * @throws {AmountOutOfRangeError} for a number outside `uint256`.
 * @example
 * ```ts
 * const form = PAYMENT_WITNESS_FORMS.find(
 * 	(one) => verifier.verifyDigest(payer, paymentPermitDigest(domain, permit, one), signature) === "valid",
 * );
 * ```
 */
export function paymentPermitDigest(
	domain: Permit2Domain,
	permit: PaymentPermit,
	form: PaymentWitnessForm,
): Uint8Array {
	const { permitted } = permit;
	const [first, ...more] = permitted;
	if (first === undefined) throw new FieldFormatError("permitted", "one entry or more", "[]");
	const hash = witnessHash(permit.witness, form);
	if (more.length === 0)
		return permitDigest(domain, PAYMENT_TYPEHASHES[form], tokenPermissionsHash(first), permit, hash);
	return permitDigest(domain, BATCH_PAYMENT_TYPEHASHES[form], hashArray(permitted), permit, hash);
}

/**
 * A charge as typed data for a wallet. Its digest is that of the `eip712` form: typed data can't express the other one.
 *
 * @throws {FieldFormatError} when nothing is permitted.
 * @example
 * ```ts
 * const signature = await account.signTypedData(paymentPermitTypedData(domain, permit));
 * ```
 */
export function paymentPermitTypedData(domain: Permit2Domain, permit: PaymentPermit) {
	const [first, ...more] = permit.permitted;
	if (first === undefined) throw new FieldFormatError("permitted", "one entry or more", "[]");
	const { challengeHash, externalId } = permit.witness;
	const message = { ...walletPermit(permit), witness: { challengeHash, externalId } };
	if (more.length === 0) {
		return {
			domain: walletDomain(domain),
			types: PAYMENT_TYPES,
			primaryType: "PermitWitnessTransferFrom",
			message: { ...message, permitted: walletPermissions(first) },
		} as const;
	}
	return {
		domain: walletDomain(domain),
		types: BATCH_PAYMENT_TYPES,
		primaryType: "PermitBatchWitnessTransferFrom",
		message: { ...message, permitted: permit.permitted.map(walletPermissions) },
	} as const;
}

/** What a wallet is asked to sign for a charge through Permit2. */
export type PaymentPermitTypedData = ReturnType<typeof paymentPermitTypedData>;

/**
 * Signs a charge: in the `draft` form where the account can sign a digest, and else, as a wallet must, in the `eip712` form.
 *
 * Source: draft-evm-charge-00, "Witness Data (Challenge Binding)".
 *
 * @returns 65 bytes `r || s || v`, lowercase, low-s, `v` 27 or 28.
 * @throws {FieldFormatError} for a malformed address or `challengeHash`, or when nothing is permitted; nothing is signed.
 * @throws {AmountOutOfRangeError} for a number outside `uint256`; nothing is signed.
 * @throws {SignatureFormatError} when the account returns something other than a 65-byte ECDSA signature.
 * @example
 * ```ts
 * const signature = await signPaymentPermit(account, domain, {
 * 	permitted: [{ token, amount: 100n }],
 * 	spender: recipient,
 * 	nonce,
 * 	deadline,
 * 	witness: { challengeHash: chargeNonce(challenge.id, challenge.realm), externalId: "" },
 * });
 * ```
 */
export async function signPaymentPermit(
	signer: PaymentSigner,
	domain: Permit2Domain,
	permit: PaymentPermit,
): Promise<Hex> {
	const digest = paymentPermitDigest(domain, permit, "draft");
	if (signer.sign !== undefined) return normalizeSignature(await signer.sign({ hash: bytesToHex(digest) }));
	const typedData = paymentPermitTypedData(domain, permit);
	const signature =
		typedData.primaryType === "PermitWitnessTransferFrom"
			? await signer.signTypedData(typedData)
			: await signer.signTypedData(typedData);
	return normalizeSignature(signature);
}

/** EIP-712 of an array: the hash of its members' hashes, one after the other, without a length. */
function hashArray(permitted: readonly TokenPermissions[]): Uint8Array {
	const hashes = new Uint8Array(permitted.length * WORD);
	for (const [index, each] of permitted.entries()) hashes.set(tokenPermissionsHash(each), index * WORD);
	return keccak256(hashes);
}

function witnessHash({ challengeHash, externalId }: PaymentWitness, form: PaymentWitnessForm): Uint8Array {
	return hashStruct(PAYMENT_WITNESS_TYPEHASHES[form], [
		{ type: "bytes32", field: "challengeHash", value: challengeHash },
		{ type: "hash", value: keccak256(utf8(externalId)) },
	]);
}
