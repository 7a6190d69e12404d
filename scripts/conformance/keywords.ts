const KEYWORD = /(\bNOT )?\b(MUST NOT|MUST|SHALL NOT|SHALL|SHOULD NOT|SHOULD|REQUIRED|REQUIRES|REQUIRE)\b/g;

/**
 * The words of BCP 14 in a sentence that ask for something, in order: MUST, MUST NOT, SHALL, SHALL NOT, SHOULD, SHOULD NOT
 * and REQUIRED, as which "REQUIRES" and "REQUIRE" count too. "NOT REQUIRED" asks for nothing.
 *
 * @example keywordsOf("A client MUST sign and SHOULD NOT wait.") // ["MUST", "SHOULD NOT"]
 */
export function keywordsOf(sentence: string): string[] {
	return [...sentence.matchAll(KEYWORD)]
		.filter(([, not]) => not === undefined)
		.map(([, , word = ""]) => (word.startsWith("REQUIRE") ? "REQUIRED" : word));
}
