/** What goes to a thread that recovers keys, and what comes back: one array for several signatures, which moves and is not copied. */

/** `r || s`, the parity, the digest. */
const QUESTION_BYTES = 64 + 1 + 32;
/** Whether there is a key, and the key: 65 bytes, uncompressed. */
const ANSWER_BYTES = 1 + 65;

/** Goes to a thread as its last message: it ends when it has answered the others. */
export const END = null;

/** One signature whose maker is asked for. */
export type Question = Readonly<{ compact: Uint8Array; recovery: 0 | 1; digest: Uint8Array }>;

export function packQuestions(questions: readonly Question[]): Uint8Array<ArrayBuffer> {
	const packed = new Uint8Array(questions.length * QUESTION_BYTES);
	let at = 0;
	for (const { compact, recovery, digest } of questions) {
		packed.set(compact, at);
		packed[at + 64] = recovery;
		packed.set(digest, at + 65);
		at += QUESTION_BYTES;
	}
	return packed;
}

/** Views of what was packed, in its order. */
export function unpackQuestions(packed: Uint8Array): Question[] {
	return Array.from({ length: packed.length / QUESTION_BYTES }, (_, place) => {
		const at = place * QUESTION_BYTES;
		return {
			compact: packed.subarray(at, at + 64),
			recovery: packed[at + 64] === 1 ? 1 : 0,
			digest: packed.subarray(at + 65, at + QUESTION_BYTES),
		};
	});
}

export function packAnswers(keys: readonly (Uint8Array | undefined)[]): Uint8Array<ArrayBuffer> {
	const packed = new Uint8Array(keys.length * ANSWER_BYTES);
	for (const [place, key] of keys.entries()) {
		if (key === undefined) continue;
		packed[place * ANSWER_BYTES] = 1;
		packed.set(key, place * ANSWER_BYTES + 1);
	}
	return packed;
}

/** Views of what was packed, in its order; `undefined` where no key fits. */
export function unpackAnswers(packed: Uint8Array): (Uint8Array | undefined)[] {
	return Array.from({ length: packed.length / ANSWER_BYTES }, (_, place) => {
		const at = place * ANSWER_BYTES;
		return packed[at] === 1 ? packed.subarray(at + 1, at + ANSWER_BYTES) : undefined;
	});
}
