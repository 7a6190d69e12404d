import type { VoucherNeed } from "./meter.ts";

/**
 * One Server-Sent Event. `data` that is no text is written as JSON.
 *
 * @example
 * const event: ServerSentEvent = { id: "7", event: "token", data: { text: "Hello" } };
 */
export type ServerSentEvent = Readonly<{ data: unknown; event?: string; id?: string; retry?: number }>;

/** What a metered handler may yield: bytes or text as they are, or an event. */
export type Piece = string | Uint8Array | ServerSentEvent;

/** A metered handler yielded something that is no piece. */
export class UnsendablePieceError extends TypeError {
	override readonly name = "UnsendablePieceError";
	readonly code = "UNSENDABLE_PIECE";
	constructor(piece: unknown) {
		super(
			`a metered handler yielded ${Object.prototype.toString.call(piece)}; yield a string, a Uint8Array, or an event with data`,
		);
	}
}

/**
 * A piece as it leaves: whole events as text, all else as bytes.
 *
 * @throws UnsendablePieceError
 */
export function pieceContent(piece: unknown): Readonly<{ event: string } | { bytes: Uint8Array }> {
	if (typeof piece === "string") return { bytes: Buffer.from(piece) };
	if (piece instanceof Uint8Array) return { bytes: piece };
	if (typeof piece === "object" && piece !== null && "data" in piece) {
		return { event: eventText(piece as ServerSentEvent) };
	}
	throw new UnsendablePieceError(piece);
}

/**
 * The same as bytes.
 *
 * @throws UnsendablePieceError
 */
export function pieceBytes(piece: unknown): Uint8Array {
	const content = pieceContent(piece);
	return "bytes" in content ? content.bytes : Buffer.from(content.event);
}

/** An event as text: each line of its data in a field of its own. */
export function eventText({ data, event, id, retry }: ServerSentEvent): string {
	const text = typeof data === "string" ? data : (JSON.stringify(data) ?? "");
	const lines = LINE_BREAK.test(text) ? text.split(/\r\n|[\r\n]/).join("\ndata: ") : text;
	let fields = `data: ${lines}\n\n`;
	if (retry !== undefined) fields = `retry: ${retry}\n${fields}`;
	if (id !== undefined) fields = `id: ${oneLine(id)}\n${fields}`;
	if (event !== undefined) fields = `event: ${oneLine(event)}\n${fields}`;
	return fields;
}

const LINE_BREAK = /[\r\n]/;

/** The event that asks for a voucher (draft-evm-session-00, Insufficient Balance During Streaming). */
export function needEvent(need: VoucherNeed): Uint8Array {
	return Buffer.from(eventText({ event: "payment-need-voucher", data: needData(need) }));
}

/** A need in wire form: of an event, or of a message on a socket. */
export function needData({ channelId, requiredCumulative, acceptedCumulative, deposit }: VoucherNeed) {
	return {
		channelId,
		requiredCumulative: String(requiredCumulative),
		acceptedCumulative: String(acceptedCumulative),
		deposit: String(deposit),
	};
}

/** A line break in it would begin another field. */
function oneLine(text: string): string {
	return text.replace(/[\r\n\0]/g, " ");
}
