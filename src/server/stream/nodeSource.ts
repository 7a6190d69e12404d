import { Readable } from "node:stream";
import { fromReader, type PieceSource } from "./source.ts";

/** What went into a stream's buffer, and what was charged by then. */
type Made = { left: number; readonly paid: Promise<bigint> | bigint };

/**
 * A Node stream, chunk by chunk as it gives them. It reads ahead what it always does, its `highWaterMark`: a chunk costs what
 * was charged when it was made, not when it is read.
 *
 * @param paidSoFar asked with each chunk that is made
 */
export function fromNode(stream: Readable, paidSoFar?: () => Promise<bigint> | bigint): PieceSource {
	const source = fromReader(toWeb(stream, { strategy: { highWaterMark: 0 } }));
	if (paidSoFar === undefined) return source;
	const made: Made[] = stream.readableLength > 0 ? [{ left: stream.readableLength, paid: paidSoFar() }] : [];
	const sizeOf = (chunk: unknown, encoding?: BufferEncoding) => {
		if (stream.readableObjectMode) return 1;
		if (typeof chunk === "string") return Buffer.byteLength(chunk, encoding);
		return chunk instanceof Uint8Array ? chunk.byteLength : 0;
	};
	const push = stream.push.bind(stream);
	stream.push = (chunk: unknown, encoding?: BufferEncoding) => {
		const size = chunk === null || chunk === undefined ? 0 : sizeOf(chunk, encoding);
		if (size > 0) made.push({ left: size, paid: paidSoFar() });
		return push(chunk, encoding);
	};
	let paid: Promise<bigint> | bigint | undefined;
	return {
		...source,
		async next() {
			const result = await source.next();
			paid = undefined;
			let size = result.done ? 0 : sizeOf(result.value);
			for (let first = made[0]; size > 0 && first !== undefined; first = made[0]) {
				const taken = Math.min(size, first.left);
				paid = first.paid;
				size -= taken;
				first.left -= taken;
				if (first.left === 0) made.shift();
			}
			return result;
		},
		paid: () => paid,
	};
}

/** Node has this parameter since 18.7; its types don't. */
const toWeb = Readable.toWeb as unknown as (
	stream: Readable,
	options: Readonly<{ strategy: QueuingStrategy }>,
) => ReadableStream<unknown>;
