import { once } from "node:events";
import { Agent, type IncomingMessage, request } from "node:http";
import {
	type Challenge,
	decodeReceipt,
	PAYMENT_RECEIPT,
	type Problem,
	parseChallenges,
	parseProblem,
	type Receipt,
	WWW_AUTHENTICATE,
} from "../../src/protocol/index.ts";

/** A request as it goes on the wire: nothing is normalized, several values of a header are several fields. */
export type Send = Readonly<{
	method?: string;
	/** The `Authorization` header; several values are several fields. */
	authorization?: string | readonly string[];
	/** The `Idempotency-Key` header. */
	key?: string;
	headers?: Readonly<Record<string, string | readonly string[]>>;
	body?: string | Uint8Array;
	/** Leaves, as a client that closes its socket does. The promise then rejects. */
	signal?: AbortSignal;
}>;

/** An answer with everything a test wants to know of it. */
export type Answer = Readonly<{
	status: number;
	/** Lower-case names; several fields are joined as Node does. */
	headers: Readonly<Record<string, string | readonly string[] | undefined>>;
	header(name: string): string | undefined;
	text: string;
	/** The body as JSON, `undefined` where it is none. */
	json: unknown;
	/** The body as a problem, where it is one. */
	problem: Problem | undefined;
	receipt: Receipt | undefined;
	/** The challenges of `WWW-Authenticate`. */
	challenges: readonly Challenge[];
}>;

const agent = new Agent({ keepAlive: true, maxSockets: 64 });

/** Sends one request over a real socket. `path` is used as it is: doubled slashes and escapes stay. */
export async function send(origin: string, path: string, options: Send = {}): Promise<Answer> {
	const { method = "GET", authorization, key, headers = {}, body, signal } = options;
	const { hostname, port } = new URL(origin);
	const sent = request({ agent, hostname, port, path, method, ...(signal && { signal }) });
	if (authorization !== undefined)
		sent.setHeader("Authorization", typeof authorization === "string" ? authorization : [...authorization]);
	if (key !== undefined) sent.setHeader("Idempotency-Key", key);
	for (const [name, value] of Object.entries(headers))
		sent.setHeader(name, typeof value === "string" ? value : [...value]);
	if (body !== undefined && headers["Content-Type"] === undefined) sent.setHeader("Content-Type", "application/json");
	if (body !== undefined && headers["Content-Length"] === undefined)
		sent.setHeader("Content-Length", Buffer.byteLength(body));
	sent.end(body);
	const [response] = (await once(sent, "response")) as [IncomingMessage];
	return read(response);
}

async function read(response: IncomingMessage): Promise<Answer> {
	const chunks: Buffer[] = [];
	for await (const chunk of response) chunks.push(chunk as Buffer);
	const text = Buffer.concat(chunks).toString("utf8");
	const header = (name: string) => {
		const value = response.headers[name.toLowerCase()];
		return Array.isArray(value) ? value.join(", ") : value;
	};
	const receipt = header(PAYMENT_RECEIPT);
	const json = parsed(text);
	const type = header("content-type") ?? "";
	return {
		status: response.statusCode ?? 0,
		headers: response.headers,
		header,
		text,
		json,
		problem: type.startsWith("application/problem+json") ? parseProblem(json) : undefined,
		receipt: receipt === undefined ? undefined : decodeReceipt(receipt),
		challenges: parseChallenges(header(WWW_AUTHENTICATE) ?? "").map(({ challenge }) => challenge),
	};
}

function parsed(text: string): unknown {
	try {
		return JSON.parse(text);
	} catch {
		return undefined;
	}
}
