/** What may be shown of an RPC's URL: the rest can hold an API key. */
export function originOf(rpcUrl: string): string {
	if (!URL.canParse(rpcUrl)) return "[redacted]";
	return new URL(rpcUrl).origin;
}

/** Parts of a URL that are shorter are words, such as `v2`; no key is. */
const SHORTEST_KEY = 8;

/**
 * Makes a function that strikes secrets out of a text, whoever put them there: a library's message, a node's answer.
 *
 * @param rpcUrls their credentials, paths and queries are secrets
 * @param keys private keys, with or without their 0x
 */
export function redactor(rpcUrls: readonly string[], keys: readonly string[] = []): (text: string) => string {
	const secrets = [...keys.map((key) => key.replace(/^0x/i, "")), ...rpcUrls.flatMap(secretsOf)];
	return (text) => {
		let shown = text;
		for (const secret of secrets) {
			if (secret !== "") shown = shown.replace(new RegExp(escaped(secret), "gi"), "[redacted]");
		}
		return shown;
	};
}

/**
 * Strikes out what looks like a key or could hold one, from what somebody typed: for messages about wrong usage, which
 * repeat what was typed. Addresses stay.
 */
export function hideTyped(text: string): string {
	return text.replace(/(0x)?[0-9a-f]{44,}/gi, "[redacted]").replace(/\b[a-z]+:\/\/[^\s'"]+/gi, "[redacted]");
}

/** Whether a text is a private key, or part of one: for where people put one by mistake. */
export function looksLikeKey(text: string): boolean {
	return /^(0x)?[0-9a-f]{44,}$/i.test(text.trim());
}

function secretsOf(rpcUrl: string): readonly string[] {
	if (!URL.canParse(rpcUrl)) return [rpcUrl];
	const { href, username, password, pathname, search, searchParams } = new URL(rpcUrl);
	const parts = [...pathname.split("/"), ...searchParams.values(), username, password];
	const whole = pathname.length > 1 || search !== "" || username !== "" ? [rpcUrl, href] : [];
	const long = parts.filter((part) => part.length >= SHORTEST_KEY);
	return [...whole, ...long, ...long.flatMap(decoded)].sort((a, b) => b.length - a.length);
}

/** A part as it is meant; nothing where a `%` in it stands for itself. */
function decoded(part: string): readonly string[] {
	try {
		return [decodeURIComponent(part)];
	} catch {
		return [];
	}
}

function escaped(text: string): string {
	return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
