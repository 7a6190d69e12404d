// Reads as much kramdown as the drafts use: headings, paragraphs, lists, tables. The front matter carries no
// requirements and is left out; of code only the place is kept.

export type Heading = { kind: "heading"; depth: number; title: string; anchor: string; appendix: boolean };
export type Paragraph = { kind: "paragraph"; text: string };
/** `number` is the one that a numbered item bears. */
export type Item = { kind: "item"; indent: number; number: number | undefined; text: string };
export type Table = { kind: "table"; header: string[]; rows: string[][] };
export type Code = { kind: "code" };
export type Block = Heading | Paragraph | Item | Table | Code;

const FENCE = /^\s*(~~~+|```+)/;
const HEADING = /^(#+)\s+(.*?)\s*(?:\{#([^}]+)\})?\s*$/;
const ITEM = /^(\s*)(?:[-*+]|(\d+)\.)\s+(.*)$/;
const TABLE_ROW = /^\s*\|.*\|\s*$/;
const TABLE_RULE = /^\s*\|[\s|:-]+\|\s*$/;

/**
 * The blocks of a draft's body, in order. An item's text takes in its continuation lines and paragraphs, not the items
 * nested in it: those follow it with a greater indent.
 */
export function readBlocks(draft: string): Block[] {
	const blocks: Block[] = [];
	// Where a line without a mark of its own belongs.
	let open: Paragraph | Item | undefined;
	let fence: string | undefined;
	let afterBlank = true;
	let appendix = false;
	for (const raw of bodyOf(draft)) {
		const line = raw.replace(/^>\s?/, "");
		const mark = line.match(FENCE)?.[1];
		if (fence !== undefined) {
			if (mark === fence) fence = undefined;
		} else if (mark !== undefined) {
			fence = mark;
			blocks.push({ kind: "code" });
			// Code inside an item does not end it: what is indented below still belongs to the item.
			if (open?.kind === "paragraph") open = undefined;
			afterBlank = true;
		} else if (line.trim() === "") {
			afterBlank = true;
			if (open?.kind === "paragraph") open = undefined;
		} else if (/^--- back\s*$/.test(line)) {
			appendix = true;
			open = undefined;
		} else {
			open = addLine(blocks, line, open, afterBlank, appendix);
			afterBlank = false;
		}
	}
	return blocks;
}

/** Adds a line that is neither blank nor code, and tells where the next one belongs. */
function addLine(
	blocks: Block[],
	line: string,
	open: Paragraph | Item | undefined,
	afterBlank: boolean,
	appendix: boolean,
): Paragraph | Item | undefined {
	const heading = line.match(HEADING);
	if (heading !== null) {
		const [, marks = "", title = "", anchor] = heading;
		blocks.push({ kind: "heading", depth: marks.length, title, anchor: anchor ?? slug(title), appendix });
		return undefined;
	}
	if (TABLE_ROW.test(line)) {
		addTableLine(blocks, line);
		return undefined;
	}
	const item = line.match(ITEM);
	if (item !== null) {
		const [, indent = "", digits, text = ""] = item;
		const number = digits === undefined ? undefined : Number(digits);
		const block: Item = { kind: "item", indent: indent.length, number, text };
		blocks.push(block);
		return block;
	}
	if (open !== undefined && (open.kind === "paragraph" || !afterBlank || /^\s/.test(line))) {
		open.text += ` ${line.trim()}`;
		return open;
	}
	const paragraph: Paragraph = { kind: "paragraph", text: line.trim() };
	blocks.push(paragraph);
	return paragraph;
}

/** The lines after `--- middle`; all of them where a text has no front matter. */
function bodyOf(draft: string): string[] {
	const lines = draft.split(/\r?\n/);
	return lines.slice(lines.findIndex((line) => /^--- middle\s*$/.test(line)) + 1);
}

function addTableLine(blocks: Block[], line: string): void {
	const last = blocks.at(-1);
	if (TABLE_RULE.test(line)) return;
	if (last?.kind === "table") last.rows.push(cellsOf(line));
	else blocks.push({ kind: "table", header: cellsOf(line), rows: [] });
}

/** A bar inside backticks is no border. */
function cellsOf(line: string): string[] {
	const cells: string[] = [];
	let cell = "";
	let code = false;
	for (const character of line.trim().slice(1)) {
		if (character === "`") code = !code;
		if (character === "|" && !code) {
			cells.push(cell.trim());
			cell = "";
		} else cell += character;
	}
	return cells;
}

/** The anchor that kramdown gives a heading without one of its own. */
export function slug(title: string): string {
	return title
		.toLowerCase()
		.replace(/[^a-z0-9]+/g, "-")
		.replace(/^-|-$/g, "");
}

/** Where a full stop ends nothing. */
const ABBREVIATION = /(?:\b(?:e\.g|i\.e|etc|vs|cf|Sec|No)|\b[A-Z])\.$/;

/** A stop ends a sentence outside backticks only, and before a space and what can begin another one. */
export function splitSentences(text: string): string[] {
	const flat = text.replace(/\s+/g, " ").trim();
	const sentences: string[] = [];
	let start = 0;
	let code = false;
	for (let at = 0; at < flat.length; at++) {
		const character = flat[at] ?? "";
		if (character === "`") code = !code;
		if (code || !/[.!?]/.test(character)) continue;
		const end = at + 1 + (flat.slice(at + 1).match(/^[)"'*_]*/)?.[0].length ?? 0);
		if (!/^\s+["'(*_{]*[A-Z0-9`]/.test(flat.slice(end)) || ABBREVIATION.test(flat.slice(start, at + 1))) continue;
		sentences.push(flat.slice(start, end).trim());
		start = end;
	}
	if (start < flat.length) sentences.push(flat.slice(start).trim());
	return sentences;
}
