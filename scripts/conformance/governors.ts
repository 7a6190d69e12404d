import { keywordsOf } from "./keywords.ts";
import { type Block, type Item, splitSentences } from "./kramdown.ts";

/** A keyword that holds for what stands below its sentence. */
export type Governor = Readonly<{ keyword: string; sentence: string }>;

/** By the blocks' places: which stand under a governor, and which hand their last keyword on to what is below. */
export type Governors = Readonly<{ over: ReadonlyMap<number, Governor>; handsOn: ReadonlySet<number> }>;

/**
 * Finds lists and tables under a keyword: their sentence ends in a colon, or announces "the following table". An item that
 * ends in a colon before a nested list hands on what it stands under.
 */
export function findGovernors(blocks: readonly Block[]): Governors {
	const over = new Map<number, Governor>();
	const handsOn = new Set<number>();
	// What governs the list that is being read, and the number of its last item.
	let list: (Governor & { indent: number; last: number | undefined }) | undefined;
	for (const [at, block] of blocks.entries()) {
		if (list !== undefined) {
			if (block.kind === "item" && block.indent === list.indent) {
				list.last = block.number;
				over.set(at, list);
				passOn(blocks, at, block, list, over, handsOn);
				continue;
			}
			if (block.kind === "item" && block.indent > list.indent) continue;
			if (block.kind === "code" || continuesList(block, blocks[at + 1], list.last)) continue;
			list = undefined;
		}
		if (over.has(at)) continue;
		const governor = announced(blocks, at);
		if (governor === undefined) continue;
		if (block.kind === "item") passOn(blocks, at, block, governor, over, handsOn);
		else if (blocks[at + 1]?.kind === "table") over.set(at + 1, governor);
		else {
			const first = blocks.slice(at + 1).find(({ kind }) => kind === "item");
			list = { ...governor, indent: first?.kind === "item" ? first.indent : 0, last: undefined };
		}
		handsOn.add(at);
	}
	return { over, handsOn };
}

/** What a block announces for the list or table right below it, if its last sentence does. */
function announced(blocks: readonly Block[], at: number): Governor | undefined {
	const [block, next, afterNext] = blocks.slice(at, at + 3);
	if (block?.kind !== "paragraph" && block?.kind !== "item") return undefined;
	const sentence = splitSentences(block.text).at(-1) ?? "";
	const keyword = keywordsOf(sentence).at(-1);
	if (keyword === undefined) return undefined;
	if (next?.kind === "table" && block.kind === "paragraph") {
		return endsInColon(sentence) || /\bfollowing table\b/.test(sentence) ? { keyword, sentence } : undefined;
	}
	if (!endsInColon(sentence)) return undefined;
	const below = next?.kind === "item" && (block.kind === "paragraph" || next.indent > block.indent);
	const belowHeading = next?.kind === "paragraph" && isSubHeading(next.text) && afterNext?.kind === "item";
	return below || belowHeading ? { keyword, sentence } : undefined;
}

/** Hands a governor on from an item that ends in a colon to the items nested in it. */
function passOn(
	blocks: readonly Block[],
	at: number,
	item: Item,
	governor: Governor,
	over: Map<number, Governor>,
	handsOn: Set<number>,
): void {
	const first = blocks[at + 1];
	if (first?.kind !== "item" || first.indent <= item.indent || !endsInColon(item.text)) return;
	handsOn.add(at);
	const sentence = governor.sentence === item.text ? item.text : `${governor.sentence} ${item.text}`;
	for (let below = at + 1; ; below++) {
		const nested = blocks[below];
		if (nested?.kind !== "item" || nested.indent <= item.indent) break;
		if (nested.indent === first.indent) over.set(below, { keyword: governor.keyword, sentence });
	}
}

function endsInColon(text: string): boolean {
	return /:[*_]*\s*$/.test(text);
}

/** A line in bold that ends in a colon. */
function isSubHeading(text: string): boolean {
	return /^\*\*.*:\*\*(\s*\(.*\):?)?\s*$/.test(text);
}

/** A line between two parts of a list: in bold, or with the numbers going on after it. */
function continuesList(block: Block, next: Block | undefined, last: number | undefined): boolean {
	if (block.kind !== "paragraph" || next?.kind !== "item") return false;
	if (!endsInColon(block.text) || keywordsOf(block.text).length > 0) return false;
	return isSubHeading(block.text) || (last !== undefined && next.number === last + 1);
}
