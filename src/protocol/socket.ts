/**
 * What travels on a paid WebSocket. The drafts know Server-Sent Events only; these are the same messages, each a text frame:
 * `{"event":"payment-need-voucher","data":{…}}`.
 *
 * Every text frame is such an envelope, the application's as well (`{"event":"message","data":"Hello"}`), and names that begin
 * with `payment-` are not the application's to use. A binary frame is the application's, as it is. So neither can be taken
 * for the other.
 */
import { isJsonObject } from "./json.ts";
import { type Problem, parseProblem } from "./problem.ts";

/** A message of the application with a name of its own. */
export type SocketEvent = Readonly<{ event: string; data: unknown }>;

/** A message of the application: a text, bytes, or an event with data that JSON can carry. */
export type SocketMessage = string | Uint8Array | SocketEvent;

/** What is said of the payment: the server says all but `payment-authorization`, which a client answers with. */
export type SocketControl = "payment-required" | "payment-authorization" | "payment-need-voucher" | "payment-receipt";

/** A 402, or another refusal, as a message. */
export type SocketRefusal = Readonly<{
	/** What a 402 has as its `WWW-Authenticate` values; none where another payment does not help. */
	challenges: readonly string[];
	problem: Problem;
	retryAfterSeconds?: number;
}>;

/** What stands beside the data of a message about the payment. */
export type SocketBeside = Readonly<{
	/** Of a receipt: it is that of the payment that opens the socket for messages of the application. */
	isAdmitted?: boolean;
	/** Of a credential that opens the socket: what the `Idempotency-Key` header says where there can be one. */
	idempotencyKey?: string;
}>;

/** A frame, read. */
export type SocketFrame =
	| Readonly<{ kind: "message"; message: SocketMessage }>
	| Readonly<{ kind: "control"; event: SocketControl; data: unknown } & SocketBeside>;

/** Why a paid socket was closed. */
export const SOCKET_CLOSE = {
	/** The handler has ended well. */
	done: 1000,
	/** The server stops. */
	goingAway: 1001,
	/** A frame that is none of ours, or more frames than are taken. */
	policy: 1008,
	/** A frame that is longer than is taken. */
	tooBig: 1009,
	/** The handler has failed; what was delivered before is charged. */
	failed: 1011,
	/** Not paid, or not paid for in time: what was paid for was delivered. */
	unpaid: 4402,
	/** A newer stream on the same channel has taken its place. */
	replaced: 4409,
} as const;

const RESERVED = "payment-";
const CONTROLS: readonly string[] = [
	"payment-required",
	"payment-authorization",
	"payment-need-voucher",
	"payment-receipt",
] satisfies readonly SocketControl[];

/** The longest name of an event. */
const MAX_EVENT_LENGTH = 128;

/** A message that can't be sent: a reserved name, or data that JSON can't carry. */
export class SocketMessageError extends TypeError {
	override readonly name = "SocketMessageError";
	readonly code = "SOCKET_MESSAGE";
}

/**
 * A message of the application as its frame: bytes as a binary one, all else as a text.
 *
 * @throws SocketMessageError
 * @example
 * formatSocketMessage("Hello"); // {"event":"message","data":"Hello"}
 */
export function formatSocketMessage(message: SocketMessage): string | Uint8Array {
	if (message instanceof Uint8Array) return message;
	const { event, data } = typeof message === "string" ? { event: "message", data: message } : message;
	if (typeof event !== "string" || event.startsWith(RESERVED) || event.length > MAX_EVENT_LENGTH)
		throw new SocketMessageError(
			`an event needs a name of at most ${MAX_EVENT_LENGTH} characters that does not begin with "${RESERVED}"`,
		);
	const text = JSON.stringify(data);
	if (text === undefined) throw new SocketMessageError("an event's data must be what JSON can carry");
	return `{"event":${JSON.stringify(event)},"data":${text}}`;
}

/** What is said of the payment as its frame. */
export function formatSocketControl(
	event: SocketControl,
	data: unknown,
	{ isAdmitted = false, idempotencyKey }: SocketBeside = {},
): string {
	return JSON.stringify({ event, data, ...(isAdmitted && { admitted: true }), idempotencyKey });
}

/** Reads a frame: a text, or the bytes of a binary one. `undefined` where it is none of ours. */
export function parseSocketFrame(frame: string | Uint8Array): SocketFrame | undefined {
	if (typeof frame !== "string") return { kind: "message", message: frame };
	let json: unknown;
	try {
		json = JSON.parse(frame);
	} catch {
		return undefined;
	}
	if (!isJsonObject(json)) return undefined;
	const { event, data, admitted, idempotencyKey } = json;
	if (typeof event !== "string" || event.length > MAX_EVENT_LENGTH || data === undefined) return undefined;
	if (isControl(event)) {
		const key = typeof idempotencyKey === "string" ? { idempotencyKey } : {};
		return { kind: "control", event, data, isAdmitted: admitted === true, ...key };
	}
	if (event.startsWith(RESERVED)) return undefined;
	return { kind: "message", message: event === "message" && typeof data === "string" ? data : { event, data } };
}

/** Reads the data of a `payment-required`; `undefined` where it can't be read. */
export function parseSocketRefusal(data: unknown): SocketRefusal | undefined {
	if (!isJsonObject(data)) return undefined;
	const { challenges, problem, retryAfterSeconds } = data;
	const parsed = parseProblem(problem);
	if (parsed === undefined || !Array.isArray(challenges)) return undefined;
	return {
		challenges: challenges.filter((value): value is string => typeof value === "string"),
		problem: parsed,
		...(typeof retryAfterSeconds === "number" && { retryAfterSeconds }),
	};
}

function isControl(event: string): event is SocketControl {
	return CONTROLS.includes(event);
}
