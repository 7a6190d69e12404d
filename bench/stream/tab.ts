/** One stream at its reader, who pays for it. */
import { connect } from "node:net";
import type { Hex } from "viem";
import { receiptFromJson, type SessionReceipt } from "../../src/protocol/index.ts";
import type { Delivered } from "./messages.ts";

/** A voucher's request, and after how many events it is sent. */
export type Due = Readonly<{ afterEvents: number; request: string }>;

export type Tab = Readonly<{
	port: number;
	channelId: Hex;
	/** Asks for the stream, with `Connection: close`. */
	request: string;
	vouchers: readonly Due[];
	/** Sends one beside the stream. */
	pay: (request: string) => void;
	/** In base units, by the end. */
	signed: bigint;
	isPaid: boolean;
}>;

const LF = 10;

/** What is looked at of a stream that has ended: its last event and its receipt are within. */
const LAST_CHUNKS = 8;

/**
 * Reads a stream to its end, and sends its vouchers as it goes. Events are counted by their empty lines, and all but the last
 * are not looked at: what is measured is the server.
 *
 * @throws where the answer is not 200, or ends without its receipt, or has fewer events than the number of the last one says
 */
export function readStream({ port, channelId, request, vouchers, pay, signed, isPaid }: Tab): Promise<Delivered> {
	const { promise, resolve, reject } = Promise.withResolvers<Delivered>();
	const socket = connect({ host: "127.0.0.1", port, noDelay: true });
	const last: Buffer[] = [];
	// Also of events that ask for a voucher: who pays a little early.
	let events = 0;
	let due = 0;
	let isAfterLf = false;
	socket.on("data", (bytes) => {
		let at = isAfterLf && bytes[0] === LF ? 0 : -1;
		if (at === 0) events++;
		for (at = bytes.indexOf("\n\n", at + 1); at >= 0; at = bytes.indexOf("\n\n", at + 2)) events++;
		isAfterLf = bytes[bytes.length - 1] === LF;
		for (let next = vouchers[due]; next !== undefined && events >= next.afterEvents; next = vouchers[++due])
			pay(next.request);
		last.push(bytes);
		if (last.length > LAST_CHUNKS) last.shift();
	});
	socket.on("connect", () => socket.write(request, "latin1"));
	socket.on("error", reject);
	socket.on("end", () => {
		const text = Buffer.concat(last).toString("latin1");
		const number = Number([...text.matchAll(/data: token (\d+)\n\n/g)].at(-1)?.[1]);
		const receipt = isPaid ? receiptIn(text) : undefined;
		if (!(number <= events) || (isPaid && receipt === undefined)) reject(new Error(`a stream has ended: ${text}`));
		resolve({ channelId, events: number, signed, units: receipt?.units ?? 0, spent: receipt?.spent ?? 0n });
	});
	return promise;
}

function receiptIn(text: string): SessionReceipt | undefined {
	const json = text.match(/event: payment-receipt\ndata: (.*)\n\n/)?.[1];
	const receipt = json === undefined ? undefined : receiptFromJson(JSON.parse(json));
	return receipt?.intent === "session" ? receipt : undefined;
}
