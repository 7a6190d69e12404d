import { existsSync, readFileSync } from "node:fs";
import type { IndexRow } from "./requirements.ts";

/** The committed index of all that the drafts require, as `extract.mjs` makes it. */
export type Index = Readonly<{
	repository: string;
	commit: string;
	drafts: readonly Readonly<{ name: string; file: string; sha256: string }>[];
	rows: readonly IndexRow[];
}>;

/**
 * What a person wrote about one requirement, in `test/conformance/rows/<draft>.json` by its id. It has tests, or a reason why
 * it has none, or what is still to do.
 */
export type Row = Readonly<{
	/** The hash in the index of the sentence that this was written for. */
	hash: string;
	/** The requirement, in a few words of our own. */
	requirement: string;
	/** By test file: titles as they stand in the source, `describe > test` for vitest, `Contract.function` for forge. */
	tests?: Readonly<Record<string, readonly string[]>>;
	/** Why it is no duty of ours, or that and why it is not kept. */
	excluded?: string;
	/** What is still to be tested, as `topic: suggested title`. Nothing may be to do in a release. */
	todo?: readonly string[];
	/** What has to be known beside the tests: a deviation in part. */
	note?: string;
}>;

/** Where Sluice does otherwise than a draft's letter says, or has to choose where drafts conflict or are silent. */
export type Deviation = Readonly<{
	title: string;
	/** Ids of the rows that are concerned. */
	rows: readonly string[];
	/** What the draft asks for. */
	draft: string;
	/** What Sluice does. */
	sluice: string;
	why: string;
}>;

export type Conformance = Readonly<{
	index: Index;
	rows: Readonly<Record<string, Row>>;
	deviations: readonly Deviation[];
}>;

const HOME = new URL("../../test/conformance/", import.meta.url);

/** Reads the index, the rows of each draft in it, and the deviations. */
export function readConformance(home: URL = HOME): Conformance {
	const read = (name: string): unknown => JSON.parse(readFileSync(new URL(name, home), "utf8"));
	const index = read("index.json") as Index;
	const rows: Record<string, Row> = {};
	for (const { name } of index.drafts) Object.assign(rows, read(`rows/${name}.json`));
	return { index, rows, deviations: read("deviations.json") as Deviation[] };
}

const MEMBERS = new Set(["hash", "requirement", "tests", "excluded", "todo", "note"]);

/**
 * What is wrong with the rows, each as a sentence that names the row: none for an id or no id for a row, one that was written
 * for another sentence, is without tests or reason, or names a file that does not exist.
 */
export function checkRows(
	{ index, rows, deviations }: Conformance,
	exists: (file: string) => boolean = isFile,
): string[] {
	const ids = new Set(index.rows.map(({ id }) => id));
	return [
		...index.rows.flatMap((one) => {
			const row = rows[one.id];
			return row === undefined ? [`${one.id} has no row`] : checkRow(one, row, exists);
		}),
		...Object.keys(rows)
			.filter((id) => !ids.has(id))
			.map((id) => `${id} has a row, and is not in the index`),
		...deviations.flatMap(({ title, rows: concerned }) =>
			concerned
				.filter((id) => !ids.has(id))
				.map((id) => `deviation "${title}" concerns ${id}, which is not in the index`),
		),
	];
}

function checkRow({ id, hash }: IndexRow, row: Row, exists: (file: string) => boolean): string[] {
	const problems: string[] = [];
	const { tests, excluded, todo } = row;
	const titles = Object.values(tests ?? {}).flat();
	for (const member of Object.keys(row)) {
		if (!MEMBERS.has(member)) problems.push(`${id} has an unknown member "${member}"`);
	}
	if (row.hash !== hash) {
		problems.push(`${id} was written for another sentence: read it (extract.mjs --show), then set its hash to ${hash}`);
	}
	if (row.requirement.trim() === "") problems.push(`${id} does not say its requirement`);
	if (titles.length === 0 && excluded === undefined && todo === undefined) {
		problems.push(`${id} has neither tests nor a reason to be excluded`);
	}
	if (excluded !== undefined && (titles.length > 0 || todo !== undefined)) {
		problems.push(`${id} is excluded and has tests, or something to do`);
	}
	if (excluded?.trim() === "") problems.push(`${id} is excluded without a reason`);
	for (const [file, named] of Object.entries(tests ?? {})) {
		if (!exists(file)) problems.push(`${id} names ${file}, which does not exist`);
		if (named.length === 0) problems.push(`${id} names no test of ${file}`);
	}
	return problems;
}

function isFile(file: string): boolean {
	return existsSync(new URL(`../../${file}`, import.meta.url));
}
