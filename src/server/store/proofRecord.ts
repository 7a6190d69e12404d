/**
 * How a proof is written down and read back: its values without their names, and without its key, which is where it lies and
 * says, of a dated one, when it expires. Each payment writes one.
 *
 *     [3,"0190…owner","…channel"]
 */
import { z } from "zod";
import { checkPlace, open, seal, unseal } from "./frame.ts";
import * as keys from "./keys.ts";
import { packHex, unpackText } from "./packedHex.ts";
import { checkWhole, oneOf, ShapeError, shaped, text, whole } from "./shape.ts";
import { dateOf, type ProofRecord } from "./store.ts";

const STATES = ["held", "paid", "serving", "used"] as const satisfies readonly ProofRecord["state"][];

export function encodeProof(key: string, proof: ProofRecord): string {
	return proofWriter(key, proof)();
}

/**
 * Checks the proof now; what comes of it makes its record, when that is about to be written.
 *
 * @throws RangeError for a time that is none
 */
export function proofWriter(key: string, proof: ProofRecord): () => string {
	const { state, owner, usedBy, expiresAt, reference } = proof;
	if (expiresAt !== null) checkWhole(expiresAt);
	return () => {
		const row: unknown[] = [STATES.indexOf(state), owner, packHex(usedBy)];
		if (reference !== undefined) row.push(expiresAt, reference);
		else if (expiresAt !== dateOf(proof.key)) row.push(expiresAt);
		return seal(key, row);
	};
}

/** @throws CorruptRecordError when it is damaged, of another kind, or of a release that is not known here */
export function decodeProof(key: string, framed: string): ProofRecord {
	const value = open(key, framed);
	if (!Array.isArray(value)) return decodeNamed(key, framed);
	return shaped(key, () => proofOf(keys.proofOf(key), value));
}

function proofOf(key: string, row: readonly unknown[]): ProofRecord {
	if (row.length < 3 || row.length > 5) throw new ShapeError(`${row.length} values`);
	const [state, owner, usedBy, expiresAt = dateOf(key), reference] = row;
	const isPacked = typeof state === "number";
	return {
		key,
		state: oneOf(STATES, isPacked ? STATES[state] : state),
		owner: text(owner),
		// Before hex was packed, states were texts.
		usedBy: isPacked ? unpackText(usedBy) : text(usedBy),
		expiresAt: expiresAt === null ? null : whole(expiresAt),
		...(row.length === 5 && { reference: text(reference) }),
	};
}

const namedShape: z.ZodType<ProofRecord> = z.strictObject({
	key: z.string(),
	state: z.enum(STATES),
	owner: z.string(),
	usedBy: z.string(),
	reference: z.string().exactOptional(),
	expiresAt: z.int().nullable(),
});

/** As earlier releases wrote it, with names. */
function decodeNamed(key: string, framed: string): ProofRecord {
	const proof = unseal(key, framed, namedShape);
	checkPlace(key, keys.proofKey(proof.key));
	return proof;
}
