/**
 * The shared grammar of WWW-Authenticate and Authorization (RFC 9110, section 11): a comma-separated list in which a comma
 * may part two schemes or two parameters of one. Every character is looked at a bounded number of times.
 */

/** One scheme with what follows it, up to the next scheme. */
export type AuthElement = {
	/** Scheme name in lowercase. */
	readonly scheme: string;
	/** Where the element starts in the field value. */
	readonly start: number;
	/** Where it ends: after its token68 or last parameter. */
	end: number;
	/** The single token that follows the scheme, if that is what follows. */
	readonly token68: string | undefined;
	readonly params: AuthParam[];
};

/** One `name=value` of an {@link AuthElement}. */
export type AuthParam = {
	/** Name in lowercase. */
	readonly name: string;
	/** Unescaped value; `undefined` when it is missing or its quotes are never closed. */
	readonly value: string | undefined;
	/** Whether the value is followed by a comma or the end, as it has to be. */
	readonly intact: boolean;
};

const TOKEN = /[!#$%&'*+\-.^_`|~0-9A-Za-z]+/y;
const TOKEN68 = /[A-Za-z0-9\-._~+/]+=*/y;

/**
 * Reads a field value. What does not fit the grammar is skipped up to the next comma that is not inside quotes.
 *
 * @example
 * ```ts
 * scanAuthElements('Basic realm="x", Payment id="a"').map((element) => element.scheme); // ["basic", "payment"]
 * ```
 */
export function scanAuthElements(text: string): AuthElement[] {
	const elements: AuthElement[] = [];
	let current: AuthElement | undefined;
	let at = skipSeparators(text, 0);
	while (at < text.length) {
		const start = at;
		const token = match(TOKEN, text, at);
		const next = skipSpace(text, at + token.length);
		if (token === "") {
			at = skipToComma(text, at);
		} else if (text[next] === "=") {
			const { param, end } = scanParam(text, token.toLowerCase(), skipSpace(text, next + 1));
			if (current !== undefined) {
				current.params.push(param);
				current.end = end;
			}
			at = end;
		} else if (next === text.length || text[next] === "," || next > start + token.length) {
			const token68 = match(TOKEN68, text, next);
			const after = next + token68.length;
			const isToken68 = token68 !== "" && atElementEnd(text, after);
			const end = isToken68 ? after : start + token.length;
			current = { scheme: token.toLowerCase(), start, end, token68: isToken68 ? token68 : undefined, params: [] };
			elements.push(current);
			at = isToken68 ? after : next;
		} else {
			at = skipToComma(text, at);
		}
		at = skipSeparators(text, at);
	}
	return elements;
}

function scanParam(text: string, name: string, at: number): { param: AuthParam; end: number } {
	const quoted = text[at] === '"';
	const end = quoted ? endOfQuotes(text, at) : at + match(TOKEN, text, at).length;
	if (end === undefined) return { param: { name, value: undefined, intact: false }, end: text.length };
	const value = quoted ? withoutEscapes(text.slice(at + 1, end - 1)) : text.slice(at, end);
	if (atElementEnd(text, end)) return { param: { name, value: end === at ? undefined : value, intact: true }, end };
	return { param: { name, value: end === at ? undefined : value, intact: false }, end: skipToComma(text, end) };
}

/** Index after the closing quote of the quoted-string that opens at `at`. */
function endOfQuotes(text: string, at: number): number | undefined {
	for (let i = at + 1; i < text.length; i++) {
		if (text[i] === "\\") i++;
		else if (text[i] === '"') return i + 1;
	}
	return undefined;
}

function withoutEscapes(text: string): string {
	return text.includes("\\") ? text.replace(/\\(.)/gs, "$1") : text;
}

function skipToComma(text: string, at: number): number {
	let i = at;
	while (i < text.length && text[i] !== ",") i = text[i] === '"' ? (endOfQuotes(text, i) ?? text.length) : i + 1;
	return i;
}

function atElementEnd(text: string, at: number): boolean {
	const next = skipSpace(text, at);
	return next === text.length || text[next] === ",";
}

function skipSpace(text: string, at: number): number {
	let i = at;
	while (text[i] === " " || text[i] === "\t") i++;
	return i;
}

function skipSeparators(text: string, at: number): number {
	let i = at;
	while (text[i] === " " || text[i] === "\t" || text[i] === ",") i++;
	return i;
}

function match(pattern: RegExp, text: string, at: number): string {
	pattern.lastIndex = at;
	return pattern.exec(text)?.[0] ?? "";
}
