/** The request that somebody has typed, in curl's words. */
import { readFile, stat } from "node:fs/promises";
import { UsageError } from "../shared/exit.ts";

export type RequestOptions = Readonly<{
	request?: string;
	header?: readonly string[];
	data?: readonly string[];
	location?: boolean;
	idempotencyKey?: string;
}>;

/** A request that can be sent. */
export type TypedRequest = Readonly<{ url: string; init: RequestInit }>;

/** The most that is sent: the client keeps it until it is answered. */
const MAX_DATA_BYTES = 64 * 1024 * 1024;

const FORM = "application/x-www-form-urlencoded";

/**
 * Reads what was typed. Messages name the option and not its value, which may be a secret.
 *
 * @throws UsageError
 */
export async function typedRequest(url: string, options: RequestOptions, stdin: AsyncIterable<Uint8Array>) {
	const { header = [], data = [], location = false, idempotencyKey } = options;
	const headers = new Headers();
	for (const text of header) addHeader(headers, text);
	if (idempotencyKey !== undefined) addHeader(headers, `Idempotency-Key: ${idempotencyKey}`);
	const body = data.length === 0 ? undefined : await bodyOf(data, stdin);
	const method = (options.request ?? (body === undefined ? "GET" : "POST")).toUpperCase();
	if (!/^[A-Z]{1,32}$/.test(method)) throw new UsageError("--request is a method: GET, POST, PUT");
	if (method === "CONNECT" || method === "TRACE") throw new UsageError(`--request ${method} can't be sent`);
	if (body !== undefined && (method === "GET" || method === "HEAD"))
		throw new UsageError(`--data goes with a method that has a body, and not with ${method}`);
	if (body !== undefined && !headers.has("content-type")) headers.set("content-type", FORM);
	const redirect = location ? "follow" : "manual";
	return { url: checkedUrl(url), init: { method, headers, redirect, ...(body && { body }) } } satisfies TypedRequest;
}

function checkedUrl(text: string): string {
	if (!/^https?:\/\//i.test(text) || !URL.canParse(text))
		throw new UsageError("the URL is one that begins with https:// (http:// on this machine)");
	const { username, password } = new URL(text);
	if (username !== "" || password !== "")
		throw new UsageError("a name or a password does not belong into the URL: give it as a header, --header");
	return text;
}

function addHeader(headers: Headers, text: string): void {
	const at = text.indexOf(":");
	try {
		if (at <= 0) throw new TypeError("no colon");
		headers.append(text.slice(0, at).trim(), text.slice(at + 1).trim());
	} catch {
		throw new UsageError("--header is a name, a colon and a value: 'Accept: text/plain'");
	}
}

/** Several are joined by `&`, as curl does. Bytes are sent as they are: line breaks, too. */
async function bodyOf(data: readonly string[], stdin: AsyncIterable<Uint8Array>): Promise<Uint8Array<ArrayBuffer>> {
	const parts: Uint8Array[] = [];
	for (const text of data) {
		if (parts.length > 0) parts.push(Buffer.from("&"));
		parts.push(await partOf(text, stdin));
	}
	const body = Uint8Array.from(Buffer.concat(parts));
	if (body.byteLength > MAX_DATA_BYTES) throw tooMuch();
	return body;
}

async function partOf(text: string, stdin: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
	if (text === "-" || text === "@-") return allOf(stdin);
	if (!text.startsWith("@")) return Buffer.from(text);
	try {
		const { size } = await stat(text.slice(1));
		if (size > MAX_DATA_BYTES) throw tooMuch();
		return await readFile(text.slice(1));
	} catch (error) {
		if (error instanceof UsageError) throw error;
		const { code } = error as NodeJS.ErrnoException;
		throw new UsageError(`the file of --data can't be read (${code}); fix its path or its permissions`);
	}
}

async function allOf(stdin: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
	const chunks: Uint8Array[] = [];
	let bytes = 0;
	for await (const chunk of stdin) {
		chunks.push(chunk);
		bytes += chunk.byteLength;
		if (bytes > MAX_DATA_BYTES) throw tooMuch();
	}
	return Buffer.concat(chunks);
}

function tooMuch(): UsageError {
	return new UsageError(`--data is more than ${MAX_DATA_BYTES} bytes: nothing was sent`);
}
