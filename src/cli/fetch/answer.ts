/** Writes an answer as it comes, or keeps it for one JSON object. */
import { access, constants, type FileHandle, open, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { discard } from "../../client/retry.ts";
import { UsageError } from "../shared/exit.ts";
import type { Output } from "../shared/output.ts";

/** The longest body that one JSON object holds. */
const MAX_JSON_BODY_BYTES = 64 * 1024 * 1024;

/** The body does not fit into one JSON object. */
export class BodyTooLongError extends Error {
	override readonly name = "BodyTooLongError";
	readonly code = "BODY_TOO_LONG";
	constructor() {
		super(`the body is longer than ${MAX_JSON_BODY_BYTES} bytes; take it without --json, into a file (--output)`);
	}
}

/**
 * A file that an answer can be written to. Nothing is changed by asking.
 *
 * @throws UsageError when it can't: nothing was paid yet
 */
export async function assertWritable(path: string): Promise<void> {
	const there = await stat(path).catch(() => undefined);
	if (there?.isDirectory()) throw new UsageError("--output is a folder; name a file in it");
	await access(there === undefined ? dirname(path) : path, constants.W_OK).catch((error: NodeJS.ErrnoException) => {
		throw new UsageError(`the file of --output can't be written (${error.code}); fix its path or its permissions`);
	});
}

/** The status line and the header fields, as HTTP writes them. */
export function headText({ status, statusText, headers }: Response): string {
	const fields = [...headers].map(([name, value]) => `${name}: ${value}\r\n`);
	return `HTTP/1.1 ${status}${statusText === "" ? "" : ` ${statusText}`}\r\n${fields.join("")}\r\n`;
}

/** Hands the body on, piece by piece; ends it, and the paying for it, where nobody reads any more. */
export async function writeAnswer(out: Output, response: Response, head: string, file: string | undefined) {
	if (file !== undefined && file !== "-") return writeFile(file, response, head);
	if (head !== "") await out.write(head);
	if (response.body === null) return;
	for await (const chunk of response.body) {
		await out.write(chunk);
		if (out.gone) break;
	}
}

async function writeFile(path: string, response: Response, head: string): Promise<void> {
	let file: FileHandle;
	try {
		file = await open(path, "w");
	} catch (error) {
		discard(response);
		throw error;
	}
	try {
		if (head !== "") await file.write(head);
		if (response.body !== null) for await (const chunk of response.body) await file.write(chunk);
	} finally {
		await file.close();
	}
}

/** A body as JSON has it: as text where it is text, in base64 where it is not. */
export async function jsonBody(response: Response): Promise<{ body: string; encoding: "text" | "base64" }> {
	const chunks: Uint8Array[] = [];
	let bytes = 0;
	for await (const chunk of response.body ?? []) {
		chunks.push(chunk);
		bytes += chunk.byteLength;
		if (bytes > MAX_JSON_BODY_BYTES) throw new BodyTooLongError();
	}
	const whole = Buffer.concat(chunks);
	try {
		return { body: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(whole), encoding: "text" };
	} catch {
		return { body: whole.toString("base64"), encoding: "base64" };
	}
}

/** Header fields by name; those that come several times as a list. */
export function jsonHeaders({ headers }: Response): Record<string, string | readonly string[]> {
	const cookies = headers.getSetCookie();
	return { ...Object.fromEntries(headers), ...(cookies.length > 0 && { "set-cookie": cookies }) };
}
