/** Lines of JSON over a local socket: each a message, none longer than the receiver takes. */
import type { Socket } from "node:net";

/** The longest line that is taken, in bytes. A channel's record or a receipt is some thousand. */
export const MAX_LINE_BYTES = 1_048_576;

const NEWLINE = 0x0a;

export type LineHandlers = Readonly<{
	/** A message. What throws ends the connection. */
	message: (message: unknown) => void;
	/** The connection is gone: closed, broken, or ended here because of what came. Called once. */
	gone: () => void;
}>;

/** Hears messages. A line that is too long, or is no JSON, ends the connection and nothing else. */
export function hear(socket: Socket, { message, gone }: LineHandlers): void {
	let parts: Buffer[] = [];
	let bytes = 0;
	const take = (part: Buffer) => {
		bytes += part.length;
		if (bytes > MAX_LINE_BYTES) throw new Error("a line is too long");
		parts.push(part);
	};
	socket.on("data", (chunk: Buffer) => {
		let from = 0;
		try {
			for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, from)) {
				take(chunk.subarray(from, end));
				from = end + 1;
				const line = Buffer.concat(parts).toString("utf8");
				parts = [];
				bytes = 0;
				if (socket.destroyed) return;
				message(JSON.parse(line));
			}
			take(chunk.subarray(from));
		} catch {
			// The error may show parts of the line, which may be secret.
			socket.destroy();
		}
	});
	socket.on("error", () => undefined);
	socket.once("end", () => socket.destroy());
	socket.once("close", gone);
}

/** A message as a line; `undefined` when it is longer than the other side takes. */
export function lineOf(message: unknown): string | undefined {
	const line = JSON.stringify(message);
	return Buffer.byteLength(line) > MAX_LINE_BYTES ? undefined : `${line}\n`;
}
