import { EventCutter } from "./eventCutter.ts";
import { pieceContent } from "./events.ts";
import type { MeterControl } from "./meter.ts";
import { paidSoFar } from "./paidSoFar.ts";
import type { PieceSource } from "./source.ts";
import type { Tariff } from "./tariff.ts";

/** Paid for, and ready to leave. Text is a whole event. */
type Block = Readonly<{
	content: string | Uint8Array;
	/** What was charged when its piece was made, in base units. */
	mark: bigint;
}>;

export type MakingParts = Readonly<{
	/** The handler's answer, piece by piece. */
	source: PieceSource;
	metered: MeterControl;
	/** What a piece costs besides what the handler charges itself. */
	tariff: Tariff;
	/** Events are cut from each other. */
	isEventStream: boolean;
	/** Monotonic milliseconds. */
	clock: () => number;
	/** There is something new: a block, the end, or a failure. */
	onNews: () => void;
}>;

/** Has the pieces of a metered answer made, one after the other, as long as somebody wants them. */
export class Making {
	/** In the order they leave in. */
	readonly #blocks: Block[] = [];
	readonly #parts: MakingParts;
	readonly #cutter: EventCutter | undefined;
	/** Of `blocks`: characters of text, and bytes. */
	#size = 0;
	/** Pieces are made until blocks have this size. */
	#wanted = 0;
	#isAtWork = false;
	#isDry = false;
	#failure: Readonly<{ error: unknown }> | undefined;

	constructor(parts: MakingParts) {
		this.#parts = parts;
		this.#cutter = parts.isEventStream ? new EventCutter() : undefined;
	}

	/** Whether another block may come without being asked for. */
	get isAtWork(): boolean {
		return this.#isAtWork && this.#size < this.#wanted;
	}

	/** Something can be taken. */
	get hasBlocks(): boolean {
		return this.#blocks.length > 0;
	}

	/** Everything was made, and taken. */
	get isDry(): boolean {
		return this.#isDry && this.#blocks.length === 0;
	}

	/** What making has failed with, when everything that was made before has been taken. */
	get failure(): Readonly<{ error: unknown }> | undefined {
		return this.#blocks.length === 0 ? this.#failure : undefined;
	}

	/** Makes pieces until blocks of this size are there, or the last one. */
	want(size: number): void {
		this.#wanted = size;
		if (!this.#isAtWork && !this.#isDry && this.#failure === undefined && this.#size < size) void this.#work();
	}

	/**
	 * Takes the first block, or all of them at once. Pieces are made no more until they are wanted again.
	 *
	 * @returns their bytes, and what was charged when the last piece of them was made
	 */
	take(all: boolean): Readonly<{ bytes: Uint8Array; mark: bigint }> | undefined {
		this.#wanted = 0;
		const taken = this.#blocks.splice(0, all ? this.#blocks.length : 1);
		const last = taken.at(-1);
		if (last === undefined) return undefined;
		for (const { content } of taken) this.#size -= content.length;
		return { bytes: joined(taken), mark: last.mark };
	}

	async #work(): Promise<void> {
		const { source, metered, clock, tariff, onNews } = this.#parts;
		const { per } = metered.settings;
		const isTimed = per === "second";
		this.#isAtWork = true;
		try {
			while (this.#size < this.#wanted && !this.#isDry) {
				const startedAt = isTimed ? clock() : 0;
				const { done, value } = await source.next();
				const content = done === true ? undefined : pieceContent(value);
				// Also what the handler has charged and not waited for.
				const paid = source.paid?.() ?? paidSoFar(metered);
				if (per !== undefined) await tariff(sizeOf(content), isTimed ? clock() - startedAt : 0);
				const before = typeof paid === "bigint" ? paid : await paid;
				this.#add(content, per === undefined ? before : metered.mark());
				this.#isDry = done === true;
				onNews();
			}
			this.#isAtWork = false;
		} catch (error) {
			this.#isAtWork = false;
			this.#failure = { error };
			onNews();
		}
	}

	#add(content: Content, mark: bigint): void {
		const cutter = this.#cutter;
		if (cutter === undefined) {
			if (content !== undefined) this.#push("event" in content ? Buffer.from(content.event) : content.bytes, mark);
		} else if (content === undefined) {
			this.#push(cutter.rest(), mark);
		} else if ("event" in content && cutter.isBetween) {
			cutter.passed();
			this.#push(content.event, mark);
		} else {
			const bytes = "event" in content ? Buffer.from(content.event) : content.bytes;
			for (const block of cutter.push(bytes)) this.#push(block, mark);
		}
	}

	#push(content: string | Uint8Array, mark: bigint): void {
		if (content.length === 0) return;
		this.#size += content.length;
		this.#blocks.push({ content, mark });
	}
}

/** Of most event streams all is text: many events are encoded as one, which costs as little as a single one. */
function joined(blocks: readonly Block[]): Uint8Array {
	if (blocks.length > 1 && blocks.every(({ content }) => typeof content === "string")) {
		let text = "";
		for (const { content } of blocks) text += content;
		return Buffer.from(text);
	}
	const all = blocks.map(({ content }) => (typeof content === "string" ? Buffer.from(content) : content));
	return all.length === 1 && all[0] !== undefined ? all[0] : Buffer.concat(all);
}

type Content = ReturnType<typeof pieceContent> | undefined;

function sizeOf(content: Content): number {
	if (content === undefined) return 0;
	return "bytes" in content ? content.bytes.length : Buffer.byteLength(content.event);
}
