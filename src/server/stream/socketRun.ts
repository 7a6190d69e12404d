import { formatSocketMessage, problem, type SOCKET_CLOSE, type SocketMessage } from "../../protocol/index.ts";
import { type Admitted, refused } from "../admission.ts";
import { needData } from "./events.ts";
import { type MeterStop, MeterStoppedError, type VoucherNeed } from "./meter.ts";
import { paidSoFar } from "./paidSoFar.ts";
import {
	type Begun,
	receiptData,
	refusalData,
	refuseSocket,
	releaseSocket,
	type SocketOrder,
	storedSocket,
} from "./socketAdmission.ts";
import type { SocketLine } from "./socketLine.ts";
import { MAX_UNSENT, type PaidSocket, type SocketHandler, UnawaitedSendError } from "./socketTypes.ts";
import { tariffOf } from "./tariff.ts";

/** Runs a handler on a line that is paid for, to its end. What was delivered is charged then, and all else given back. */
export async function runSocket(
	order: SocketOrder,
	line: SocketLine,
	{ admitted, receipt }: Begun,
	handler: SocketHandler,
	onError: (error: unknown) => void,
): Promise<void> {
	const { engine, request } = order;
	const { metered } = admitted;
	const left = new AbortController();
	line.onLeave(() => (metered === undefined ? left.abort(new MeterStoppedError("left")) : metered.stop("left")));
	const stopNeeds = metered?.onNeed(needSayer(line));
	takeVouchers(order, line).catch((error: unknown) => void engine.refusalFor(error));
	const signal = metered?.meter.signal ?? left.signal;
	const { socket, idle } = paidSocketOf(line, admitted, signal);
	line.takesMessages = true;
	void line.say("payment-receipt", receiptData(receipt), { isAdmitted: true });
	try {
		signal.throwIfAborted();
		// It may go on though nobody pays any more: nobody waits for that.
		await orStopped(
			signal,
			(async () => {
				await handler(socket, request);
				await idle();
			})(),
		);
		if (metered !== undefined) {
			const captured = await admitted
				.capture((receipt) => storedSocket(engine, receipt))
				.catch((error: unknown) => engine.refusalFor(error));
			if (captured.kind === "refused") return await refuseSocket(order, line, captured);
			void line.say("payment-receipt", receiptData(captured.receipt));
		}
		await line.close("done");
	} catch (error) {
		await releaseSocket(engine, admitted);
		if (error instanceof MeterStoppedError && error === signal.reason) {
			const { problem: why } = error;
			if (why !== undefined) void line.say("payment-required", refusalData(order, refused(why)));
			return await line.close(CLOSE_OF[error.why], error.message);
		}
		onError(error);
		await line.close("failed", "the handler failed; what was delivered before is charged");
	} finally {
		stopNeeds?.();
	}
}

const CLOSE_OF: Readonly<Record<MeterStop, keyof typeof SOCKET_CLOSE>> = {
	left: "done",
	stalled: "unpaid",
	replaced: "replaced",
	closed: "unpaid",
	ended: "goingAway",
	failed: "failed",
};

/** @returns the socket, and a wait until all that was given to `send` has left */
function paidSocketOf(line: SocketLine, { payment, metered }: Admitted, signal: AbortSignal) {
	const tariff = metered && tariffOf(metered);
	const isPriced = metered?.settings.per !== undefined;
	let unsent = 0;
	let tail: Promise<unknown> = Promise.resolve();
	let freeSince = performance.now();
	const sendInTurn = async (
		frame: string | Uint8Array,
		bytes: number,
		workedMs: number,
		paid: Promise<bigint> | bigint | undefined,
	) => {
		signal.throwIfAborted();
		const before = await paid;
		await tariff?.(bytes, workedMs);
		signal.throwIfAborted();
		// From here on it may arrive: it is paid whatever comes.
		metered?.delivered(isPriced ? metered.mark() : before);
		await line.send(frame);
	};
	const socket: PaidSocket = {
		payment,
		...(metered !== undefined && { meter: metered.meter }),
		messages: line.messages,
		signal,
		async send(message) {
			const frame = formatSocketMessage(message);
			if (unsent >= MAX_UNSENT) throw new UnawaitedSendError();
			const workedMs = unsent === 0 ? performance.now() - freeSince : 0;
			unsent++;
			const paid = metered && paidSoFar(metered);
			const sent = tail.then(() => sendInTurn(frame, sizeOf(message), workedMs, paid));
			tail = sent.catch(() => undefined);
			try {
				await sent;
			} finally {
				unsent--;
				freeSince = performance.now();
			}
		},
	};
	return { socket, idle: () => tail };
}

/** Says what is needed, one after the other: to a client that does not read, the last of it alone. */
function needSayer(line: SocketLine): (need: VoucherNeed) => void {
	let next: VoucherNeed | undefined;
	let isSaying = false;
	const say = async () => {
		isSaying = true;
		while (next !== undefined) {
			const data = needData(next);
			next = undefined;
			await line.say("payment-need-voucher", data);
		}
		isSaying = false;
	};
	return (need) => {
		next = need;
		if (!isSaying) void say();
	};
}

/** Vouchers, and whatever else is about the channel, that come on the socket itself: as by `HEAD` beside it (D11). */
async function takeVouchers(order: SocketOrder, line: SocketLine): Promise<void> {
	for await (const { credential } of line.credentials) {
		const answer = await takeVoucher(order, credential);
		// One after the other: who sends on and does not read what is answered is not served for ever.
		if (answer.kind === "refused") await line.say("payment-required", refusalData(order, answer));
		else await line.say("payment-receipt", receiptData(answer.receipt));
	}
}

async function takeVoucher({ engine, url, offers }: SocketOrder, credential: string) {
	const method = "HEAD";
	const head = { offers, authorization: [credential], idempotencyKey: undefined };
	const screened = engine.screen(head);
	if (screened.kind === "refused") return screened;
	const isPaymentAlone = engine.isManagement(method, screened);
	const admission = isPaymentAlone ? await engine.admit({ ...head, method, url, bodyDigest: "" }, screened) : undefined;
	if (admission?.kind === "refused" || admission?.kind === "managed") return admission;
	if (admission?.kind === "admitted") await releaseSocket(engine, admission);
	return refused(problem("bad-request", "This socket is paid for; send a voucher of its channel, nothing else."));
}

/** Bytes of the application, without the envelope. */
function sizeOf(message: SocketMessage): number {
	if (message instanceof Uint8Array) return message.byteLength;
	return Buffer.byteLength(typeof message === "string" ? message : JSON.stringify(message.data));
}

/** What `promise` says, or why it was stopped, whichever is first. */
async function orStopped<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
	const { promise: stopped, reject } = Promise.withResolvers<never>();
	const onAbort = () => reject(signal.reason);
	if (signal.aborted) onAbort();
	signal.addEventListener("abort", onAbort);
	try {
		return await Promise.race([promise, stopped]);
	} finally {
		signal.removeEventListener("abort", onAbort);
	}
}
