import { WebSocketRequestError } from "viem";

/** How deep causes are followed. */
const MOST_CAUSES = 12;

/**
 * Strikes an endpoint's URL and the transaction that was sent out of an error and its causes: viem repeats both in its
 * messages. The error stays the same object, so that its class and code still tell what it is. Internal.
 */
export function hideSecrets(
	error: unknown,
	{ url, place, call }: Readonly<{ url: string; place: number; call: Readonly<{ method: string; params?: unknown }> }>,
): unknown {
	const hidden: [string, string][] = formsOf(url).map((form) => [form, `endpoint ${place}`]);
	if (call.method === "eth_sendRawTransaction" && Array.isArray(call.params)) {
		for (const raw of call.params) if (typeof raw === "string") hidden.push([raw, "[transaction]"]);
	}
	const hide = (text: string) => hidden.reduce((shown, [secret, name]) => shown.replaceAll(secret, name), text);
	if (isEvent(error)) return new WebSocketRequestError({ url: `endpoint ${place}`, details: "the connection failed" });
	let one = error;
	for (let depth = 0; one instanceof Error && depth < MOST_CAUSES; depth++) {
		const fields = one as Error & Record<string, unknown>;
		for (const key of ["message", "stack", "details", "shortMessage", "url"]) {
			const text = fields[key];
			if (typeof text === "string") fields[key] = hide(text);
		}
		if (Array.isArray(fields.metaMessages)) fields.metaMessages = fields.metaMessages.map((line) => hide(String(line)));
		// What was asked for, as it was sent; and a browser's event, which holds the socket and so its URL.
		if (fields.body !== undefined) fields.body = undefined;
		if (isEvent(fields.cause)) fields.cause = new Error("the connection failed");
		one = fields.cause;
	}
	return error;
}

function isEvent(cause: unknown): boolean {
	return typeof Event !== "undefined" && cause instanceof Event;
}

/** A URL as it was given, as it is normalized, and as viem shows it: without credentials. Longest first. */
function formsOf(url: string): readonly string[] {
	if (!URL.canParse(url)) return [url];
	const bare = new URL(url);
	bare.username = "";
	bare.password = "";
	const forms = new Set([url, new URL(url).href, bare.href]);
	return [...forms].sort((a, b) => b.length - a.length);
}
