/**
 * How a proof is written down and read back: its values without their names, and without its key, which is where it lies. Each
 * payment writes one.
 *
 *     ["used","0190…owner","0x…channel",1795729826628]
 */
import { z } from "zod";
import { checkPlace, open, seal, unseal } from "./frame.ts";
import * as keys from "./keys.ts";
import { checkWhole, oneOf, ShapeError, shaped, text, whole } from "./shape.ts";
import type { ProofRecord } from "./store.ts";

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
	return () => seal(key, [state, owner, usedBy, expiresAt, ...(reference === undefined ? [] : [reference])]);
}

/** @throws CorruptRecordError when it is damaged, of another kind, or of a release that is not known here */
export function decodeProof(key: string, framed: string): ProofRecord {
	const value = open(key, framed);
	if (!Array.isArray(value)) return decodeNamed(key, framed);
	return shaped(key, () => proofOf(keys.proofOf(key), value));
}

function proofOf(key: string, row: readonly unknown[]): ProofRecord {
	if (row.length < 4 || row.length > 5) throw new ShapeError(`${row.length} values`);
	return {
		key,
		state: oneOf(STATES, row[0]),
		owner: text(row[1]),
		usedBy: text(row[2]),
		expiresAt: row[3] === null ? null : whole(row[3]),
		...(row.length === 5 && { reference: text(row[4]) }),
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
