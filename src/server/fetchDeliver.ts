import type { Admitted, Refused } from "./admission.ts";
import { releaseQuietly, storedResponse } from "./answer.ts";
import type { PaymentEngine } from "./engine.ts";
import { deliverMetered } from "./fetchMetered.ts";
import { assertSendable, paidResponse, withdrawn, withEvent, withLastEvent } from "./fetchResponse.ts";
import type { AnyReceipt } from "./receipts.ts";
import { openBody, remember } from "./responseBody.ts";
import { isMetered } from "./stream/body.ts";
import type { Piece } from "./stream/events.ts";

/** What a handler answers with. */
export type Served = Response | AsyncIterable<Piece>;

/** Runs the handler, and takes the payment before anything of its answer leaves, or gives it back. */
export async function deliver(
	engine: PaymentEngine,
	admitted: Admitted,
	signal: AbortSignal,
	serve: () => Served | Promise<Served>,
): Promise<Response | Refused> {
	if (isMetered(admitted)) return deliverMetered(engine, admitted, signal, serve);
	const release = () => releaseQuietly(engine, admitted);
	const { maxReplayBytes } = engine.limits;
	// The client may leave before there is an answer.
	const leave = () => void release();
	signal.addEventListener("abort", leave);
	try {
		if (signal.aborted) {
			await release();
			return withdrawn();
		}
		const response = await serve();
		assertSendable(response);
		if (response.status >= 400) {
			await release();
			return response;
		}
		// What an answer fails with before it begins, it fails with before it is paid.
		const opened = await openBody(response, signal, maxReplayBytes);
		if (opened.kind === "withdrawn" || signal.aborted) {
			await release();
			return withdrawn();
		}
		signal.removeEventListener("abort", leave);
		const { status } = response;
		const stored = (receipt: AnyReceipt) => {
			const bytes = opened.kind === "whole" ? withEvent(response, opened.bytes, receipt) : null;
			return storedResponse(status, remember(response.headers), bytes, receipt, maxReplayBytes);
		};
		const captured = await admitted.capture(stored).catch((error: unknown) => engine.refusalFor(error));
		if (captured.kind === "captured") {
			const { receipt } = captured;
			if (opened.kind === "whole") return paidResponse(response, withEvent(response, opened.bytes, receipt), receipt);
			return paidResponse(response, withLastEvent(response, opened.stream, receipt), receipt);
		}
		// Nothing may be delivered: the answer becomes the refusal.
		if (opened.kind === "stream") await opened.stream.cancel().catch(() => undefined);
		return captured;
	} catch (error) {
		await release();
		throw error;
	} finally {
		signal.removeEventListener("abort", leave);
	}
}
