/** A paid request as a face of the engine takes it, without a socket. */
import type { Offer, PaidRequest, PaymentEngine } from "../../src/server/index.ts";

/** What is asked for, and with what it is paid. */
export function paidRequest(offers: readonly Offer[], url: string, authorization: string): PaidRequest {
	return {
		method: "GET",
		url,
		authorization: [authorization],
		idempotencyKey: undefined,
		bodyDigest: "",
		offers,
	};
}

/**
 * Pays one request: it is screened, verified, accepted, reserved and captured, and its capture is on disk.
 *
 * @throws what it was refused for
 */
export async function pay(engine: PaymentEngine, request: PaidRequest): Promise<void> {
	const screened = engine.screen(request);
	if (screened.kind === "refused") throw new Error(screened.problem.detail);
	const admission = await engine.admit(request, screened);
	if (admission.kind === "refused") throw new Error(admission.problem.detail);
	if (admission.kind !== "admitted") throw new Error(`a request was ${admission.kind}`);
	const captured = await admission.capture(() => ({ status: 200, headers: {}, body: null }));
	if (captured.kind !== "captured") throw new Error(captured.problem.detail);
}

/** Does `work` for each of `items`, so many at a time, and notes how long each took. */
export async function eachAtOnce<T>(
	items: readonly T[],
	atOnce: number,
	work: (item: T) => Promise<void>,
	latenciesMs: number[] = [],
): Promise<void> {
	let next = 0;
	const worker = async () => {
		while (next < items.length) {
			const item = items[next++] as T;
			const startedAt = performance.now();
			await work(item);
			latenciesMs.push(performance.now() - startedAt);
		}
	};
	await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
}
