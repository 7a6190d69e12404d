import { IDEMPOTENCY_KEY } from "../protocol/index.ts";
import { discard } from "./retry.ts";

/** The longest timer that there is, in ms. */
const MAX_TIMER_MS = 2_147_483_647;

/**
 * The answer to a request did not begin in time. What was signed for it stays in the channel's books; with the same
 * `Idempotency-Key` it can be asked for again, at no second price.
 */
export class DeadlineError extends Error {
	override readonly name = "DeadlineError";
	readonly code = "DEADLINE";
	readonly deadlineMs: number;
	readonly idempotencyKey: string;
	constructor(deadlineMs: number, idempotencyKey: string) {
		super(
			`no answer within ${deadlineMs} ms, retries and payment included; ask again with the same Idempotency-Key, or raise retry.deadlineMs`,
		);
		this.deadlineMs = deadlineMs;
		this.idempotencyKey = idempotencyKey;
	}
}

/**
 * Sends one logical request, all its tries and payments included, and gives up when its answer has not begun in time. An
 * answer that has begun may take as long as it takes.
 *
 * @throws DeadlineError
 */
export async function withinDeadline(
	request: Request,
	deadlineMs: number | undefined,
	send: (request: Request) => Promise<Response>,
): Promise<Response> {
	if (deadlineMs === undefined) return send(request);
	const key = request.headers.get(IDEMPOTENCY_KEY) ?? crypto.randomUUID();
	const late = new AbortController();
	const bounded = new Request(request, { signal: AbortSignal.any([request.signal, late.signal]) });
	bounded.headers.set(IDEMPOTENCY_KEY, key);
	const timer = setTimeout(() => late.abort(new DeadlineError(deadlineMs, key)), Math.min(deadlineMs, MAX_TIMER_MS));
	try {
		const answer = send(bounded);
		// What is asked of a node heeds no signal: nobody waits for that, and an answer that comes of it is let go.
		return await orLate(answer, late.signal);
	} finally {
		clearTimeout(timer);
	}
}

function orLate(answer: Promise<Response>, late: AbortSignal): Promise<Response> {
	return new Promise((resolve, reject) => {
		late.addEventListener("abort", () => {
			reject(late.reason);
			answer.then(discard, () => undefined);
		});
		answer.then(resolve, reject);
	});
}
