import { once } from "node:events";
import type { Writable } from "node:stream";

/** How results are written: for people or for programs. */
export type Format = "json" | "table";

/** JSON where nobody reads it on a terminal, unless something else is asked for. */
export function formatOf({ json, table }: Readonly<{ json?: boolean; table?: boolean }>, isTerminal: boolean): Format {
	if (json) return "json";
	return table || isTerminal ? "table" : "json";
}

/**
 * Where results go. It waits for a slow reader, so that a long list is never held in memory, and goes quiet when the reader has
 * gone, as `head` does when it has seen enough.
 */
export class Output {
	readonly #stream: Writable;
	#gone = false;

	constructor(stream: Writable = process.stdout) {
		this.#stream = stream;
		stream.on("error", () => {
			this.#gone = true;
		});
	}

	/** Nobody reads any more. What is being done is done all the same; what is only shown can end. */
	get gone(): boolean {
		return this.#gone;
	}

	async write(content: string | Uint8Array): Promise<void> {
		if (this.#gone || this.#stream.write(content)) return;
		await once(this.#stream, "drain").catch(() => undefined);
	}

	async line(text: string): Promise<void> {
		await this.write(`${text}\n`);
	}

	/**
	 * One JSON object whose member `name` is a list that is never held in memory: one line for each item.
	 *
	 * @param rest the other members, made when the list has been written
	 */
	async jsonList(name: string, items: AsyncIterable<object>, rest: () => object): Promise<void> {
		await this.write(`{${JSON.stringify(name)}:[`);
		let separator = "\n";
		for await (const item of items) {
			await this.write(`${separator}${JSON.stringify(item)}`);
			separator = ",\n";
			if (this.gone) return;
		}
		const members = JSON.stringify(rest()).slice(1, -1);
		await this.line(`\n]${members === "" ? "" : `,${members}`}}`);
	}
}
