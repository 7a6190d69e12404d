// Finds what a draft requires. The rules, so that two people count the same rows:
//
// - One row for each keyword (keywords.ts) in each sentence, also in lists, table cells, notes and appendices. Code is left
//   out. MAY, OPTIONAL and RECOMMENDED ask for nothing.
// - A keyword that governs a list or a table (governors.ts) counts once for each item or row, and not for its sentence. An
//   item whose first sentence has a keyword of its own counts by that one.
// - The cells that say only REQUIRED in a table of fields make one row together, for the whole table.
import { createHash } from "node:crypto";
import { findGovernors, type Governor } from "./governors.ts";
import { keywordsOf } from "./keywords.ts";
import { type Block, readBlocks, splitSentences, type Table } from "./kramdown.ts";

/** One requirement in the index: where it stands, and a hash of its sentence, which itself stays in the draft. */
export type IndexRow = Readonly<{
	/** `draft/section's anchor/ordinal`, for example `session/voucher-verification/3`. */
	id: string;
	draft: string;
	/** Number and title, for example `12.5 Voucher Verification`. */
	section: string;
	/** Counts the requirements of its section, from 1. */
	ordinal: number;
	keyword: string;
	/** See `hashSentence`. */
	hash: string;
}>;

type Found = Readonly<{ keyword: string; sentence: string }>;

/** Every requirement of a draft, in its order, with the sentence that makes it. `draft` is the draft's short name. */
export function findRequirements(draft: string, text: string): (IndexRow & { sentence: string })[] {
	const rows: (IndexRow & { sentence: string })[] = [];
	const blocks = readBlocks(text);
	const { over, handsOn } = findGovernors(blocks);
	const nextSection = sections();
	let section = "";
	let anchor = "";
	let ordinal = 0;
	for (const [at, block] of blocks.entries()) {
		if (block.kind === "heading") {
			({ section, anchor } = nextSection(block));
			ordinal = 0;
		} else {
			for (const { keyword, sentence } of requirementsOf(block, over.get(at), handsOn.has(at))) {
				ordinal++;
				const id = `${draft}/${anchor}/${ordinal}`;
				rows.push({ id, draft, section, ordinal, keyword, hash: hashSentence(sentence), sentence });
			}
		}
	}
	return rows;
}

/** The first 16 hex digits of the SHA-256 of the sentence, its white space made single spaces. */
export function hashSentence(sentence: string): string {
	return createHash("sha256").update(sentence.replace(/\s+/g, " ").trim()).digest("hex").slice(0, 16);
}

/** Numbers headings as the rendered draft does: 1, 1.1, …, then A, A.1, … after the body; and makes anchors unique. */
function sections() {
	const seen = new Map<string, number>();
	let counts: number[] = [];
	let back = false;
	return ({ depth, title, anchor, appendix }: Extract<Block, { kind: "heading" }>) => {
		if (appendix && !back) counts = [];
		back = appendix;
		counts = Array.from({ length: depth }, (_, level) => counts[level] ?? 0);
		counts[depth - 1] = (counts[depth - 1] ?? 0) + 1;
		const [chapter = 0, ...rest] = counts;
		const number = [back ? String.fromCharCode(64 + chapter) : String(chapter), ...rest].join(".");
		const times = (seen.get(anchor) ?? 0) + 1;
		seen.set(anchor, times);
		return {
			section: `${number} ${title.replace(/[`*]/g, "")}`,
			anchor: times === 1 ? anchor : `${anchor}-${times}`,
		};
	};
}

/** `handsOn`: the keyword of the last sentence counts below and not here. */
function requirementsOf(block: Block, governor: Governor | undefined, handsOn: boolean): Found[] {
	if (block.kind === "table") return [...tableRequirements(block, governor)];
	if (block.kind !== "paragraph" && block.kind !== "item") return [];
	const sentences = splitSentences(block.text);
	const found: Found[] = [];
	if (governor !== undefined && !handsOn && keywordsOf(sentences[0] ?? "").length === 0) {
		found.push({ keyword: governor.keyword, sentence: `${governor.sentence} ${block.text}` });
	}
	for (const [at, sentence] of sentences.entries()) {
		const keywords = keywordsOf(sentence);
		const own = handsOn && at === sentences.length - 1 ? keywords.slice(0, -1) : keywords;
		found.push(...own.map((keyword) => ({ keyword, sentence })));
	}
	return found;
}

function* tableRequirements({ header, rows }: Table, governor: Governor | undefined): Generator<Found> {
	const isMark = (cell: string) => cell === "REQUIRED";
	const required = rows.filter((cells) => cells.some(isMark));
	if (required.length > 0) {
		yield { keyword: "REQUIRED", sentence: [header, ...required].map((cells) => cells.join(" | ")).join(" ") };
	}
	for (const cells of rows) {
		if (governor !== undefined) {
			yield { keyword: governor.keyword, sentence: `${governor.sentence} ${cells.join(" | ")}` };
		}
		for (const cell of cells.filter((cell) => !isMark(cell))) {
			for (const sentence of splitSentences(cell)) {
				for (const keyword of keywordsOf(sentence)) yield { keyword, sentence: `${cells[0]} | ${sentence}` };
			}
		}
	}
}
