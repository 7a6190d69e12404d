/** Requests as undici's dispatchers know them, in terms of the platform's. */
import { stringify } from "node:querystring";
import { Readable } from "node:stream";
import type { Dispatcher } from "undici";

/** Header fields as they were given: in their order, spelling and number. */
export type HeaderPairs = readonly (readonly [name: string, value: string | readonly string[]])[];

/** A request whose body was read: it can be sent as often as it takes. */
export type KnownRequest = Readonly<{
	options: Dispatcher.DispatchOptions;
	url: URL;
	headers: HeaderPairs;
	body: Uint8Array<ArrayBuffer> | undefined;
}>;

/** The request does not say where it goes to, so nobody knows whom it would pay. */
export class UnknownOriginError extends Error {
	override readonly name = "UnknownOriginError";
	readonly code = "UNKNOWN_ORIGIN";
	constructor() {
		super("the request names no origin; say which its dispatcher has: paymentInterceptor(payer, { origin })");
	}
}

/**
 * Reads a request, its body as well: what is paid for is sent again.
 *
 * @param origin - where it goes to unless it says so itself
 * @throws UnknownOriginError, and what the body's own stream throws
 */
export async function knownRequest(
	options: Dispatcher.DispatchOptions,
	origin: string | URL | undefined,
	signal: AbortSignal,
): Promise<KnownRequest> {
	const url = urlOf(options, origin);
	const headers = headerPairs(options.headers);
	const { bytes, type } = await bytesOf(options.body, signal);
	const hasType = headers.some(([name]) => name.toLowerCase() === "content-type");
	const withType = type === undefined || hasType ? headers : [...headers, ["content-type", type] as const];
	return { options, url, headers: withType, body: bytes };
}

/** @throws UnknownOriginError */
export function urlOf({ origin, path, query }: Dispatcher.DispatchOptions, known: string | URL | undefined): URL {
	const whole = query === undefined || query === null ? path : `${path}?${stringify(query)}`;
	const base = origin ?? known;
	if (URL.canParse(whole)) return new URL(whole);
	if (base === undefined) throw new UnknownOriginError();
	// Not as a relative reference: a path that begins with two slashes would name another host.
	return new URL(`${new URL(base).origin}${whole}`);
}

/** Header fields in any of the forms that undici takes. */
export function headerPairs(headers: Dispatcher.DispatchOptions["headers"]): HeaderPairs {
	if (headers === null || headers === undefined) return [];
	const pairs: (readonly [string, unknown])[] = [];
	if (Array.isArray(headers) && !Array.isArray(headers[0])) {
		for (let i = 0; i + 1 < headers.length; i += 2) pairs.push([String(headers[i]), headers[i + 1]]);
	} else if (Symbol.iterator in headers) {
		for (const [name, value] of headers as Iterable<[string, unknown]>) pairs.push([name, value]);
	} else pairs.push(...Object.entries(headers));
	return pairs.flatMap(([name, value]) => {
		if (value === undefined) return [];
		return [[name, Array.isArray(value) ? value.map(textOf) : textOf(value)] as const];
	});
}

function textOf(value: unknown): string {
	return value === null ? "" : String(value);
}

/**
 * The fields to send: as they were given, but for those that the payer has changed, added or left out.
 *
 * @param before - what the payer was given
 * @param after - what it sends
 */
export function changedHeaders(given: HeaderPairs, before: Headers, after: Headers): HeaderPairs {
	const isSame = (name: string) => after.get(name) === before.get(name);
	const kept = given.filter(([name]) => isSame(name));
	const keptNames = new Set(kept.map(([name]) => name.toLowerCase()));
	return [...kept, ...[...after].filter(([name]) => !keptNames.has(name))];
}

type Bytes = Readonly<{ bytes?: Uint8Array<ArrayBuffer>; type?: string | undefined }>;

async function bytesOf(body: Dispatcher.DispatchOptions["body"] | unknown, signal: AbortSignal): Promise<Bytes> {
	if (body === null || body === undefined) return {};
	if (typeof body === "string") return { bytes: new TextEncoder().encode(body) };
	if (body instanceof ArrayBuffer) return { bytes: new Uint8Array(body) };
	if (ArrayBuffer.isView(body)) {
		return { bytes: Uint8Array.from(new Uint8Array(body.buffer, body.byteOffset, body.byteLength)) };
	}
	if (isForm(body)) {
		const form = new FormData();
		for (const [name, value] of body) form.append(name, value as string);
		return typed(new Response(form));
	}
	if (body instanceof Blob) return typed(new Response(body));
	const stream = body instanceof Readable ? body : Readable.from(body as Iterable<unknown>);
	const stop = () => void stream.destroy(signal.reason);
	signal.addEventListener("abort", stop);
	try {
		const chunks: Uint8Array[] = [];
		for await (const chunk of stream) chunks.push(typeof chunk === "string" ? Buffer.from(chunk) : chunk);
		signal.throwIfAborted();
		return { bytes: Uint8Array.from(Buffer.concat(chunks)) };
	} finally {
		signal.removeEventListener("abort", stop);
	}
}

async function typed(response: Response): Promise<Bytes> {
	const type = response.headers.get("content-type") ?? undefined;
	return { bytes: new Uint8Array(await response.arrayBuffer()), type };
}

/** The platform's `FormData`, or undici's own. */
function isForm(body: object): body is FormData {
	return (body as { [Symbol.toStringTag]?: unknown })[Symbol.toStringTag] === "FormData" && Symbol.iterator in body;
}
