/** Where a title of a table of tests has another text for each row: `%s`, `%j`, `$name`, `${…}`. */
const PLACEHOLDER = /%[sdifjoO]|\$\{[^}]*\}|\$\w+(?:\.\w+)*/g;

/**
 * Whether a test that ran bears a title as it stands in the source. Placeholders stand for any text that is not empty,
 * everything else for itself.
 *
 * @example matchesTitle("a signature > of %s is refused", "a signature > of zeros is refused") // true
 */
export function matchesTitle(title: string, ran: string): boolean {
	const literals = title
		.split(PLACEHOLDER)
		.map((text) => text.replace(/%%/g, "%").replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
	return new RegExp(`^${literals.join(".+")}$`, "s").test(ran);
}

/**
 * What of a title stands for itself, between its placeholders.
 *
 * @example literalsOf("of %s is refused") // ["of ", " is refused"]
 */
export function literalsOf(title: string): string[] {
	return title.split(PLACEHOLDER).filter((text) => text !== "");
}
