import { Transform, type TransformCallback } from "node:stream";
import { StringDecoder } from "node:string_decoder";
import { isJsonObject } from "../../protocol/index.ts";

/** The longest line of a pipe that is kept until it ends, in characters; the SDK has its own limit behind it. */
const MAX_LINE_LENGTH = 16_777_216;

/**
 * Moves `_meta` from the root of messages into their `params`, where MCP has it. Clients of plain JSON-RPC put it at the root,
 * servers have to look at both places (draft-payment-transport-mcp-00, Metadata Placement), and the official SDK refuses a
 * message with a member that it does not know. Give it the parsed body of an HTTP request, before the SDK's transport.
 *
 * @example
 * await transport.handleRequest(request, response, nestMeta(request.body));
 */
export function nestMeta<Message>(message: Message): Message {
	if (Array.isArray(message)) return message.map((one) => nestMeta(one)) as Message;
	if (!isJsonObject(message) || !isJsonObject(message._meta)) return message;
	const { _meta: root, params, ...rest } = message;
	if (typeof rest.method !== "string" || (params !== undefined && !isJsonObject(params))) return message;
	const nested = isJsonObject(params?._meta) ? params._meta : {};
	// Where both say something the one in its place counts, unless they differ: then both are there no more to be compared.
	for (const [name, value] of Object.entries(nested)) {
		if (name in root && JSON.stringify(root[name]) !== JSON.stringify(value)) return message;
	}
	return { ...rest, params: { ...params, _meta: { ...root, ...nested } } } as Message;
}

/**
 * The same for a pipe, whose lines are messages.
 *
 * @example
 * new StdioServerTransport(process.stdin.pipe(nestMetaLines()));
 */
export function nestMetaLines(): Transform {
	const decoder = new StringDecoder("utf8");
	let rest = "";
	return new Transform({
		transform(chunk: Buffer, _encoding, done: TransformCallback) {
			const lines = (rest + decoder.write(chunk)).split("\n");
			rest = lines.pop() ?? "";
			if (rest.length > MAX_LINE_LENGTH) return done(new RangeError("a line of the pipe is too long"));
			done(null, lines.map((line) => `${nestedLine(line)}\n`).join(""));
		},
		flush(done: TransformCallback) {
			done(null, rest);
		},
	});
}

function nestedLine(line: string): string {
	if (!line.includes('"_meta"')) return line;
	try {
		return JSON.stringify(nestMeta(JSON.parse(line)));
	} catch {
		// The SDK says what is wrong with it.
		return line;
	}
}
