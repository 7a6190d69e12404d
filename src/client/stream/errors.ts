import type { Hex } from "viem";

/** The field of a policy that says what a whole answer may cost. Without `maxStream` it may cost as much as any request. */
export type StreamBound = "limits.request" | "maxStream" | "maxPrice";

/** An answer that is paid while it is read would cost more than the policy allows: nothing more was signed for it. */
export class StreamLimitError extends Error {
	override readonly name = "StreamLimitError";
	readonly code = "STREAM_LIMIT";
	readonly channelId: Hex;
	/** What the answer may cost, in base units. */
	readonly max: bigint;
	/** Which field of the policy says so. */
	readonly bound: StreamBound;
	/** @param maxText - the same with its unit, for people */
	constructor(channelId: Hex, max: bigint, maxText: string, bound: StreamBound) {
		const what =
			bound === "maxPrice" ? "set the policy's maxStream, without which it is maxPrice" : `raise the policy's ${bound}`;
		super(`channel ${channelId}: a stream may cost ${maxText}, and the server asks for more; ${what}`);
		this.channelId = channelId;
		this.max = max;
		this.bound = bound;
	}
}

/** The server did not take a voucher that it needs to go on with a stream. */
export class StreamVoucherRefusedError extends Error {
	override readonly name = "StreamVoucherRefusedError";
	readonly code = "STREAM_VOUCHER_REFUSED";
	readonly channelId: Hex;
	/** What the server answered; `undefined` where it took vouchers, and asked for the same ones again and again. */
	readonly status: number | undefined;
	constructor(channelId: Hex, status?: number) {
		super(
			status === undefined
				? `channel ${channelId}: the server asks again and again for a voucher that it was given`
				: `channel ${channelId}: the server answered ${status} to a voucher by HEAD, without a receipt; a server takes vouchers there, beside whatever method the stream has`,
		);
		this.channelId = channelId;
		this.status = status;
	}
}

/** The payer has closed the channel that paid for a stream, or has given it to a newer one. */
export class StreamStoppedError extends Error {
	override readonly name = "StreamStoppedError";
	readonly code = "STREAM_STOPPED";
	constructor(why: "closed" | "replaced", cause?: unknown) {
		super(EXPLAINED[why], { cause });
	}
}

const EXPLAINED = {
	closed: "the channel that pays for this stream was closed; what was read of it is paid for",
	replaced:
		"a newer stream on the same channel has taken this one's place; a channel has one at a time, so give each stream a PaymentClient of its own",
};

/** The answer to `stream` is no event stream. */
export class StreamRefusedError extends Error {
	override readonly name = "StreamRefusedError";
	readonly code = "STREAM_REFUSED";
	/** The answer, its body not read. */
	readonly response: Response;
	constructor(response: Response) {
		const type = response.headers.get("content-type") ?? "no content type";
		super(`the server answered ${response.status} with ${type}, and no event stream`);
		this.response = response;
	}
}

/** A stream has broken off and can't be gone on with. */
export class StreamBrokenError extends Error {
	override readonly name = "StreamBrokenError";
	readonly code = "STREAM_BROKEN";
	constructor(detail: string, cause: unknown) {
		super(`the stream has broken off, ${detail}`, { cause });
	}
}
